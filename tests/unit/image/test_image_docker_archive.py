# SPDX-License-Identifier: Apache-2.0
"""docker-archives: the format, read back, and the same bytes every time."""

from __future__ import annotations

import hashlib
import io
import json
import os
import shutil
import struct
import subprocess
import tarfile
from pathlib import Path

import pytest

from kubewright.image.commands import Commands
from kubewright.image.docker_archive import (
    Config,
    Entry,
    capability,
    compress,
    write,
    write_layer,
)

NAME = "registry.k8s.io/thing:v1"


@pytest.fixture
def program(tmp_path: Path) -> Path:
    path = tmp_path / "program"
    path.write_bytes(b"\x7fELF" + bytes(range(256)) * 10)
    return path


def make(directory: Path, program: Path, name: str = "image.tar") -> Path:
    base = write_layer(
        directory / "base.tar", [Entry("tmp", 0o1777), Entry("bin", target="usr/bin")]
    )
    own = write_layer(
        directory / "own.tar",
        [Entry("usr/bin/thing", source=program, capabilities=("net_bind_service",))],
    )
    config = Config("amd64", ["/usr/bin/thing"], "65532:65532")
    write(directory / name, NAME, [base, own], config)
    return directory / name


def test_same_contents_same_bytes(tmp_path: Path, program: Path) -> None:
    first = make(tmp_path, program).read_bytes()
    os.utime(program, (1, 1))
    program.chmod(0o600)
    old = os.umask(0o077)
    try:
        assert make(tmp_path, program, "again.tar").read_bytes() == first
    finally:
        os.umask(old)


def test_read_back(tmp_path: Path, program: Path) -> None:
    with tarfile.open(make(tmp_path, program)) as archive:
        files = {item.name: archive.extractfile(item).read() for item in archive}  # type: ignore[union-attr]
    (manifest,) = json.loads(files["manifest.json"])
    assert manifest["RepoTags"] == [NAME]
    config_data = files[manifest["Config"]]
    assert manifest["Config"] == f"{hashlib.sha256(config_data).hexdigest()}.json"
    config = json.loads(config_data)
    assert config["os"] == "linux"
    assert config["config"]["Entrypoint"] == ["/usr/bin/thing"]
    assert config["config"]["User"] == "65532:65532"
    diff_ids = [f"sha256:{hashlib.sha256(files[name]).hexdigest()}" for name in manifest["Layers"]]
    assert config["rootfs"] == {"type": "layers", "diff_ids": diff_ids}
    with tarfile.open(fileobj=io.BytesIO(files[manifest["Layers"][1]])) as layer:
        members = {item.name: item for item in layer}
        assert list(members) == ["usr", "usr/bin", "usr/bin/thing"]
        thing = members["usr/bin/thing"]
        assert layer.extractfile(thing).read() == program.read_bytes()  # type: ignore[union-attr]
    assert (thing.mode, thing.uid, thing.gid, thing.mtime) == (0o755, 0, 0, 0)
    assert "SCHILY.xattr.security.capability" in thing.pax_headers


@pytest.mark.skipif(shutil.which("zstd") is None, reason="zstd is not installed")
def test_compressed_layer_is_the_same_layer(tmp_path: Path, program: Path) -> None:
    plain = write_layer(tmp_path / "own.tar", [Entry("usr/bin/thing", source=program)])
    tar = plain.path.read_bytes()
    packed = compress(plain, log=tmp_path / "log", commands=Commands())
    assert not plain.path.exists()
    assert packed.digest == hashlib.sha256(tar).hexdigest()
    unpacked = subprocess.run(["zstd", "-dc", packed.path], capture_output=True, check=True)
    assert unpacked.stdout == tar
    write(tmp_path / "image.tar", NAME, [packed], Config("amd64"))
    with tarfile.open(tmp_path / "image.tar") as archive:
        assert archive.getnames()[0] == f"{packed.digest}.tar.zst"


def test_base_layer_keeps_modes_and_links(tmp_path: Path, program: Path) -> None:
    make(tmp_path, program)
    with tarfile.open(tmp_path / "base.tar") as layer:
        assert layer.getmember("tmp").mode == 0o1777
        assert layer.getmember("bin").linkname == "usr/bin"


def test_config_without_entrypoint_has_a_path_for_the_pods_command() -> None:
    run = Config("amd64").document([])["config"]
    assert "Entrypoint" not in run
    assert "User" not in run
    assert any("/usr/local/bin" in item for item in run["Env"])


def test_capability_is_the_kernels_structure() -> None:
    magic, permitted, inheritable, high, high_inheritable = struct.unpack(
        "<5I", capability(["net_bind_service"])
    )
    assert magic == 0x02000001  # VFS_CAP_REVISION_2 | VFS_CAP_FLAGS_EFFECTIVE
    assert permitted == 1 << 10  # CAP_NET_BIND_SERVICE
    assert (inheritable, high, high_inheritable) == (0, 0, 0)
