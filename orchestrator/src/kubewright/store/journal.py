# SPDX-License-Identifier: Apache-2.0
"""The journal: one line before and one after each run, so that an unfinished run is known.

Lines are JSON objects with ``run`` and ``event``. "started" has what identifies the process that
drove the run (pid, its start time in clock ticks since boot, boot id); "finished" has a status.
"""

from __future__ import annotations

import json
import os
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from kubewright.agreed import lease
from kubewright.store.files import replace

#: The journal is cut to half of this many lines when it has more.
MAX_LINES = 2000


@dataclass(frozen=True)
class Started:
    """A run that was begun. ``pid_started``: field 22 of /proc/<pid>/stat (see proc(5)).

    ``reads``: it changes nothing, and is no part of the cluster's history."""

    run: str
    playbook: str
    operation: str
    pid: int
    pid_started: int
    boot_id: str
    at: str
    reads: bool = False

    @classmethod
    def by_this_process(
        cls, run: str, playbook: str, operation: str, *, reads: bool = False
    ) -> Started:
        """Return the entry for a run that this process begins now."""
        pid = os.getpid()
        began = lease.process(pid)[1]
        return cls(run, playbook, operation, pid, began, lease.boot_id(), _now(), reads)


@dataclass(frozen=True)
class Journal:
    """The journal of one cluster. Write it with the cluster's lock held."""

    path: Path

    def started(self, entry: Started) -> None:
        """Write that a run begins, before it does."""
        self._append({"event": "started", **asdict(entry)})

    def finished(self, run: str, status: str) -> None:
        """Write that a run has ended: successful, failed, canceled, error or abandoned."""
        self._append({"event": "finished", "run": run, "status": status, "at": _now()})

    def unfinished(self) -> list[Started]:
        """Return the runs that were begun and never ended, oldest first."""
        begun: dict[str, Started] = {}
        for line in self.lines():
            if line["event"] == "started":
                entry = _started(line)
                if entry:
                    begun[entry.run] = entry
            else:
                begun.pop(line["run"], None)
        return list(begun.values())

    def newest(self) -> str:
        """Return the id of the run that was begun last and may change something, "" for none."""
        begun = [
            str(line["run"])
            for line in self.lines()
            if line["event"] == "started" and not line.get("reads")
        ]
        return begun[-1] if begun else ""

    def trim(self) -> None:
        """Cut a long journal to its newer half. Call it when no run is unfinished."""
        lines = self.lines()
        if len(lines) > MAX_LINES:
            kept = lines[-MAX_LINES // 2 :]
            replace(self.path, "".join(json.dumps(line) + "\n" for line in kept))

    def _append(self, line: dict[str, Any]) -> None:
        descriptor = os.open(self.path, os.O_RDWR | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            # A line that a crash cut short must not swallow this one.
            size = os.fstat(descriptor).st_size
            cut = size > 0 and os.pread(descriptor, 1, size - 1) != b"\n"
            os.write(descriptor, (b"\n" if cut else b"") + json.dumps(line).encode() + b"\n")
            os.fsync(descriptor)
        finally:
            os.close(descriptor)

    def lines(self) -> list[dict[str, Any]]:
        """Return the lines that can be read; a crash can leave one that was cut short."""
        try:
            text = self.path.read_text(encoding="utf-8", errors="replace")
        except FileNotFoundError:
            return []
        found = []
        for line in text.splitlines():
            try:
                data = json.loads(line)
            except ValueError:
                continue
            if isinstance(data, dict) and "event" in data and "run" in data:
                found.append(data)
        return found


def _started(line: dict[str, Any]) -> Started | None:
    values = {key: value for key, value in line.items() if key != "event"}
    try:
        return Started(**values)
    except TypeError:
        return None


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")
