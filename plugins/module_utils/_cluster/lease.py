# Copyright: the Kubewright authors
# Apache License 2.0 (see LICENSE or https://www.apache.org/licenses/LICENSE-2.0)
"""The lock of a cluster on the controller: a lease that says which process has it.

The lock's file is one JSON object with the fields of `Lease`. It stays. A ``flock`` on it guards
one read and write at a time, so that a process that stands still holds nothing but a lease that
runs out.
"""

from __future__ import annotations

import contextlib
import datetime
import errno
import fcntl
import json
import os
import threading
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path
from typing import Any

# One that stands still for so long can be overtaken. A lease ends with its process.
TTL_SECONDS = 30.0
# How long to wait for another process's read and write, which take well below one second.
FILE_SECONDS = 10.0
# No lease is longer; a longer file is none.
_MAX_BYTES = 1 << 16


@dataclass(frozen=True)
class Lease:
    """An entry of the lock's file; the fields are those of the file.

    `pid_started`: field 22 of ``/proc/<pid>/stat``, see proc(5). `since`: UTC, ISO 8601. `ttl`:
    seconds that it holds after `renewed`; 0 when it was given back. `renewed`: seconds of
    ``CLOCK_BOOTTIME``, which goes on while the machine is suspended.
    """

    pid: int
    pid_started: int
    boot_id: str
    operation: str
    since: str
    ttl: float
    renewed: float

    @classmethod
    def of(cls, pid: int, operation: str, ttl: float) -> Lease:
        """One that process *pid* holds from now on. Raises ProcessLookupError."""
        began = started(pid)
        if began is None:
            raise ProcessLookupError(errno.ESRCH, "No such process", f"/proc/{pid}/stat")
        since = datetime.datetime.now(datetime.timezone.utc).isoformat(timespec="seconds")
        return cls(pid, began, boot_id(), operation, since, ttl, _uptime())

    @classmethod
    def parse(cls, text: bytes) -> Lease | None:
        """What the lock's file says; None when it says nothing, or was cut while it was written."""
        try:
            data: Any = json.loads(text)
            found = cls(**{field.name: data[field.name] for field in fields(cls)})
            datetime.datetime.fromisoformat(found.since)
        except (ValueError, KeyError, TypeError):
            return None
        whole = all(type(value) is int for value in (found.pid, found.pid_started))
        numbers = all(type(value) in (int, float) for value in (found.ttl, found.renewed))
        words = all(isinstance(value, str) for value in (found.boot_id, found.operation))
        return found if whole and numbers and words else None

    def __str__(self) -> str:
        """As part of a sentence: ``apply (pid 7, since 2026-01-02 03:04:05 UTC)``."""
        since = datetime.datetime.fromisoformat(self.since).astimezone(datetime.timezone.utc)
        return f"{self.operation} (pid {self.pid}, since {since:%Y-%m-%d %H:%M:%S} UTC)"

    def is_held(self) -> bool:
        """Whether its process lives and has renewed it in time."""
        return (
            self.boot_id == boot_id()
            and 0 <= _uptime() - self.renewed < self.ttl
            and started(self.pid) == self.pid_started
        )

    def is_of(self, other: Lease | None) -> bool:
        """Whether both are of the same process."""
        mine = (self.boot_id, self.pid, self.pid_started)
        return other is not None and mine == (other.boot_id, other.pid, other.pid_started)

    def renew(self) -> Lease:
        """The same, and its time starts again."""
        return replace(self, renewed=_uptime())

    def give_back(self) -> Lease:
        """The same as its holder leaves it. It still says who has been there."""
        return replace(self, ttl=0)


@contextlib.contextmanager
def exclusive(path: Path, *, create: bool = True) -> Iterator[int]:
    """Hold the ``flock`` on the lock's file, which is made when missing; gives its descriptor.

    Raises TimeoutError when another process keeps it for longer than `FILE_SECONDS`, and
    FileNotFoundError without *create*. Any thread may ask.
    """
    fd = os.open(path, os.O_RDWR | os.O_CLOEXEC | (os.O_CREAT if create else 0), 0o600)
    _flock(fd, path)
    try:
        yield fd
    finally:
        # Closing is not enough: a child that was forked just now has a copy until it execs.
        fcntl.flock(fd, fcntl.LOCK_UN)
        os.close(fd)


def read(fd: int) -> Lease | None:
    """The lease in the file; None when there is none that can be read."""
    return Lease.parse(os.pread(fd, _MAX_BYTES, 0))


def write(fd: int, lease: Lease) -> None:
    """Replace the lease in the file. Its end is cut off last: a reader never takes half of it."""
    data = json.dumps(asdict(lease)).encode() + b"\n"
    os.pwrite(fd, data, 0)
    os.ftruncate(fd, len(data))


def renew(path: Path, pid: int, began: int) -> bool:
    """Let the time of a process's lease start again; False where it has the lease no more."""
    try:
        with exclusive(path, create=False) as fd:
            found = read(fd)
            if found is None or (found.boot_id, found.pid, found.pid_started) != (
                boot_id(),
                pid,
                began,
            ):
                return False
            write(fd, found.renew())
            return True
    except FileNotFoundError:
        return False


def started(pid: int) -> int | None:
    """When a process started, in clock ticks since boot; None for one that is gone.

    One that only waits for its parent is gone.
    """
    state, ticks = process(pid)
    return None if state in "ZX" else ticks


def process(pid: int) -> tuple[str, int]:
    """A process's state (one letter) and when it started, see proc(5); X where there is none."""
    try:
        text = Path(f"/proc/{pid}/stat").read_text("utf-8", "replace")
    except OSError:
        return "X", 0
    # The second field is the name in parentheses, which may hold blanks and parentheses.
    fields_of_stat = text.rpartition(")")[2].split()
    return fields_of_stat[0], int(fields_of_stat[19])


def boot_id() -> str:
    """The id of this boot of the machine, random(4)."""
    return Path("/proc/sys/kernel/random/boot_id").read_text("ascii").strip()


def _uptime() -> float:
    return round(time.clock_gettime(time.CLOCK_BOOTTIME), 3)


def _flock(fd: int, path: Path) -> None:
    """Take the lock or close the descriptor. The kernel waits, in a thread that can be left."""
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        return
    except BlockingIOError:
        pass
    except OSError:
        os.close(fd)
        raise
    if not _Waiting(fd).taken_within(FILE_SECONDS):
        raise TimeoutError(
            errno.ETIMEDOUT,
            f"another process has kept it locked for {FILE_SECONDS:g} s, although it should "
            "take less than one; find the process with fuser(1) and stop it",
            str(path),
        )


class _Waiting:
    """A thread that waits for flock(2); one that nobody waits for any more closes the file."""

    def __init__(self, fd: int) -> None:
        self._fd = fd
        self._ended = threading.Event()
        self._guard = threading.Lock()
        self._left = False
        self._error: OSError | None = None
        threading.Thread(target=self._wait, name="flock", daemon=True).start()

    def _wait(self) -> None:
        try:
            fcntl.flock(self._fd, fcntl.LOCK_EX)
        except OSError as error:
            self._error = error
        with self._guard:
            if self._left or self._error:
                os.close(self._fd)
            self._ended.set()

    def taken_within(self, seconds: float) -> bool:
        """Whether the lock was taken; if not, the descriptor is no longer the caller's."""
        try:
            self._ended.wait(seconds)
        finally:
            with self._guard:
                self._left = not self._ended.is_set()
        if self._error:
            raise self._error
        return not self._left
