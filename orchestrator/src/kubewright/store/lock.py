# SPDX-License-Identifier: Apache-2.0
"""One operation at a time on a cluster, across processes.

The lock is flock(2) on a file that stays: it ends with the process that holds it, however that
ends. The descriptor is closed on exec, so that no child keeps the lock by living longer.
"""

from __future__ import annotations

import fcntl
import json
import os
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from types import TracebackType


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


class Locked(Exception):
    """Another operation runs on this cluster."""

    def __init__(self, path: Path, holder: Holder) -> None:
        super().__init__(f"{holder} holds {path}")
        self.path = path
        self.holder = holder


class Lock:
    """Context manager that holds a cluster's lock. Entering it raises :class:`Locked`."""

    def __init__(self, path: Path, operation: str) -> None:
        self.path = path
        self.operation = operation
        self._descriptor: int | None = None

    def __enter__(self) -> Lock:
        descriptor = os.open(self.path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            os.close(descriptor)
            raise Locked(self.path, read_holder(self.path)) from error
        holder = {
            "pid": os.getpid(),
            "operation": self.operation,
            "since": datetime.now(UTC).isoformat(timespec="seconds"),
        }
        os.ftruncate(descriptor, 0)
        os.pwrite(descriptor, json.dumps(holder).encode() + b"\n", 0)
        self._descriptor = descriptor
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._descriptor is not None:
            os.ftruncate(self._descriptor, 0)
            os.close(self._descriptor)
            self._descriptor = None


def read_holder(path: Path) -> Holder:
    """Return what the lock's file says of its holder; its writer may be just about to write it."""
    try:
        data = json.loads(path.read_text(encoding="utf-8"))
        since = datetime.fromisoformat(data["since"]).astimezone(UTC)
        return Holder(int(data["pid"]), str(data["operation"]), since)
    except (OSError, ValueError, KeyError, TypeError):
        return Holder()
