# Copyright: the Kubewright authors
# Apache License 2.0 (see LICENSE or https://www.apache.org/licenses/LICENSE-2.0)
"""What a node checks of its own system volume.

This very file also lies on each node, outside the image, where systemd runs it without the
collection. So it needs nothing but Python's standard library::

    guard.py check PATH   repair the file system of the file or device PATH before it is mounted,
                          and let it grow
    guard.py volume       end with 1, and say why, when the mounted volume can't be relied on
"""

from __future__ import annotations

import errno
import json
import os
import re
import stat
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

MOUNT_POINT = Path("/var/lib/kubewright/system")
UNIT = Path("/etc/systemd/system/var-lib-kubewright-system.mount")
CHECK_UNIT = "kubewright-volume-check.service"
LABEL = "kubewright"
VERDICT = "verdict.json"  # of `verify`
FULL_BYTES = 1 << 20
# mkfs and resize2fs leave out a last block group that is too small for its own tables.
LAST_GROUP_BYTES = 16 << 20
# Of e2fsck(8): 0 nothing to do, 1 errors were corrected.
SOUND = (0, 1)
REBOOT = (
    "Drain this node and reboot it: the check before mounting repairs what it "
    "can. See `dmesg | grep -i ext4`. If the disk is failing, replace it, reset "
    "the node and apply."
)


@dataclass(frozen=True)
class Mount:
    """A mount: its place, the device's number, its own *flags*, the file system's *options*."""

    point: str
    device: int
    flags: frozenset[str]
    options: frozenset[str]

    @property
    def name(self) -> str:
        """The kernel's name of the device, such as loop0."""
        return block_directory(self.device).resolve().name


def mounts(mountinfo: Path = Path("/proc/self/mountinfo")) -> list[Mount]:
    """All mounts in the order in which they were made, see proc(5)."""
    found = []
    for line in mountinfo.read_text("utf-8", "surrogateescape").splitlines():
        fields = line.split()
        point = re.sub(r"\\([0-7]{3})", lambda code: chr(int(code[1], 8)), fields[4])
        major, minor = map(int, fields[2].split(":"))
        own, beneath = fields[5], fields[fields.index("-") + 3]
        found.append(
            Mount(
                point,
                os.makedev(major, minor),
                frozenset(own.split(",")),
                frozenset(beneath.split(",")),
            )
        )
    return found


def mount_at(point: Path, mountinfo: Path = Path("/proc/self/mountinfo")) -> Mount | None:
    """What is mounted at *point*, the uppermost; None for nothing."""
    wanted = os.path.realpath(point)
    found = [mount for mount in mounts(mountinfo) if mount.point == wanted]
    return found[-1] if found else None


def block_directory(device: int) -> Path:
    """The kernel's directory of a block device."""
    return Path(f"/sys/dev/block/{os.major(device)}:{os.minor(device)}")


def loop_file(device: int) -> Path | None:
    """The file behind a loop device, ``(deleted)`` after its name when it has none any more."""
    try:
        text = (block_directory(device) / "loop/backing_file").read_text("utf-8")
    except OSError:
        return None
    return Path(text.removesuffix("\n"))


def source() -> Path | None:
    """The file or device that is to be mounted as the volume, None where there never was one."""
    unit = UNIT.read_text("utf-8") if UNIT.exists() else ""
    found = re.search("^What=(.+)$", unit, re.MULTILINE)
    return Path(found[1]) if found else None


def lost(place: Path) -> str:
    """What to say where nothing is at *place*, and a volume was."""
    kind, back = ("file", "Put") if MOUNT_POINT.parent in place.parents else ("device", "Attach")
    return (
        f"The {kind} {place} of the system volume is missing. {back} it there and apply. If "
        "it is lost, reset the node and apply: everything on it can be recreated."
    )


