# SPDX-License-Identifier: Apache-2.0
"""A command that stands still, with all its processes, as on a machine that was suspended."""

from __future__ import annotations

import os
import signal
from dataclasses import dataclass
from pathlib import Path

from waiting import NotYet, until

from kubewright.act.environment import RUN_VARIABLE


@dataclass(frozen=True)
class Frozen:
    """Processes that stand still: descriptors (pidfd) by process id."""

    processes: dict[int, int]

    def wake(self) -> None:
        """Let those go on that are still there."""
        for descriptor in self.processes.values():
            _send(descriptor, signal.SIGCONT)
            os.close(descriptor)


def freeze(root: int, limit: float) -> Frozen:
    """Stop a process, all that descends from it, and all of its runs; ``limit`` is in seconds.

    Not while podman works: it would keep its own lock, and with it everybody else from this
    host's machines.
    """

    def look() -> Frozen:
        frozen = _freeze(root)
        if any(_text(pid, "comm") == "podman" for pid in frozen.processes):
            frozen.wake()
            raise NotYet("podman works")
        return frozen

    return until("between two calls of podman", look, limit, interval=0.05)


def _freeze(root: int) -> Frozen:
    """Stop what is found, until nothing else is: a process may have made another meanwhile."""
    stopped: dict[int, int] = {}
    while True:
        new = _processes(root) - set(stopped)
        if not new:
            return Frozen(stopped)
        for pid in sorted(new, key=lambda pid: pid != root):
            try:
                stopped[pid] = os.pidfd_open(pid)
            except ProcessLookupError:  # it has ended
                continue
            _send(stopped[pid], signal.SIGSTOP)


def _processes(root: int) -> set[int]:
    """Return a process, its descendants, and all processes that name a run of theirs."""
    pids = [int(entry.name) for entry in Path("/proc").iterdir() if entry.name.isdigit()]
    parents = {pid: _parent(pid) for pid in pids}
    family, size = {root}, 0
    while len(family) > size:
        size = len(family)
        family |= {pid for pid, parent in parents.items() if parent in family}
    runs = {_run(pid) for pid in family} - {""}
    found = family | {pid for pid in pids if _run(pid) in runs}
    # What carries ssh's connections is there for every command of this host.
    return {pid for pid in found if parents.get(pid) and "[mux]" not in _text(pid, "cmdline")}


def _parent(pid: int) -> int:
    """Return a process's parent, 0 for one that has ended (proc(5))."""
    fields = _text(pid, "stat").rpartition(")")[2].split()
    return int(fields[1]) if fields and fields[0] not in "ZX" else 0


def _run(pid: int) -> str:
    """Return the run that a process names in its environment."""
    prefix = f"{RUN_VARIABLE}="
    names = [text for text in _text(pid, "environ").split("\0") if text.startswith(prefix)]
    return names[0].removeprefix(prefix) if names else ""


def _text(pid: int, name: str) -> str:
    try:
        return Path(f"/proc/{pid}/{name}").read_text(errors="replace").strip()
    except OSError:  # it has ended
        return ""


def _send(descriptor: int, number: signal.Signals) -> None:
    try:
        signal.pidfd_send_signal(descriptor, number)
    except ProcessLookupError:  # it has ended
        pass
