# Copyright: the Kubewright authors
# Apache License 2.0 (see LICENSE or https://www.apache.org/licenses/LICENSE-2.0)
"""Writes that a crash or a power cut leaves whole.

A new version is written beside the old one, brought to disk, and renamed over it; then the
directory is brought to disk. At any moment a reader, or the machine after a cut, sees the old
version or the new one. What a killed writer leaves is one hidden temporary with a name that the
next writer of the same path reuses; callers hold the node lock, so there is one writer at a time.
"""

from __future__ import annotations

import errno
import os
import shutil
import stat
from collections.abc import Iterable
from pathlib import Path

TEMPORARY_SUFFIX = ".kubewright-tmp"


def temporary_for(path: Path) -> Path:
    """The one temporary of *path*: hidden, and with no suffix that a service would load."""
    return path.parent / f".{path.name}{TEMPORARY_SUFFIX}"


def fsync_directory(path: Path) -> None:
    """Bring the names in directory *path* to disk."""
    fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)


def fsync_directories(paths: Iterable[Path]) -> None:
    """`fsync_directory` for each of *paths* once; one that is gone is skipped."""
    for path in sorted(set(paths)):
        try:
            fsync_directory(path)
        except FileNotFoundError:
            continue


def remove_if_there(path: Path) -> bool:
    """Unlink *path*; False when it was not there."""
    try:
        path.unlink()
    except FileNotFoundError:
        return False
    return True


def write_file(
    path: Path,
    data: bytes,
    *,
    mode: int,
    uid: int = -1,
    gid: int = -1,
    sync_directory: bool = True,
) -> None:
    """Make *path* a regular file with exactly *data*, *mode* and owner (-1: the writer's).

    A path that cannot be replaced because something is mounted on it (``/etc/hosts`` of a
    container) is written in place, see `write_in_place`. With ``sync_directory=False`` the caller
    calls `fsync_directories` after the last of several writes. An `OSError` names a file.
    """
    temporary = temporary_for(path)
    remove_if_there(temporary)
    fd = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o600)
    try:
        try:
            write_all(fd, data)
            if uid != -1 or gid != -1:
                os.fchown(fd, uid, gid)
            os.fchmod(fd, mode)
            os.fsync(fd)
        finally:
            os.close(fd)
        try:
            temporary.rename(path)
        except OSError as error:
            if error.errno != errno.EBUSY or not stat.S_ISREG(path.lstat().st_mode):
                raise
            write_in_place(path, data, mode=mode, uid=uid, gid=gid)
    except OSError as error:
        # A full disk is noticed at a descriptor, which knows no name.
        error.filename = error.filename or str(path)
        raise
    finally:
        remove_if_there(temporary)
    if sync_directory:
        fsync_directory(path.parent)


def write_all(fd: int, data: bytes) -> None:
    """``os.write`` until everything is written."""
    view = memoryview(data)
    while view:
        view = view[os.write(fd, view) :]


def write_in_place(path: Path, data: bytes, *, mode: int, uid: int = -1, gid: int = -1) -> None:
    """Overwrite *path* without a rename: for files that are mount points.

    The new bytes go over the old ones in one write, filled up with newlines to the old length,
    and the rest is cut off after that: a writer killed in between leaves no line lost or mixed.
    """
    fd = os.open(path, os.O_WRONLY)
    try:
        padded = data.ljust(os.fstat(fd).st_size, b"\n")
        write_all(fd, padded)
        os.ftruncate(fd, len(data))
        if uid != -1 or gid != -1:
            os.fchown(fd, uid, gid)
        os.fchmod(fd, mode)
        os.fsync(fd)
    finally:
        os.close(fd)


def replace_link(path: Path, target: str, *, sync_directory: bool = True) -> None:
    """Make *path* a symbolic link to *target* with one rename, whatever file it was before."""
    temporary = temporary_for(path)
    remove_if_there(temporary)
    temporary.symlink_to(target)
    temporary.rename(path)
    if sync_directory:
        fsync_directory(path.parent)


def copy_tree(source: Path, target: Path) -> None:
    """Make *target* a copy of the directory *source* with modes, owners and mtimes, on disk."""
    target.mkdir()
    for entry in sorted(source.iterdir()):
        copy = target / entry.name
        if entry.is_dir() and not entry.is_symlink():
            copy_tree(entry, copy)
            continue
        shutil.copy2(entry, copy, follow_symlinks=False)
        os.chown(copy, entry.lstat().st_uid, entry.lstat().st_gid, follow_symlinks=False)
        if not copy.is_symlink():
            with copy.open("rb") as file:
                os.fsync(file.fileno())
    status = source.stat()
    os.chown(target, status.st_uid, status.st_gid)
    shutil.copystat(source, target)
    fsync_directory(target)


def make_directories(path: Path, mode: int = 0o755) -> list[Path]:
    """Make *path* and its missing parents (parents 0755); gives what was made, outermost first."""
    missing = []
    current = path
    while not current.is_dir():
        missing.append(current)
        current = current.parent
    missing.reverse()
    for directory in missing:
        directory.mkdir(exist_ok=True)
        directory.chmod(mode if directory == path else 0o755)
    fsync_directories(directory.parent for directory in missing)
    return missing
