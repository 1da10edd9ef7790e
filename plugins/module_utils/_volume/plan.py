# Copyright: the Kubewright authors
# Apache License 2.0 (see LICENSE or https://www.apache.org/licenses/LICENSE-2.0)
"""The system volume, an ext4 file system in a file or on a device.

What it should be and what there is, and from these what has to be done; `ext4` does it. An
existing one is recognised by its own superblock, without a command. Nothing else is ever written
over.
"""

from __future__ import annotations

import errno
import os
import re
import stat
import struct
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ansible_collections.kubewright.cluster.plugins.module_utils._base import commands
from ansible_collections.kubewright.cluster.plugins.module_utils._base.errors import KubewrightError
from ansible_collections.kubewright.cluster.plugins.module_utils._cluster import rules
from ansible_collections.kubewright.cluster.plugins.module_utils._kube import memberships
from ansible_collections.kubewright.cluster.plugins.module_utils._onnode import guard

SUPERBLOCK_OFFSET, SUPERBLOCK_BYTES, EXT4_MAGIC = 1024, 1024, 0xEF53
# ext4's limit, less the mark that a device has while its file system is being made.
LABEL_BYTES, UNFINISHED = 15, "~"
READ_BYTES = 1 << 20
# Now and then the kernel zeroes a few blocks through the loop device, which frees them in the file.
TOLERATED_LOSS = 0.01


class Refused(KubewrightError):
    """The volume can't be as it is wanted. *text*: what is there; *remedy*: what to do."""

    def __init__(self, text: str, remedy: str) -> None:
        super().__init__(f"{text} {remedy}")
        self.text = text
        self.remedy = remedy


@dataclass(frozen=True)
class Superblock:
    """What an ext4 superblock says: label, and size of the file system in bytes."""

    label: str
    size: int


@dataclass(frozen=True)
class Wanted:
    """The volume as it should be: a file at *path* of *size* bytes, or a device of at least those.

    *is_device*: *path* is a device, all of which is taken. *mount_point*: where it is mounted, now
    or later.
    """

    path: Path
    size: int
    sparse: bool
    label: str
    is_device: bool = False
    mount_point: Path = guard.MOUNT_POINT


def parse(document: Mapping[str, Any], root: Path = Path("/")) -> Wanted:
    """The options of the module ``volume``, from a role's document too; *root*: of the machine."""
    return Wanted(
        root / str(document["path"]).lstrip("/"),
        int(document["size_bytes"]),
        bool(document["sparse"]),
        str(document["label"]),
        document["type"] == "block",
        root / str(document["mount_point"]).lstrip("/"),
    )


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
    label = data[0x78 : 0x78 + 16].split(b"\0")[0].decode("utf-8", "replace")
    return Superblock(label, blocks * block_size)


def steps(wanted: Wanted, run: commands.Runner) -> list[str]:
    """What has to be done: any of ``create``, ``preallocate``, ``grow``; nothing is written.

    Raises `Refused` for a place that is missing, too small, in use, not ours or an earlier node's,
    and for a size below the present one.
    """
    if len(wanted.label.encode()) > LABEL_BYTES:
        raise KubewrightError(
            f"label {wanted.label!r} is longer than ext4's limit of {LABEL_BYTES} bytes."
        )
    size, held = _place(wanted)
    mounted = mounted_device(wanted)
    if size is None:
        _refuse_lost(wanted)
        return ["create"]
    # The kernel's view: in the file, the superblock may be older.
    superblock = read_superblock(mounted or wanted.path)
    if superblock is None or superblock.label != wanted.label:
        mark = wanted.label + UNFINISHED
        if not (wanted.is_device and superblock and superblock.label == mark):
            _refuse_foreign(wanted, superblock, run)
            _refuse_lost(wanted)
        _refuse_used(wanted)
        return ["create"]
    if wanted.is_device and not mounted:
        _refuse_earlier(wanted, run)
    if not wanted.is_device and size > wanted.size:
        raise Refused(
            f"{wanted.path} has {size} bytes, but {wanted.size} are set: a volume can't shrink.",
            f"Set that size or more (size_gb: {-(-size // 10**9)}), or reset the node and apply.",
        )
    if superblock.size + guard.LAST_GROUP_BYTES <= (size if wanted.is_device else wanted.size):
        return ["grow"]
    if not wanted.is_device and not wanted.sparse and held < wanted.size * (1 - TOLERATED_LOSS):
        return ["preallocate"]
    return []


def _place(wanted: Wanted) -> tuple[int | None, int]:
    """Size of the place, None for a file to come, and the bytes that it holds of its disk."""
    if not wanted.is_device:
        try:
            status = wanted.path.lstat()
        except FileNotFoundError:
            return None, 0
        if not stat.S_ISREG(status.st_mode):
            raise Refused(f"{wanted.path} is not a regular file.", "Move it away.")
        return status.st_size, status.st_blocks * 512
    try:
        is_block = stat.S_ISBLK(wanted.path.stat().st_mode)
    except FileNotFoundError as error:
        raise Refused(
            f"The device {wanted.path} of the system volume is missing.",
            "Attach it, or use another device (`ls -l /dev/disk/by-id` lists them).",
        ) from error
    if not is_block:
        raise Refused(
            f"{wanted.path} is not a block device.",
            "Give one (`ls -l /dev/disk/by-id` lists them), or use the type local, a file.",
        )
    with wanted.path.open("rb") as device:
        size = device.seek(0, os.SEEK_END)
    if size < wanted.size:
        raise Refused(
            f"The device {wanted.path} has {size} bytes; {wanted.size} required.",
            f"Use a larger one, or a smaller size ({rules.MIN_VOLUME_BYTES} at least).",
        )
    return size, size


