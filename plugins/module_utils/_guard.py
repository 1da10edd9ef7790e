# Copyright: the Kubewright authors
# Apache License 2.0 (see LICENSE or https://www.apache.org/licenses/LICENSE-2.0)
"""Private to kubewright.cluster: what a node checks of its own system volume and its image.

This very file also lies on each node, outside the image, where systemd runs it without the
collection. So it needs nothing but Python's standard library::

    guard.py check PATH   repair the file system of the file or device PATH before it is mounted,
                          and let it grow
    guard.py volume       end with 1, and say why, when the mounted volume can't be relied on
    guard.py image        hash the active image as it lies on the disk, and write the verdict
    guard.py report       say what is wrong with volume and image, a JSON list of sentences
"""

from __future__ import annotations

import contextlib
import datetime
import errno
import hashlib
import json
import os
import re
import stat
import subprocess
import sys
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

MOUNT_POINT = Path("/var/lib/kubewright/system")
UNIT = Path("/etc/systemd/system/var-lib-kubewright-system.mount")
CHECK_UNIT = "kubewright-volume-check.service"
VERDICT = "verdict.json"  # beside the mount point, so that it can be written when the volume can't
CHUNK_BYTES = 1 << 20
FORGET_BYTES = 64 << 20  # what a verification takes of the page cache at most
FULL_BYTES = 1 << 20
# mkfs and resize2fs leave out a last block group that is too small for its own tables.
LAST_GROUP_BYTES = 16 << 20
# Of e2fsck(8): 0 nothing to do, 1 errors were corrected.
SOUND = (0, 1)
REBOOT = (
    "Drain this node and reboot it: the check before the mount repairs what can be repaired. "
    "`dmesg | grep -i ext4` tells what happened; where the disk is failing, replace it, reset the "
    "node and apply."
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


@dataclass(frozen=True)
class Verdict:
    """What the last verification found of the image with digest *image*; *found*: in words."""

    image: str
    sound: bool
    found: str
    at: str

    def age(self) -> float:
        """Seconds since it was found, by this machine's clock."""
        at = datetime.datetime.fromisoformat(self.at)
        return (datetime.datetime.now(datetime.timezone.utc) - at).total_seconds()


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
        f"The {kind} {place} of the system volume is missing. {back} it there and apply. Where it "
        "is lost, reset the node and apply: all that was on it can be made again."
    )


def _unmounted(point: Path) -> str:
    place = source()
    if place is None:
        return f"{point} is not mounted; apply makes and mounts it."
    if not place.exists():
        return lost(place)
    if _run(["systemctl", "is-failed", "--quiet", CHECK_UNIT]).returncode == 0:
        return f"{damaged(place)}."
    why = f"`systemctl status {UNIT.name} {CHECK_UNIT}` tells why"
    return f"{point} is not mounted, and {place} is there. Apply mounts it; {why} it was not."


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
        return [f"{point} is read-only, which errors of its disk make it. {REBOOT}"]
    if "shutdown" in mount.options:
        return [f"{point} was shut down by the kernel. {REBOOT}"]
    if count := _errors(mount):
        return [f"{point}: the kernel has met {count} error(s) in its file system. {REBOOT}"]
    return []


def _full(point: Path) -> list[str]:
    place = os.statvfs(point)
    if place.f_bavail * place.f_frsize >= FULL_BYTES and place.f_favail:
        return []
    large = f"`du -xh {point} | sort -h | tail` shows what is large"
    gone = (
        f"images that nobody needs (kubewright node image gc), what does not belong there ({large})"
    )
    return [f"{point} is full. Remove {gone}, or give it a larger size."]


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


def digest_of(path: Path) -> str:
    """SHA-256 of *path* as it lies on the disk, in hex.

    It is brought there, and what memory holds of it is forgotten: also what a loop device beneath
    holds of its own file, or it would be read from there.
    """
    digest = hashlib.sha256()
    buffer = bytearray(CHUNK_BYTES)
    view = memoryview(buffer)
    fd = os.open(path, os.O_RDONLY | os.O_NOFOLLOW)
    try:
        with _layers(fd) as layers:
            _forget(layers)
            os.posix_fadvise(fd, 0, 0, os.POSIX_FADV_SEQUENTIAL)
            read = 0
            while count := os.readv(fd, [buffer]):
                digest.update(view[:count])
                read += count
                if read % FORGET_BYTES < count:
                    _forget(layers)
            _forget(layers)
    finally:
        os.close(fd)
    return digest.hexdigest()


@contextlib.contextmanager
def _layers(fd: int) -> Iterator[list[int]]:
    """*fd*, and a descriptor of each file beneath it that is the disk of the one before."""
    layers = [fd]
    with contextlib.ExitStack() as opened:
        while below := loop_file(os.fstat(layers[-1]).st_dev):
            try:
                layers.append(os.open(below, os.O_RDONLY))
            except FileNotFoundError:  # of the machine around a container, which can't reach it
                break
            opened.callback(os.close, layers[-1])
        yield layers


