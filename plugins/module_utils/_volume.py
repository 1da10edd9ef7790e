# Copyright: the Kubewright authors
# Apache License 2.0 (see LICENSE or https://www.apache.org/licenses/LICENSE-2.0)
"""Private to kubewright.cluster: the backing file of the system volume, an ext4 file system.

It is made under a temporary name and renamed when it is complete, so the real name never stands
for half a file system. An existing one is recognised by its own superblock, without a command.
"""

from __future__ import annotations

import errno
import os
import stat
import struct
from dataclasses import dataclass
from pathlib import Path

from ansible_collections.kubewright.cluster.plugins.module_utils import _atomic, _command
from ansible_collections.kubewright.cluster.plugins.module_utils._errors import KubewrightError

SUPERBLOCK_OFFSET, SUPERBLOCK_BYTES, EXT4_MAGIC = 1024, 1024, 0xEF53
LABEL_BYTES = 16  # ext4's limit
BYTES_PER_INODE = 65536  # few and large files; the default would spend 300 MB on inode tables
READ_BYTES = 1 << 20
# mkfs and resize2fs leave out a last block group that is too small for its own tables.
LAST_GROUP_BYTES = 16 << 20
# Now and then the kernel zeroes a few blocks through the loop device, which frees them in the file.
TOLERATED_LOSS = 0.01
MKFS_SECONDS = 600.0


@dataclass(frozen=True)
class Superblock:
    """What an ext4 superblock says: label, and size of the file system in bytes."""

    label: str
    size: int


@dataclass(frozen=True)
class Wanted:
    """The backing file as it should be."""

    path: Path
    size: int
    sparse: bool
    label: str


def read_superblock(path: Path) -> Superblock | None:
    """The ext4 superblock in *path*, None when there is none. Layout: kernel, ext4/super.rst."""
    with path.open("rb") as file:
        file.seek(SUPERBLOCK_OFFSET)
        data = file.read(SUPERBLOCK_BYTES)
    if len(data) < SUPERBLOCK_BYTES or struct.unpack_from("<H", data, 0x38)[0] != EXT4_MAGIC:
        return None
    blocks = struct.unpack_from("<I", data, 0x4)[0]
    if struct.unpack_from("<I", data, 0x60)[0] & 0x80:  # INCOMPAT_64BIT: the count has a high half
        blocks |= struct.unpack_from("<I", data, 0x150)[0] << 32
    block_size = 1024 << struct.unpack_from("<I", data, 0x18)[0]
    label = data[0x78 : 0x78 + LABEL_BYTES].split(b"\0")[0].decode("utf-8", "replace")
    return Superblock(label, blocks * block_size)


def steps(wanted: Wanted, run: _command.Runner) -> list[str]:
    """What has to be done: any of ``create``, ``preallocate``, ``grow``; nothing is written.

    Raises `KubewrightError` for a file that is not ours, and for a size below the present one.
    """
    if len(wanted.label.encode()) > LABEL_BYTES:
        raise KubewrightError(f"label {wanted.label!r} is longer than ext4's {LABEL_BYTES} bytes.")
    try:
        status = wanted.path.lstat()
    except FileNotFoundError:
        return ["create"]
    if not stat.S_ISREG(status.st_mode):
        raise KubewrightError(f"{wanted.path} is not a regular file; move it away or name another.")
    superblock = read_superblock(wanted.path)
    if superblock is None or superblock.label != wanted.label:
        refuse_foreign(wanted, superblock, run)
        return ["create"]
    if status.st_size > wanted.size:
        raise KubewrightError(
            f"{wanted.path} has {status.st_size} bytes and {wanted.size} were asked for: a volume "
            f"does not shrink. Ask for {status.st_size} bytes, or make the node anew."
        )
    todo = []
    if superblock.size + LAST_GROUP_BYTES <= wanted.size:
        todo.append("grow")
    elif not wanted.sparse and status.st_blocks * 512 < wanted.size * (1 - TOLERATED_LOSS):
        todo.append("preallocate")
    return todo


def refuse_foreign(wanted: Wanted, superblock: Superblock | None, run: _command.Runner) -> None:
    """Raise unless the file is blank: no known format in it, and nothing but zeros."""
    holds = ""
    if superblock is not None:
        holds = f"an ext4 file system labelled {superblock.label!r}, not {wanted.label!r}"
    else:
        probe = run(["blkid", "--probe", "--output", "export", str(wanted.path)])
        if probe.rc not in (0, 2):  # 2: nothing found; 8: several formats found
            holds = f"several formats at once ({probe.stderr.strip()})"
        elif probe.stdout.strip():
            holds = " ".join(probe.stdout.split())
        elif not is_zero(wanted.path):
            holds = "data of an unknown kind"
    if holds:
        raise KubewrightError(
            f"{wanted.path} holds {holds}. It is left as it is: move it away if it is not needed, "
            "or name another path."
        )


