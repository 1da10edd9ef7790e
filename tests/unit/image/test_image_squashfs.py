# SPDX-License-Identifier: Apache-2.0
"""squashfs: bytes depend on the contents alone; files can be looked up again."""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
from pathlib import Path

import pytest

from kubewright.image.commands import Commands
from kubewright.image.errors import ImageError
from kubewright.image.squashfs import hash_of, listing, pack, read

pytestmark = pytest.mark.skipif(
    shutil.which("mksquashfs") is None, reason="squashfs-tools is not installed"
)

FILES = {"manifest.json": b"{}", "bin/one": b"1" * 300_000, "images/a.tar": os.urandom(200_000)}


def fill(root: Path, names: list[str]) -> Path:
    for name in names:
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(FILES[name])
        path.chmod(0o755 if name.startswith("bin/") else 0o644)
    (root / "lib").symlink_to("usr/lib")
    for directory in (root, *root.rglob("*")):
        if directory.is_dir() and not directory.is_symlink():
            directory.chmod(0o755)
    return root


def packed(tree: Path, target: Path) -> bytes:
    pack(tree, target, log=target.with_suffix(".log"), commands=Commands())
    return target.read_bytes()


def test_same_tree_same_bytes(tmp_path: Path) -> None:
    first = fill(tmp_path / "first", list(FILES))
    second = fill(tmp_path / "second", list(reversed(FILES)))
    os.utime(second / "bin/one", (1, 1))
    os.utime(second, (2, 2))
    # As in a build: the file is one of several hard links, and belongs to somebody.
    (tmp_path / "link").hardlink_to(second / "bin/one")
    os.chown(second / "manifest.json", *((1, 1) if os.geteuid() == 0 else (-1, -1)))
    assert packed(first, tmp_path / "1.squashfs") == packed(second, tmp_path / "2.squashfs")


def test_everything_is_roots_and_without_time(tmp_path: Path) -> None:
    packed(fill(tmp_path / "tree", list(FILES)), tmp_path / "x.squashfs")
    lines = subprocess.run(
        ["unsquashfs", "-lln", tmp_path / "x.squashfs"],
        env={**os.environ, "TZ": "UTC"},
        capture_output=True,
        text=True,
        check=True,
    ).stdout.splitlines()
    entries = [line for line in lines if "squashfs-root" in line]
    assert len(entries) == 7
    assert all(" 0/0 " in line and " 1970-01-01 00:00 " in line for line in entries)


def test_looking_inside(tmp_path: Path) -> None:
    image = tmp_path / "x.squashfs"
    packed(fill(tmp_path / "tree", list(FILES)), image)
    assert listing(image) == {"manifest.json": "0644", "bin/one": "0755", "images/a.tar": "0644"}
    assert read(image, "manifest.json") == "{}"
    for name, data in FILES.items():
        assert hash_of(image, name) == hashlib.sha256(data).hexdigest()
    assert hash_of(image, "bin/two") is None


def test_no_squashfs_at_all(tmp_path: Path) -> None:
    (tmp_path / "x").write_bytes(b"nothing")
    with pytest.raises(ImageError, match="not a readable squashfs"):
        listing(tmp_path / "x")