def _forget(layers: Sequence[int]) -> None:
    for fd in layers:
        try:
            os.fsync(fd)
        except OSError as error:
            if error.errno != errno.EROFS:  # after an error there is nothing to bring to the disk
                raise
        os.posix_fadvise(fd, 0, 0, os.POSIX_FADV_DONTNEED)


def read_verdict(path: Path) -> Verdict | None:
    """The last verdict, None where there is none that can be read: the next one is written anew."""
    try:
        data = json.loads(path.read_bytes())
        verdict = Verdict(**{name: data[name] for name in Verdict.__dataclass_fields__})
        verdict.age()  # or its time is none
        return verdict
    except (FileNotFoundError, ValueError, KeyError, TypeError):
        return None


def write_verdict(path: Path, verdict: Verdict) -> None:
    """Replace the verdict by one rename; after a cut it is the old or the new one."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        with temporary.open("w", encoding="utf-8") as file:
            json.dump(asdict(verdict), file)
            file.write("\n")
            file.flush()
            os.fsync(file.fileno())
        temporary.rename(path)
    finally:
        temporary.unlink(missing_ok=True)


def verify(point: Path, verdict: Path) -> Verdict | None:
    """Hash the active image of the volume at *point*; None when there is none."""
    image = (point / "active" / "image.squashfs").resolve()
    if not image.is_file():
        return None
    before = image.stat()
    try:
        found = digest_of(image)
    except OSError as error:
        found = f"reading it failed: {error.strerror}"
    try:
        if not os.path.samestat(before, image.stat()):
            return verify(point, verdict)  # it was replaced meanwhile
    except FileNotFoundError:
        return verify(point, verdict)
    now = judged(image.stem, found)
    write_verdict(verdict, now)
    return now


def judged(image: str, found: str) -> Verdict:
    """The verdict of now on *image*, of which *found* is the digest, or what went wrong."""
    at = datetime.datetime.now(datetime.timezone.utc).isoformat(timespec="seconds")
    return Verdict(image, image == found, found, at)


def damaged(path: Path) -> str:
    """What to say where e2fsck needs a person; without a full stop."""
    return (
        f"{path} is damaged, and repairing it takes decisions. Run `e2fsck -f {path}` on the node "
        "and reboot it; or reset the node and apply, since all that is on it can be made again"
    )


def check(path: Path) -> int:
    """Repair the file system of *path* unless it is in use; gives an exit status.

    In use means: mounted, also where a lazy unmount has hidden it. Then it was checked before.
    """
    if not path.exists():
        print(lost(path), file=sys.stderr)
        return 1
    if is_used(path):
        print(f"{path} is in use, so it is not checked.")
        return 0
    grows = _has_room(path)
    status = _run(["e2fsck", "-p", *(["-f"] if grows else []), str(path)]).returncode
    if status not in SOUND:
        print(f"{damaged(path)} (e2fsck ended with {status}).", file=sys.stderr)
        return 1
    if grows and (status := _run(["resize2fs", str(path)]).returncode):
        print(f"{path} has room to grow, and resize2fs ended with {status}.", file=sys.stderr)
    return 0


def _has_room(path: Path) -> bool:
    told = _run(["dumpe2fs", "-h", str(path)], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)
    found = dict(re.findall(rb"^Block (count|size): +(\d+)$", told.stdout, re.MULTILINE))
    with path.open("rb") as file:
        size = file.seek(0, os.SEEK_END)
    taken = int(found.get(b"count", size)) * int(found.get(b"size", 1))
    return taken + LAST_GROUP_BYTES <= size


def report(point: Path) -> list[str]:
    """What is wrong with the volume and with its active image, as the node last found."""
    found = troubles(point)
    verdict = read_verdict(point.parent / VERDICT)
    image = (point / "active" / "image.squashfs").resolve().stem
    if verdict and not verdict.sound and verdict.image == image:
        again = "Apply brings it again; if this comes back, check the node's disk and memory."
        found.append(f"The active system image {image[:12]} is damaged on the disk. {again}")
    return found


def main(words: Sequence[str], point: Path = MOUNT_POINT) -> int:
    """Do what *words* say, see above; gives the exit status."""
    if words[:1] == ["check"] and len(words) == 2:
        return check(Path(words[1]))
    if words == ["volume"]:
        found = unreliable(point) or write_troubles(point)
        for trouble in found or _full(point):
            print(trouble, file=sys.stderr)
        return 1 if found else 0
    if words == ["report"]:
        print(json.dumps(report(point)))
        return 0
    if words == ["image"]:
        verdict = verify(point, point.parent / VERDICT)
        if verdict is None:
            print(f"{point}/active leads to no image; apply brings one.", file=sys.stderr)
            return 1
        print(f"image {verdict.image}: {'sound' if verdict.sound else verdict.found}")
        return 0 if verdict.sound else 1
    print(f"usage: {sys.argv[0]} check PATH | volume | image | report", file=sys.stderr)
    return 2


if __name__ == "__main__":
    try:
        sys.exit(main(sys.argv[1:]))
    except OSError as error:
        sys.exit(f"{error.filename or sys.argv[0]}: {error.strerror}")
