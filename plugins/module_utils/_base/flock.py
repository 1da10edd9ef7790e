# Copyright: the Kubewright authors
# Apache License 2.0 (see LICENSE or https://www.apache.org/licenses/LICENSE-2.0)
"""Locks of the kernel's: who holds one, and taking one within a time."""

from __future__ import annotations

import contextlib
import fcntl
import signal
from pathlib import Path
from types import FrameType


def holders(path: Path) -> list[int]:
    """The process ids of those that hold a ``flock`` on *path*; who only waits for it does not.

    The kernel marks the descriptors that hold a lock in ``fdinfo``, also those that were inherited.
    """
    pids = []
    for process in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            for fd in (process / "fd").iterdir():
                if str(fd.readlink()) == str(path):
                    if "FLOCK" in (process / "fdinfo" / fd.name).read_text("ascii", "replace"):
                        pids.append(int(process.name))
                    break
    return pids


class _Expired(Exception):
    """The alarm rang while waiting."""


def take(fd: int, timeout: float) -> bool:
    """Take an exclusive ``flock`` on *fd* within *timeout* seconds; False when time ran out.

    The kernel waits, not a loop; SIGALRM ends the wait. Main thread only when it has to wait.
    """
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        return True
    except BlockingIOError:
        if timeout <= 0:
            return False
    waiting = True

    def expired(_signum: int, _frame: FrameType | None) -> None:
        if waiting:
            raise _Expired

    previous = signal.signal(signal.SIGALRM, expired)
    try:
        signal.setitimer(signal.ITIMER_REAL, timeout)
        fcntl.flock(fd, fcntl.LOCK_EX)
        waiting = False
        return True
    except _Expired:
        return False
    finally:
        waiting = False
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, previous)
