# Copyright: the Kubewright authors
# Apache License 2.0 (see LICENSE or https://www.apache.org/licenses/LICENSE-2.0)
"""Which system images a node needs, and which can go.

Whatever executes from an image, or has a file of it open or mapped, keeps its file system mounted,
also when that was detached lazily; and as long as it is mounted, the loop device below has the
image as its backing file. So the kernel's list of loop devices says all, and processes need not be
searched: a shim that was started before an upgrade is seen by its image.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import shutil
import struct
from pathlib import Path

from ansible_collections.kubewright.cluster.plugins.module_utils._base import atomic
from ansible_collections.kubewright.cluster.plugins.module_utils._image import images

BLOCK = Path("/sys/block")
DEVICES = Path("/dev")
# Of linux/loop.h: struct loop_info64 begins with device and inode of the backing file.
LOOP_GET_STATUS64 = 0x4C05
_STATUS_BYTES = 232
_DELETED = " (deleted)"


def in_use(store: images.Store) -> set[str]:
    """Digests of the installed images that something still runs from or has mounted."""
    named: dict[str, Path] = {}
    known: dict[tuple[int, int], str] = {}
    for path in store.images.glob("*.squashfs"):
        with contextlib.suppress(FileNotFoundError):
            status = path.stat()
            known[status.st_dev, status.st_ino] = path.stem
            named[path.name] = path
    found = set()
    for block in BLOCK.glob("loop*/loop/backing_file"):
        with contextlib.suppress(OSError):  # it was detached since
            name = Path(block.read_text("utf-8").strip().removesuffix(_DELETED)).name
            if name in named:
                backing = _backing(DEVICES / block.parents[1].name)
                # Containers see the loop devices of their host: another node's image is not ours.
                # One that can't be asked is taken for ours.
                if backing is None or backing in known:
                    found.add(Path(name).stem)
    return found


def _backing(device: Path) -> tuple[int, int] | None:
    """Device and inode of the file behind a loop device; None when it can't be asked."""
    status = bytearray(_STATUS_BYTES)
    try:
        fd = os.open(device, os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        return None
    try:
        fcntl.ioctl(fd, LOOP_GET_STATUS64, status)
    except OSError:
        return None
    finally:
        os.close(fd)
    number, inode = struct.unpack_from("=QQ", status)
    return number, inode


def surplus(store: images.Store) -> list[str]:
    """Digests of images that are neither active nor previous, and not in use."""
    needed = {one.digest for one in (store.active(), store.previous()) if one}
    there = {path.stem for path in store.images.glob("*.squashfs")}
    return sorted(there - needed - in_use(store))


def surplus_generations(store: images.Store) -> list[int]:
    """All but the active one, the one before, and those that say why an image was given up."""
    kept = {one.generation for one in (store.active(), store.previous()) if one}
    return [
        number
        for number in store.numbers()
        if number not in kept and not images.condemned(store.record(number))
    ]


def collect(store: images.Store, digests: list[str], generations: list[int]) -> None:
    """Remove images and generations."""
    for number in generations:
        shutil.rmtree(store.generations / str(number))
    for digest in digests:
        atomic.remove_if_there(store.image(digest))
    atomic.fsync_directories([store.generations, store.images])