def mounted_device(wanted: Wanted) -> Path | None:
    """The device that is mounted as the volume, None when nothing is.

    Raises `Refused` when it is another one than *wanted*.
    """
    mount = guard.mount_at(wanted.mount_point)
    if mount is None:
        return None
    if wanted.is_device:
        is_it = wanted.path.stat().st_rdev == mount.device
        other = str(guard.loop_file(mount.device) or f"/dev/{mount.name}")
    else:
        file = guard.loop_file(mount.device)
        is_it = file is not None and (
            file.samefile(wanted.path)
            if file.exists() and wanted.path.exists()
            else file.name == wanted.path.name
        )
        other = str(file or f"/dev/{mount.name}")
    if not is_it:
        raise Refused(
            f"{wanted.mount_point} is on {other}, but should be on {wanted.path}: "
            "a volume can't be moved.",
            "Reset the node and apply, or set it back to the current one.",
        )
    return Path("/dev", mount.name)


def _refuse_used(wanted: Wanted) -> None:
    if wanted.is_device and guard.is_used(wanted.path):
        raise Refused(
            f"{wanted.path} is in use: mounted, or used by RAID, LVM or swap.",
            f"`lsblk {wanted.path}` shows which. Release it, or use another device.",
        )


def _refuse_lost(wanted: Wanted) -> None:
    """Raise `Refused` where the machine has had a volume there: its node needs what was on it."""
    if wanted.path != guard.source():
        return
    if wanted.path.exists():
        raise Refused(
            f"{wanted.path} was the system volume, but is blank now.",
            f"If the disk was not replaced, `e2fsck -f {wanted.path}` may find it again. "
            "Otherwise reset the node and apply: everything on it can be recreated.",
        )
    text, _, remedy = guard.lost(wanted.path).partition(". ")
    raise Refused(f"{text}.", remedy)


def _refuse_earlier(wanted: Wanted, run: commands.Runner) -> None:
    """Raise `Refused` for a device with another node's volume, or of this machine's life before.

    Its certificates and manifests would be taken for this node's. A run that was cut is none: what
    it has made is blank until the mount's unit is there, which names the device.
    """
    place = guard.source()
    if place and place.exists() and place.samefile(wanted.path):
        return
    if memberships.RECORD.exists():
        return
    listed = run(["debugfs", "-R", "ls -p /", str(wanted.path)])
    names = set(re.findall(r"^(?:/[^/]*){4}/([^/]+)/", listed.stdout, re.MULTILINE))
    # Without its own entry the directory could not be read.
    if "." in names and names <= {".", "..", "lost+found"}:
        return
    etcd = run(["debugfs", "-R", "cat /kubernetes/manifests/etcd.yaml", str(wanted.path)])
    name = re.search(r"--name=(\S+)", etcd.stdout)
    raise Refused(
        f"{wanted.path} contains the system volume of an earlier node"
        f"{f' ({name[1]})' if name else ''}, but this machine has no record of having been a node. "
        "It was not changed.",
        f"If nothing on it is needed: `wipefs --all {wanted.path}`. Or use another device.",
    )


def _refuse_foreign(wanted: Wanted, superblock: Superblock | None, run: commands.Runner) -> None:
    """Raise `Refused` unless the place is blank: without known formats, a file without any data."""
    holds = ""
    if superblock is not None:
        holds = f"an ext4 file system labeled {superblock.label!r}, not {wanted.label!r}"
    elif found := signatures(wanted.path, run):
        holds = " and ".join(found)
    # Reading a whole disk would take minutes; what was wiped with wipefs has remains all the same.
    elif not wanted.is_device and not is_zero(wanted.path):
        holds = "unknown data"
    if not holds:
        return
    if wanted.is_device:
        remedy = f"If it is not needed: `wipefs --all {wanted.path}`. Or use another device."
    else:
        remedy = "Move it away if it is not needed."
    raise Refused(f"{wanted.path} contains {holds}. It was not touched.", remedy)


def signatures(path: Path, run: commands.Runner) -> list[str]:
    """What formats a file or device holds, in words, with their labels."""
    command = ["wipefs", "--no-act", "--parsable", "--output", "TYPE,LABEL", str(path)]
    listed = commands.check(run(command), f"Checking {path} for data failed")
    found = []
    for line in listed.stdout.splitlines():
        kind, _, label = line.partition(",")
        if kind and not kind.startswith("#"):
            found.append(f"{kind} labeled {label!r}" if label else kind)
    return list(dict.fromkeys(found))


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
