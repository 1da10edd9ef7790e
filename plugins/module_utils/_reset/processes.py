# Copyright: the Kubewright authors
# Apache License 2.0 (see LICENSE or https://www.apache.org/licenses/LICENSE-2.0)
"""Pods' processes and control groups that outlive their runtime."""

from __future__ import annotations

import contextlib
import os
import select
import signal
import time
from collections.abc import Collection, Iterable, Iterator
from pathlib import Path

from ansible_collections.kubewright.cluster.plugins.module_utils._base import owned

KILL_SECONDS = 30.0


def ours(proc: Path, services: Collection[str] = ()) -> dict[int, str]:
    """Name by process id, of what runs in a pod, or is left of one of *services* (units)."""
    found = {}
    for process in proc.glob("[0-9]*"):
        # One that has ended meanwhile is no longer there to be read.
        with contextlib.suppress(OSError):
            groups = (process / "cgroup").read_text("utf-8", "replace")
            if owned.is_in_group(groups, services):
                found[int(process.name)] = (process / "comm").read_text("utf-8", "replace").strip()
    return found


def confined(proc: Path, profile: str) -> bool:
    """Whether AppArmor confines a process by *profile*, see apparmor(7)."""
    for process in proc.glob("[0-9]*"):
        with contextlib.suppress(OSError):
            words = (process / "attr/current").read_text("utf-8", "replace")
            if words.partition(" (")[0].strip() == profile:
                return True
    return False


def kill(pids: Iterable[int], seconds: float = KILL_SECONDS) -> list[int]:
    """Kill processes and wait until they have ended; gives those that have not in time.

    By descriptors, so that a number which is used anew is never killed.
    """
    waiting: dict[int, int] = {}
    poll = select.poll()
    try:
        for pid in pids:
            with contextlib.suppress(ProcessLookupError):
                descriptor = os.pidfd_open(pid)
                waiting[descriptor] = pid
                poll.register(descriptor, select.POLLIN)
                signal.pidfd_send_signal(descriptor, signal.SIGKILL)
        end = time.monotonic() + seconds
        left = set(waiting)
        while left and (remaining := end - time.monotonic()) > 0:
            for descriptor, _ in poll.poll(remaining * 1000):
                poll.unregister(descriptor)
                left.discard(descriptor)
        return sorted(waiting[descriptor] for descriptor in left)
    finally:
        for descriptor in waiting:
            os.close(descriptor)


def groups(cgroups: Path) -> list[Path]:
    """Directories of pods' control groups, in the one hierarchy (v2) or in each (v1)."""
    roots = [cgroups]
    if cgroups.is_dir() and not (cgroups / "cgroup.controllers").exists():
        roots += sorted(cgroups.iterdir())
    found: dict[Path, None] = {}
    for root in roots:
        for name in owned.POD_GROUPS:
            path = root / name
            if path.is_dir():
                # Several names may stand for one hierarchy: cpu -> cpu,cpuacct.
                found[path.resolve()] = None
    return list(found)


def remove_group(path: Path) -> None:
    """Remove a control group without processes, and those in it; files there are the kernel's."""
    for directory in _deepest_first(path):
        with contextlib.suppress(FileNotFoundError):
            directory.rmdir()


def _deepest_first(path: Path) -> Iterator[Path]:
    for parent, _, _ in os.walk(path, topdown=False):
        yield Path(parent)
