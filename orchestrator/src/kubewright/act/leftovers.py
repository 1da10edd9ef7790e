# SPDX-License-Identifier: Apache-2.0
"""Processes of a run, found by the run's id in their environment and ended.

ansible-playbook outlives its parent (ansible-runner starts it with SIGHUP ignored), and its
workers make sessions of their own, so that neither process groups nor parents tell what belongs
to a run. The environment does: it is inherited, and /proc shows it as it was at exec (proc(5)).
"""

from __future__ import annotations

import os
import select
import signal
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from kubewright.act.environment import RUN_VARIABLE

#: Seconds between SIGTERM and SIGKILL, and between SIGKILL and giving up.
GRACE = 10.0
LAST_GRACE = 10.0

#: What a machine lives on after the run that made it: podman's monitors and network helpers.
#: They inherit the run's environment, but they are its result and not its leftovers.
LASTING = frozenset(
    {"conmon", "aardvark-dns", "netavark", "pasta", "pasta.avx2", "slirp4netns", "rootlessport"}
)


class LeftoverError(Exception):
    """Processes of an earlier run can't be ended; the message names them and says what to do."""


@dataclass(frozen=True)
class Process:
    """A process, and a descriptor (pidfd) that can't come to mean another one."""

    pid: int
    name: str
    descriptor: int


class Processes(Protocol):
    """The processes of this machine."""

    def of_run(self, run: str) -> list[Process]:
        """Return those of a run, open; the caller closes them."""

    def stopped(self, process: Process) -> bool:
        """Return whether it stands still, by SIGSTOP or the like."""

    def send(self, process: Process, number: signal.Signals) -> None:
        """Send a signal; a process that is gone is no error."""

    def wait(self, processes: list[Process], seconds: float) -> list[Process]:
        """Return those that have not ended within that time."""

    def close(self, processes: list[Process]) -> None:
        """Close their descriptors."""


class System:
    """The processes of this machine, by /proc and pidfd_open(2)."""

    def of_run(self, run: str) -> list[Process]:
        """Return the processes whose environment names exactly this run."""
        found = []
        for entry in Path("/proc").iterdir():
            if entry.name.isdigit() and int(entry.name) != os.getpid() and _names(entry, run):
                process = self._open(int(entry.name), run)
                if process is not None:
                    found.append(process)
        return found

    def _open(self, pid: int, run: str) -> Process | None:
        try:
            descriptor = os.pidfd_open(pid)
        except OSError:
            return None
        # Asked again, now that the number can't come to mean another process.
        if not _names(Path(f"/proc/{pid}"), run):
            os.close(descriptor)
            return None
        return Process(pid, _name(pid), descriptor)

    def stopped(self, process: Process) -> bool:
        """Return whether its state is T (proc(5)): any signal but SIGKILL would wait."""
        try:
            text = Path(f"/proc/{process.pid}/stat").read_text(encoding="utf-8", errors="replace")
        except OSError:  # gone
            return False
        return text.rpartition(")")[2].split()[0] == "T"

    def send(self, process: Process, number: signal.Signals) -> None:
        """Send a signal to exactly this process."""
        try:
            signal.pidfd_send_signal(process.descriptor, number)
        except ProcessLookupError:
            pass

    def wait(self, processes: list[Process], seconds: float) -> list[Process]:
        """Wait for ends; a pidfd becomes readable when its process has ended."""
        poller = select.poll()
        left = {process.descriptor: process for process in processes}
        for descriptor in left:
            poller.register(descriptor, select.POLLIN)
        deadline = time.monotonic() + seconds
        while left and (remaining := deadline - time.monotonic()) > 0:
            for descriptor, _ in poller.poll(remaining * 1000):
                poller.unregister(descriptor)
                del left[descriptor]
        return list(left.values())

    def close(self, processes: list[Process]) -> None:
        """Close the descriptors."""
        for process in processes:
            os.close(process.descriptor)


def _names(process: Path, run: str) -> bool:
    try:
        variables = (process / "environ").read_bytes().split(b"\0")
    except OSError:  # gone, or another user's
        return False
    return f"{RUN_VARIABLE}={run}".encode() in variables


def _name(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/comm").read_text(encoding="utf-8", errors="replace").strip()
    except OSError:
        return ""


def end(
    run: str,
    processes: Processes | None = None,
    *,
    grace: float = GRACE,
    last_grace: float = LAST_GRACE,
) -> int:
    """End all processes of a run: SIGTERM, and SIGKILL for those that stay. Return how many.

    One that stands still gets SIGKILL at once: SIGTERM waits until it continues, and then it
    could write before it ends. Looks again until none is left, since a process may have started
    another meanwhile.

    :raises LeftoverError: some are still there after SIGKILL.
    """
    system = processes or System()
    ended: set[int] = set()
    left: list[str] = []
    for number, seconds in (
        (signal.SIGTERM, grace),
        (signal.SIGKILL, last_grace),
        (signal.SIGKILL, last_grace),
    ):
        found = system.of_run(run)
        try:
            mine = [process for process in found if process.name not in LASTING]
            for process in mine:
                system.send(process, signal.SIGKILL if system.stopped(process) else number)
            stayed = system.wait(mine, seconds)
            ended |= {process.pid for process in mine} - {process.pid for process in stayed}
            left = [f"{process.pid} ({process.name})" for process in stayed]
        finally:
            system.close(found)
        if not mine:
            return len(ended)
    if left:
        raise LeftoverError(
            f"processes of the run {run} do not exit: {', '.join(left)}; "
            "see what they wait for (cat /proc/<pid>/wchan), or reboot this machine"
        )
    return len(ended)
