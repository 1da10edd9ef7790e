# SPDX-License-Identifier: Apache-2.0
"""What a build needs of the host, checked before anything slow starts."""

from __future__ import annotations

import shutil
from collections.abc import Collection
from pathlib import Path

from kubewright.image.commands import output_of
from kubewright.image.errors import ImageError

# program -> Debian package
_PACKING = {"mksquashfs": "squashfs-tools", "unsquashfs": "squashfs-tools", "zstd": "zstd"}
_DEBIAN = {"apt-get": "apt", "apt-cache": "apt", "dpkg-deb": "dpkg", "dpkg-query": "dpkg"}
_REGISTRY = {"skopeo": "skopeo"}
# Go's build cache, the modules and the parts of one release, measured: 11 GB.
_SPACE = 12 * 10**9


def check(
    cache: Path, *, compiling: bool, linking_c: bool, debian: bool, registry: bool = False
) -> None:
    """Raise ImageError that names every missing Debian package at once."""
    programs = dict(_PACKING)
    if debian:
        programs |= _DEBIAN
    if registry:
        programs |= _REGISTRY
    if linking_c:
        programs["gcc"] = "gcc"
    missing = {package for name, package in programs.items() if shutil.which(name) is None}
    if linking_c and "gcc" not in missing:
        missing |= _missing_libraries()
    _refuse(missing, "what building a system image needs")
    free = shutil.disk_usage(_existing(cache)).free
    if compiling and free < _SPACE:
        raise ImageError(
            f"Compiling Kubernetes needs {_SPACE / 1e9:.0f} GB below {cache},"
            f" {free / 1e9:.1f} are free.",
            "Free some space, or set KUBEWRIGHT_CACHE_DIR to another directory.",
        )


def check_copying(*, registry: bool) -> None:
    """The same for pinning and mirroring; ``registry``: whether images go from or to one."""
    missing = {package for name, package in _REGISTRY.items() if shutil.which(name) is None}
    _refuse(missing if registry else set(), "what talks to a registry")


def _refuse(missing: Collection[str], why: str) -> None:
    if missing:
        raise ImageError(
            f"This machine lacks {why}: {_list(missing)}.",
            f"Install it: apt-get install --no-install-recommends {' '.join(sorted(missing))}",
        )


def _missing_libraries() -> set[str]:
    """Packages of the static libraries and headers that gcc can't find."""
    wanted = {"libc.a": "libc6-dev", "libseccomp.a": "libseccomp-dev"}
    missing = set()
    for library, package in wanted.items():
        # gcc prints the name unchanged when it finds no such file.
        found = output_of(["gcc", f"-print-file-name={library}"])
        if found is None or not Path(found.strip()).is_absolute():
            missing.add(package)
    return missing


def _existing(path: Path) -> Path:
    return next(parent for parent in (path, *path.parents) if parent.exists())


def _list(names: Collection[str]) -> str:
    return ", ".join(sorted(names))