def _unmounted(point: Path) -> str:
    place = source()
    if place is None:
        return f"{point} is not mounted; apply creates and mounts it."
    if not place.exists():
        return lost(place)
    if _run(["systemctl", "is-failed", "--quiet", CHECK_UNIT]).returncode == 0:
        return foreign(place) or f"{damaged(place)}."
    why = f"`systemctl status {UNIT.name} {CHECK_UNIT}` shows why"
    return f"{point} is not mounted, although {place} exists. Apply mounts it; {why} it was not."


def troubles(point: Path) -> list[str]:
    """Why the volume mounted at *point* can't be relied on, each with what to do. Reads only."""
    return unreliable(point) or _full(point)


def unreliable(point: Path) -> list[str]:
    """Like `troubles`, but for a full volume, from which all can run."""
    mount = mount_at(point)
    if mount is None:
        return [_unmounted(point)]
    # A kernel from 6.13 on leaves "rw" there after an error, and says emergency_ro as well.
    if mount.options & {"ro", "emergency_ro"}:
        return [f"{point} is read-only, because of disk errors. {REBOOT}"]
    if "shutdown" in mount.options:
        return [f"{point} was shut down by the kernel. {REBOOT}"]
    if count := _errors(mount):
        return [f"{point}: the kernel has found {count} error(s) in its file system. {REBOOT}"]
    return []


def _full(point: Path) -> list[str]:
    place = os.statvfs(point)
    if place.f_bavail * place.f_frsize >= FULL_BYTES and place.f_favail:
        return []
    large = f"`du -xh {point} | sort -h | tail` shows what is large"
    remove = (
        "`kubewright-maintenance rm FILE` on the node removes it, although the volume is read-only"
    )
    return [
        f"{point} is full. Remove unused images (kubewright node image gc) and what"
        f" does not belong there ({large}; {remove}), or make it larger."
    ]


def _errors(mount: Mount) -> int:
    try:
        return int(Path("/sys/fs/ext4", mount.name, "errors_count").read_text("ascii"))
    except FileNotFoundError:  # not ext4
        return 0


def write_troubles(point: Path) -> list[str]:
    """Like `troubles`, by writing a block to the disk, where transfers come in."""
    door = point.parent / "incoming"
    probe = (door if mount_at(door) else point) / ".writable"
    try:
        with probe.open("wb") as file:
            file.write(bytes(4096))
            os.fsync(file.fileno())
        probe.unlink()
    except OSError as error:
        if error.errno != errno.ENOSPC:
            return [f"{point} can't be written: {error.strerror}. {REBOOT}"]
        probe.unlink(missing_ok=True)
    return []


def _run(command: Sequence[str], **options: Any) -> subprocess.CompletedProcess[bytes]:
    """An administrator's command, whatever PATH this process was given."""
    path = f"{os.environ.get('PATH', '')}:/usr/local/sbin:/usr/sbin:/sbin".lstrip(":")
    return subprocess.run(command, env={**os.environ, "PATH": path}, **options)


def is_used(path: Path) -> bool:
    """Whether a file has a loop device, or a device a user, mounted in sight or not."""
    if stat.S_ISBLK(path.stat().st_mode):
        try:
            os.close(os.open(path, os.O_RDONLY | os.O_EXCL))
        except OSError as error:
            if error.errno != errno.EBUSY:
                raise
            return True
        return False
    command = ["losetup", "--associated", str(path), "--noheadings", "--output", "NAME"]
    return bool(_run(command, check=True, stdout=subprocess.PIPE).stdout.strip())


def damaged(path: Path) -> str:
    """What to say where e2fsck needs a person; without a full stop."""
    return (
        f"{path} is damaged, and can't be repaired without decisions. Run `e2fsck -f {path}` on "
        "the node and reboot it; or reset the node and apply, since everything on it can be "
        "recreated"
    )


