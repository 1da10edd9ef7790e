# Copyright: the Kubewright authors
# Apache License 2.0 (see LICENSE or https://www.apache.org/licenses/LICENSE-2.0)
"""A node's read-only places, and how a module writes to them.

The system volume is mounted read-only, and so are the places where Kubernetes finds its
configuration and certificates on it. Who changes them makes a mount namespace of its own, in which
alone they are writable. It ends with its last process, so whoever is killed in between leaves
nothing open, and nobody else sees a moment in which it is. ``kubewright-maintenance`` on the node
is the same for a person. The superblock stays writable: to remount that fails on open files.

Whoever has had such places mounted, or mounted again, opens once more: the namespace that he has
made need not see what was mounted since. So he goes back to the one that all see, and makes
another.
"""

from __future__ import annotations

import ctypes
import os
from collections.abc import Sequence
from pathlib import Path

from ansible_collections.kubewright.cluster.plugins.module_utils._base import owned
from ansible_collections.kubewright.cluster.plugins.module_utils._base.errors import KubewrightError
from ansible_collections.kubewright.cluster.plugins.module_utils._onnode import guard

VOLUME = owned.VOLUME
CONFIGURATION, KUBERNETES = owned.MOUNTED
# In the order in which they are mounted. The image is read-only by its kind.
PLACES = (VOLUME, KUBERNETES, CONFIGURATION)

MOUNTINFO = Path("/proc/self/mountinfo")
SEEN_BY_ALL = Path("/proc/1/mountinfo")
# mount(2), unshare(2), setns(2); from the kernel's include/uapi/linux/mount.h and sched.h.
CLONE_FS, CLONE_NEWNS = 0x00000200, 0x00020000
MS_REMOUNT, MS_BIND, MS_REC, MS_SLAVE = 0x20, 0x1000, 0x4000, 0x80000
OWN_NAMESPACE = Path("/proc/self/ns/mnt")
KEPT_FLAGS = {"nosuid": 0x2, "nodev": 0x4, "noexec": 0x8, "noatime": 0x400, "nodiratime": 0x800}


def mounts(mountinfo: Path) -> dict[str, guard.Mount]:
    """Mounts by place; of several at one place the last, which is the one that is seen."""
    return {mount.point: mount for mount in guard.mounts(mountinfo)}


def of_volume(found: dict[str, guard.Mount]) -> list[guard.Mount]:
    """Those of `PLACES` that show the system volume: somebody's own mount there is not ours."""
    volume = found.get(VOLUME)
    if volume is None:
        return []
    return [found[name] for name in PLACES if name in found and found[name].device == volume.device]


def writable(places: Sequence[str], mountinfo: Path | None = None) -> list[str]:
    """Those of *places* that are mounted and not read-only, as all but this process see them."""
    if not places:
        return []
    found = mounts(mountinfo or SEEN_BY_ALL)
    return [name for name in places if name in found and "ro" not in found[name].flags]


class _Home:
    """The mount namespace that this process was started in, while it is in one of its own."""

    descriptor: int | None = None

    def leave(self, libc: ctypes.CDLL) -> None:
        """Go on in a namespace of this process alone."""
        home = os.open(OWN_NAMESPACE, os.O_RDONLY)
        _check(libc.unshare(CLONE_NEWNS), "a mount namespace could not be made")
        self.descriptor = home

    def come_back(self, libc: ctypes.CDLL) -> None:
        """Be there again, where this process has left it."""
        if self.descriptor is None:
            return
        # Whoever shares root and working directory, as threads do, may not move.
        _check(libc.unshare(CLONE_FS), "the working directory could not be set apart")
        moved = libc.setns(self.descriptor, CLONE_NEWNS)
        _check(moved, "the mount namespace of all could not be entered")
        os.close(self.descriptor)
        self.descriptor = None


_home = _Home()


def open_for_this_process(mountinfo: Path | None = None) -> list[str]:
    """Make the read-only places writable for this process and its children; gives which.

    To be called again when places were mounted: they are found as all see them then. A machine
    whose places are not mounted yet stays as it is. Main thread only. Raises `KubewrightError`
    where the volume's file system itself has become read-only, `OSError` where the kernel refuses.
    """
    libc = ctypes.CDLL(None, use_errno=True)
    _home.come_back(libc)
    found = mounts(mountinfo or MOUNTINFO)
    closed = [mount for mount in of_volume(found) if "ro" in mount.flags]
    if not closed:
        return []
    if "ro" in closed[0].options:
        raise KubewrightError(
            f"The file system of {VOLUME} has become read-only: the kernel does that when "
            "it finds errors. Nothing was changed. Find the cause (`dmesg`, the disk), "
            "then reboot the node, which checks the volume."
        )
    _home.leave(libc)
    # Mounts that systemd makes from now on are seen here; ours are seen nowhere else.
    _check(libc.mount(b"none", b"/", None, MS_REC | MS_SLAVE, None), "/ could not be set apart")
    for mount in closed:
        kept = sum(bit for name, bit in KEPT_FLAGS.items() if name in mount.flags)
        point = os.fsencode(mount.point)
        opened = libc.mount(None, point, None, MS_REMOUNT | MS_BIND | kept, None)
        _check(opened, f"{mount.point} could not be made writable")
    return [mount.point for mount in closed]


def _check(result: int, failed: str) -> None:
    if result != 0:
        number = ctypes.get_errno()
        raise OSError(number, f"{failed}: {os.strerror(number)}")
