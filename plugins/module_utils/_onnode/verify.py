# Copyright: the Kubewright authors
# Apache License 2.0 (see LICENSE or https://www.apache.org/licenses/LICENSE-2.0)
"""What a node checks of its active system image.

Like `guard`, this very file also lies on each node, outside the image, where systemd runs it
without the collection. So it needs nothing but Python's standard library::

    verify.py    hash the active image as it lies on the disk, and write the verdict
"""

from __future__ import annotations

import contextlib
import datetime
import errno
import hashlib
import json
import os
import sys
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

MOUNT_POINT = Path("/var/lib/kubewright/system")
VERDICT = "verdict.json"  # beside the mount point, so that it can be written when the volume can't
CHUNK_BYTES = 1 << 20
FORGET_BYTES = 64 << 20  # what a verification takes of the page cache at most


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
        while below := _file_beneath(os.fstat(layers[-1]).st_dev):
            try:
                layers.append(os.open(below, os.O_RDONLY))
            except FileNotFoundError:  # of the machine around a container, which can't reach it
                break
            opened.callback(os.close, layers[-1])
        yield layers


def _file_beneath(device: int) -> Path | None:
    """The file behind a loop device."""
    number = f"{os.major(device)}:{os.minor(device)}"
    try:
        text = Path(f"/sys/dev/block/{number}/loop/backing_file").read_text("utf-8")
    except OSError:
        return None
    return Path(text.removesuffix("\n"))


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
    active = point / "active" / "image.squashfs"
    image = active.resolve()
    if not image.is_file():
        return None
    before = image.stat()
    try:
        found = digest_of(image)
    except OSError as error:
        found = f"reading it failed: {error.strerror}"
    try:
        if active.resolve() != image or not os.path.samestat(before, image.stat()):
            return verify(point, verdict)  # it was replaced meanwhile, or another one is active
    except FileNotFoundError:
        return verify(point, verdict)
    now = judged(image.stem, found)
    write_verdict(verdict, now)
    return now


def judged(image: str, found: str) -> Verdict:
    """The verdict of now on *image*, of which *found* is the digest, or what went wrong."""
    at = datetime.datetime.now(datetime.timezone.utc).isoformat(timespec="seconds")
    return Verdict(image, image == found, found, at)


def main(words: Sequence[str], point: Path = MOUNT_POINT) -> int:
    """Verify the image of the volume at *point*; gives the exit status."""
    if words:
        print(f"usage: {sys.argv[0]}", file=sys.stderr)
        return 2
    verdict = verify(point, point.parent / VERDICT)
    if verdict is None:
        print(f"{point}/active leads to no image; apply brings one.", file=sys.stderr)
        return 1
    print(f"image {verdict.image}: {'sound' if verdict.sound else verdict.found}")
    return 0 if verdict.sound else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