def is_zero(path: Path) -> bool:
    """Whether all bytes are zero; holes and preallocated ranges are not read."""
    with path.open("rb") as file:
        end = file.seek(0, os.SEEK_END)
        position = 0
        while position < end:
            try:
                position = os.lseek(file.fileno(), position, os.SEEK_DATA)
            except OSError as error:
                if error.errno == errno.ENXIO:  # only holes from here on
                    return True
                raise
            data = os.pread(file.fileno(), READ_BYTES, position)
            if data.strip(b"\0"):
                return False
            position += len(data)
    return True


def apply(wanted: Wanted, todo: list[str], run: _command.Runner) -> list[str]:
    """Do *todo*; gives what really changed something."""
    done = []
    for step in todo:
        if step == "create":
            _create(wanted, run)
        elif step == "grow":
            _grow(wanted, run)
        elif not _preallocate(wanted):
            continue
        done.append(step)
    return done


def _create(wanted: Wanted, run: _command.Runner) -> None:
    temporary = _atomic.temporary_for(wanted.path)
    _atomic.make_directories(wanted.path.parent)
    _atomic.remove_if_there(temporary)
    fd = os.open(temporary, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o600)
    try:
        _allocate(fd, wanted)
        _command.check(run(mkfs_command(wanted, temporary), timeout=MKFS_SECONDS), "mkfs failed")
        _allocate(fd, wanted)  # mkfs may have zeroed blocks by freeing them
        os.fsync(fd)
        temporary.rename(wanted.path)
    finally:
        os.close(fd)
        _atomic.remove_if_there(temporary)
    _atomic.fsync_directory(wanted.path.parent)


def mkfs_command(wanted: Wanted, file: Path) -> list[str]:
    """``mkfs.ext4`` for *file* that keeps what was set aside.

    Without ``nodiscard`` mkfs would free all of it at once, and with ``lazy_itable_init`` the
    kernel would free the inode tables later, when it zeroes them through the loop device. The
    tables are small here, and the journal needs no zeroes.
    """
    options = "nodiscard,lazy_itable_init=0,lazy_journal_init=1"
    shape = ["-i", str(BYTES_PER_INODE), "-m", "0", "-E", options]
    return ["mkfs.ext4", "-q", "-F", "-L", wanted.label, *shape, str(file)]


def _allocate(fd: int, wanted: Wanted) -> None:
    try:
        if wanted.sparse:
            os.ftruncate(fd, wanted.size)
        else:
            os.posix_fallocate(fd, 0, wanted.size)
    except OSError as error:
        place = os.fstatvfs(fd)
        raise KubewrightError(
            f"{wanted.size} bytes for {wanted.path} could not be set aside: {error.strerror}; "
            f"{place.f_bavail * place.f_frsize} bytes are free there. Make room or name a path on "
            "a larger file system."
        ) from error


def _preallocate(wanted: Wanted) -> bool:
    with wanted.path.open("r+b") as file:
        before = os.fstat(file.fileno()).st_blocks
        _allocate(file.fileno(), wanted)
        os.fsync(file.fileno())
        return os.fstat(file.fileno()).st_blocks > before


def _grow(wanted: Wanted, run: _command.Runner) -> None:
    """Offline: a kill between the steps leaves a larger file, which the next run grows into."""
    loops = run(["losetup", "--associated", str(wanted.path)])
    if _command.check(loops, "Asking for loop devices failed").stdout.strip():
        raise KubewrightError(
            f"{wanted.path} is in use and grows to {wanted.size} bytes only while it is not "
            "mounted: drain the node, stop the mounts on it (systemctl stop kubelet containerd "
            "opt-kubewright.mount var-lib-kubewright-system.mount) and run again."
        )
    with wanted.path.open("r+b") as file:
        _allocate(file.fileno(), wanted)
        os.fsync(file.fileno())
    checked = run(["e2fsck", "-f", "-p", str(wanted.path)], timeout=MKFS_SECONDS)
    if checked.rc not in (0, 1):  # 1: errors were corrected
        raise _command.CommandFailed(f"{wanted.path} is damaged and was not grown", checked)
    grown = run(["resize2fs", str(wanted.path)], timeout=MKFS_SECONDS)
    _command.check(grown, f"{wanted.path} could not be grown")