def foreign(path: Path) -> str:
    """What to say where *path* holds what is not the system volume, "" where it may be it.

    A superblock that can't be read is e2fsck's to repair. Nobody is sent to e2fsck for another
    format, since it might bring back an older ext4 from the copies of its superblock.
    """
    if header := _header(path):
        label = header.get("volume name", "")
        holds = "" if label == LABEL else f"a file system labeled {label!r}"
    else:
        holds = _other_format(path)
    if not holds:
        return ""
    return (
        f"{path} contains {holds}, not the system volume, which is labeled {LABEL!r}. It was not "
        "touched. A name such as /dev/sdb may be another disk after a boot: `blkid` shows which "
        "disk has the volume, and `ls -l /dev/disk/by-id` its stable name. Use that name for the "
        "device and apply."
    )


def _header(path: Path) -> dict[str, str]:
    """What the superblock of *path* says, empty where there is none."""
    command = ["dumpe2fs", "-h", str(path)]
    told = _run(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)
    if told.returncode:
        return {}
    text = told.stdout.decode("utf-8", "replace")
    return dict(re.findall(r"^(?:Filesystem )?([\w ]+): +(.*)$", text, re.MULTILINE))


def _other_format(path: Path) -> str:
    """The name of the format that *path* has, "" for ext4 and for none."""
    told = _run(["blkid", "-p", "-o", "export", str(path)], stdout=subprocess.PIPE)
    found = dict(re.findall(r"^(\w+)=(.*)$", told.stdout.decode("utf-8", "replace"), re.MULTILINE))
    kind = found.get("TYPE") or found.get("PTTYPE") or ""
    return "" if kind.startswith("ext") else kind


def check(path: Path) -> int:
    """Repair the file system of *path* unless it is in use; gives an exit status.

    In use means: mounted, also where a lazy unmount has hidden it. Then it was checked before.
    What is not the system volume is refused, in use or not: it must not be mounted as such.
    """
    if not path.exists():
        print(lost(path), file=sys.stderr)
        return 1
    if refusal := foreign(path):
        print(refusal, file=sys.stderr)
        return 1
    if is_used(path):
        print(f"{path} is in use, so it was not checked.")
        return 0
    grows = _has_room(path)
    status = _run(["e2fsck", "-p", *(["-f"] if grows else []), str(path)]).returncode
    if status not in SOUND:
        print(f"{damaged(path)} (e2fsck exited with {status}).", file=sys.stderr)
        return 1
    if grows and (status := _run(["resize2fs", str(path)]).returncode):
        print(f"{path} has room to grow, but resize2fs exited with {status}.", file=sys.stderr)
    return 0


def _has_room(path: Path) -> bool:
    header = _header(path)
    with path.open("rb") as file:
        size = file.seek(0, os.SEEK_END)
    taken = int(header.get("Block count", size)) * int(header.get("Block size", 1))
    return taken + LAST_GROUP_BYTES <= size


def report(point: Path) -> list[str]:
    """What is wrong with the volume and with its active image, as the node last found."""
    found = troubles(point)
    image = (point / "active" / "image.squashfs").resolve().stem
    if _is_damaged(image, point.parent / VERDICT):
        again = "Apply installs it again; if this happens again, check the node's disk and memory."
        found.append(f"The active system image {image[:12]} is damaged on the disk. {again}")
    return found


def _is_damaged(image: str, verdict: Path) -> bool:
    try:
        found = json.loads(verdict.read_bytes())
        return bool(found["image"] == image and not found["sound"])
    except (FileNotFoundError, ValueError, KeyError, TypeError):  # the next one is written anew
        return False


def main(words: Sequence[str], point: Path = MOUNT_POINT) -> int:
    """Do what *words* say, see above; gives the exit status."""
    if words[:1] == ["check"] and len(words) == 2:
        return check(Path(words[1]))
    if words == ["volume"]:
        found = unreliable(point) or write_troubles(point)
        for trouble in found or _full(point):
            print(trouble, file=sys.stderr)
        return 1 if found else 0
    print(f"usage: {sys.argv[0]} check PATH | volume", file=sys.stderr)
    return 2


if __name__ == "__main__":
    try:
        sys.exit(main(sys.argv[1:]))
    except OSError as error:
        sys.exit(f"{error.filename or sys.argv[0]}: {error.strerror}")
