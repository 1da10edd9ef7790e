# SPDX-License-Identifier: Apache-2.0
"""The lease of a cluster, as the lock's file has it: who holds it, and for how long.

The file is one JSON object with the fields of :class:`Lease`. It stays; flock(2) on it is held
for one read and write at a time, so that a process that stands still holds nothing but a lease
that runs out. The collection's ``module_utils/_cluster/lease.py`` reads and writes the same.
"""

from __future__ import annotations

import dataclasses
import errno
import fcntl
import json
import os
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from kubewright.store.journal import boot_id, start_time

#: Seconds to wait for another process to finish its read and write, which takes well below one.
FILE_SECONDS = 10.0
#: No lease is longer; a longer file is none.
_MAX_BYTES = 1 << 16


@dataclass(frozen=True)
class Holder:
    """Who holds a lock: a process id, the operation's name, and since when. None = not known."""

    pid: int | None = None
    operation: str | None = None
    since: datetime | None = None

    def __str__(self) -> str:
        """Return it as part of a sentence: ``apply (pid 7, since 2026-01-02 03:04:05 UTC)``."""
        since = f", since {self.since:%Y-%m-%d %H:%M:%S} UTC" if self.since else ""
        pid = self.pid if self.pid is not None else "unknown"
        return f"{self.operation or 'another operation'} (pid {pid}{since})"


@dataclass(frozen=True)
class Lease:
    """An entry of the lock's file.

    ``pid_started``: field 22 of /proc/<pid>/stat (see proc(5)). ``since``: UTC, ISO 8601.
    ``ttl``: seconds that it holds after ``renewed``; 0 when it was given back. ``renewed``:
    seconds of CLOCK_BOOTTIME, which goes on while the machine is suspended.
    """

    pid: int
    pid_started: int
    boot_id: str
    operation: str
    since: str
    ttl: float
    renewed: float

    @classmethod
    def of_this_process(cls, operation: str, ttl: float) -> Lease:
        """Return a lease that this process holds from now on."""
        pid = os.getpid()
        since = datetime.now(UTC).isoformat(timespec="seconds")
        return cls(pid, start_time(pid), boot_id(), operation, since, ttl, _uptime())

    @classmethod
    def parse(cls, text: bytes) -> Lease | None:
        """Return what a file says; None when it says nothing, or was cut while it was written."""
        try:
            data = json.loads(text)
            found = cls(**{field.name: data[field.name] for field in dataclasses.fields(cls)})
            datetime.fromisoformat(found.since)
        except (ValueError, KeyError, TypeError):
            return None
        whole = all(type(value) is int for value in (found.pid, found.pid_started))
        numbers = all(type(value) in (int, float) for value in (found.ttl, found.renewed))
        words = all(isinstance(value, str) for value in (found.boot_id, found.operation))
        return found if whole and numbers and words else None

    @property
    def holder(self) -> Holder:
        """Who it is, for a sentence."""
        since = datetime.fromisoformat(self.since).astimezone(UTC)
        return Holder(self.pid, self.operation, since)

    def is_held(self) -> bool:
        """Return whether its process lives and has renewed it in time."""
        return (
            self.boot_id == boot_id()
            and 0 <= _uptime() - self.renewed < self.ttl
            and _lives(self.pid, self.pid_started)
        )

    def is_of(self, other: Lease | None) -> bool:
        """Return whether both are of the same process."""
        return other is not None and (self.boot_id, self.pid, self.pid_started) == (
            other.boot_id,
            other.pid,
            other.pid_started,
        )

    def renew(self) -> Lease:
        """Return it with its time beginning anew."""
        return dataclasses.replace(self, renewed=_uptime())

    def give_back(self) -> Lease:
        """Return it as its holder leaves it. It still says who has been there."""
        return dataclasses.replace(self, ttl=0)


def _uptime() -> float:
    return round(time.clock_gettime(time.CLOCK_BOOTTIME), 3)


def _lives(pid: int, started: int) -> bool:
    """Return whether that very process is there. One that only waits for its parent is not."""
    try:
        text = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return False
    fields = text.rpartition(")")[2].split()
    return fields[0] not in "ZX" and int(fields[19]) == started


@contextmanager
def exclusive(path: Path) -> Iterator[int]:
    """Hold flock(2) on the lock's file, which is made when missing; gives its descriptor.

    :raises TimeoutError: another process keeps it for longer than :data:`FILE_SECONDS`.
    """
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    _flock(descriptor, path)
    try:
        yield descriptor
    finally:
        # Closing is not enough: a child that was forked just now has a copy until it execs.
        fcntl.flock(descriptor, fcntl.LOCK_UN)
        os.close(descriptor)


def read(descriptor: int) -> Lease | None:
    """Return the lease in the file; None when there is none that can be read."""
    return Lease.parse(os.pread(descriptor, _MAX_BYTES, 0))


def write(descriptor: int, lease: Lease) -> None:
    """Replace the lease in the file. Its end is cut off last: a reader never takes half of it."""
    data = json.dumps(dataclasses.asdict(lease)).encode() + b"\n"
    os.pwrite(descriptor, data, 0)
    os.ftruncate(descriptor, len(data))


def _flock(descriptor: int, path: Path) -> None:
    """Take the lock or close the descriptor. The kernel waits, in a thread that can be left."""
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        return
    except BlockingIOError:
        pass
    except OSError:
        os.close(descriptor)
        raise
    waiting = _Waiting(descriptor)
    if not waiting.taken_within(FILE_SECONDS):
        raise TimeoutError(
            errno.ETIMEDOUT,
            f"another process has kept it locked for {FILE_SECONDS:g} s, which takes well below "
            "one; find the process with fuser(1) and end it",
            str(path),
        )


class _Waiting:
    """A thread that waits for flock(2); one that nobody waits for any more closes the file."""

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor
        self._ended = threading.Event()
        self._guard = threading.Lock()
        self._left = False
        self._error: OSError | None = None
        threading.Thread(target=self._wait, name="flock", daemon=True).start()

    def _wait(self) -> None:
        try:
            fcntl.flock(self._descriptor, fcntl.LOCK_EX)
        except OSError as error:
            self._error = error
        with self._guard:
            if self._left or self._error:
                os.close(self._descriptor)
            self._ended.set()

    def taken_within(self, seconds: float) -> bool:
        """Return whether the lock was taken; if not, the descriptor is no longer the caller's."""
        try:
            self._ended.wait(seconds)
        finally:
            with self._guard:
                self._left = not self._ended.is_set()
        if self._error:
            raise self._error
        return not self._left
