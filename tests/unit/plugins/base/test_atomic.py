# SPDX-License-Identifier: Apache-2.0
"""A file is old or new, whatever happens to its writer."""

from __future__ import annotations

import errno
import os
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from ansible_collections.kubewright.cluster.plugins.module_utils._base import atomic

EveryKill = Callable[[Callable[[], object]], Iterator[int]]


def names(directory: Path) -> list[str]:
    return sorted(path.name for path in directory.iterdir() if path.name != "node")


def test_write_file_sets_content_and_mode(tmp_path: Path) -> None:
    path = tmp_path / "file"
    atomic.write_file(path, b"one", mode=0o640)
    assert path.read_bytes() == b"one"
    assert path.stat().st_mode & 0o7777 == 0o640
    atomic.write_file(path, b"two", mode=0o600)
    assert path.read_bytes() == b"two"
    assert names(tmp_path) == ["file"]


def test_killed_writer_leaves_old_or_new(tmp_path: Path, every_kill: EveryKill) -> None:
    path = tmp_path / "file"
    atomic.write_file(path, b"old", mode=0o644)
    for _point in every_kill(lambda: atomic.write_file(path, b"new", mode=0o600)):
        assert path.read_bytes() in (b"old", b"new")
        atomic.write_file(path, b"old", mode=0o644)
        assert names(tmp_path) == ["file"], "the next writer clears what the last one left"
    assert path.read_bytes() == b"new"


def test_killed_link_switch_leaves_old_or_new(tmp_path: Path, every_kill: EveryKill) -> None:
    path = tmp_path / "active"
    atomic.replace_link(path, "1")
    for _point in every_kill(lambda: atomic.replace_link(path, "2")):
        assert str(path.readlink()) in ("1", "2")
        atomic.replace_link(path, "1")
    assert str(path.readlink()) == "2"
    assert names(tmp_path) == ["active"]


def test_failed_write_leaves_no_temporary(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "file"
    atomic.write_file(path, b"old", mode=0o644)

    def full(_fd: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="No space") as raised:
        atomic.write_file(path, b"new", mode=0o644)
    assert raised.value.filename == str(path)
    assert path.read_bytes() == b"old"
    assert names(tmp_path) == ["file"]


@pytest.fixture
def mounted(monkeypatch: pytest.MonkeyPatch) -> None:
    """Renames fail as they do over a mount point."""

    def busy(*_args: object) -> None:
        raise OSError(errno.EBUSY, "Device or resource busy")

    monkeypatch.setattr(os, "rename", busy)


@pytest.mark.usefixtures("mounted")
@pytest.mark.parametrize("new", [b"longer than before\n", b"x\n", b""])
def test_mount_point_is_written_in_place(tmp_path: Path, new: bytes) -> None:
    path = tmp_path / "hosts"
    path.write_bytes(b"127.0.0.1 me\n")
    inode = path.stat().st_ino
    atomic.write_file(path, new, mode=0o644)
    assert path.read_bytes() == new
    assert path.stat().st_ino == inode
    assert names(tmp_path) == ["hosts"]


@pytest.mark.usefixtures("mounted")
def test_kill_in_place_loses_no_line(tmp_path: Path, every_kill: EveryKill) -> None:
    path = tmp_path / "hosts"
    old, new = b"127.0.0.1 me\n10.0.0.1 long line\n", b"127.0.0.1 me\n"
    path.write_bytes(old)
    for _point in every_kill(lambda: atomic.write_file(path, new, mode=0o644)):
        lines = [line for line in path.read_bytes().splitlines() if line]
        assert lines in (old.splitlines(), new.splitlines())
        path.write_bytes(old)
    assert path.read_bytes() == new


def test_make_directories(tmp_path: Path) -> None:
    made = atomic.make_directories(tmp_path / "a" / "b", 0o700)
    assert [path.name for path in made] == ["a", "b"]
    assert (tmp_path / "a").stat().st_mode & 0o777 == 0o755
    assert (tmp_path / "a" / "b").stat().st_mode & 0o777 == 0o700
    assert atomic.make_directories(tmp_path / "a" / "b") == []
