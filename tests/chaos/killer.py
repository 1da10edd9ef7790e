# SPDX-License-Identifier: Apache-2.0
"""Kills a run and the command that drives it, all at once: as a controller that loses power.

    killer.py <run> <process id of the command> <report>

Started by the callback plugin, outside of the run. It prints "ready", then reads lines
``<seconds> <moment>`` from stdin: the newest one says how long to wait before killing, and what
to call that moment. When stdin ends, the run has ended by itself, and nobody is killed.

What belongs to the run: every process that has its mark in the environment, as the command's own
search for leftovers has it, and all descendants of the command, because a task may take the mark
away. podman's monitors and network helpers live on, with what they run: they are the machines.

All are stopped first, and only then killed, so that none sees another one die and cleans up. The
report (a JSON object: ``run``, ``moment``, ``killed`` with the names of the processes) is written
in between; the command is killed last. So when the command has ended, the report is there and all
others are dead.
"""

from __future__ import annotations

import json
import os
import select
import signal
import sys
from pathlib import Path

from kubewright.act.leftovers import LASTING, Process, System

#: As in the callback plugin: who has the same order is the command, and nobody else.
KILL_VARIABLE = "KUBEWRIGHT_CHAOS_KILL"
#: Seconds that killed processes may take to be gone.
LIMIT = 30.0


def wait_for_order(stdin: int) -> str | None:
    """Return the moment's name once it is time to kill; None when the run ended by itself."""
    moment, seconds = "", None
    while select.select([stdin], [], [], seconds)[0]:
        said = os.read(stdin, 4096).decode()
        if not said:
            return None
        delay, moment = said.splitlines()[-1].split()
        seconds = float(delay)
    return moment


def descendants(root: int, parents: dict[int, tuple[int, str]]) -> set[int]:
    """Return all that come from ``root``, itself included; lasting ones and theirs are left out.

    ``parents`` has each process's parent and name.
    """
    children: dict[int, list[int]] = {}
    for pid, (parent, name) in parents.items():
        if name not in LASTING:
            children.setdefault(parent, []).append(pid)
    found, todo = {root}, [root]
    while todo:
        new = [pid for pid in children.get(todo.pop(), []) if pid not in found]
        found.update(new)
        todo.extend(new)
    return found


def parents_now() -> dict[int, tuple[int, str]]:
    """Return each process's parent and name, proc(5)."""
    found = {}
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                text = (entry / "stat").read_text(encoding="utf-8", errors="replace")
            except OSError:  # it has ended
                continue
            name, _, rest = text.partition("(")[2].rpartition(")")
            found[int(entry.name)] = (int(rest.split()[1]), name)
    return found


def stop_all(run: str, command: Process) -> list[Process]:
    """Stop the command first, then every process of the run; return these without the command."""
    system = System()
    system.send(command, signal.SIGSTOP)
    stopped: dict[int, Process] = {}
    new = True
    # Until a look finds no new one: what was not stopped yet may have started another.
    while new:
        found = [entry for entry in system.of_run(run) if entry.name not in LASTING]
        found += _open(descendants(command.pid, parents_now()) - {entry.pid for entry in found})
        fresh = [
            entry
            for entry in found
            if entry.pid not in (command.pid, os.getpid()) and entry.pid not in stopped
        ]
        for entry in fresh:
            system.send(entry, signal.SIGSTOP)
        system.close([entry for entry in found if entry not in fresh])
        stopped |= {entry.pid: entry for entry in fresh}
        new = bool(fresh)
    return list(stopped.values())


def _open(pids: set[int]) -> list[Process]:
    found = []
    for pid in pids:
        try:
            descriptor = os.pidfd_open(pid)
            name = Path(f"/proc/{pid}/comm").read_text(encoding="utf-8", errors="replace").strip()
        except OSError:  # it has ended
            continue
        found.append(Process(pid, name, descriptor))
    return found


def kill_all(run: str, command: Process, moment: str, report: Path) -> None:
    """Stop, report, kill; the command comes last."""
    system = System()
    others = stop_all(run, command)
    names = sorted(entry.name for entry in (*others, command))
    text = json.dumps({"run": run, "moment": moment, "killed": names})
    report.write_text(text + "\n", encoding="utf-8")
    for entry in others:
        system.send(entry, signal.SIGKILL)
    left = system.wait(others, LIMIT)
    system.send(command, signal.SIGKILL)
    if left:
        sys.exit(f"not dead {LIMIT:.0f} s after SIGKILL: {[entry.name for entry in left]}")


def open_command(pid: int) -> Process:
    """Return the command, held by a descriptor; refuse any process that is not it.

    Its parent may have died meanwhile, and then the number is that of whoever adopted the run.
    """
    command = Process(pid, "command", os.pidfd_open(pid))
    order = f"{KILL_VARIABLE}={os.environ[KILL_VARIABLE]}".encode()
    if order not in Path(f"/proc/{pid}/environ").read_bytes().split(b"\0"):
        sys.exit(f"process {pid} was not given this order to kill: it is not the command")
    return command


def main(run: str, pid: int, report: Path) -> None:
    """Wait for the order and carry it out."""
    command = open_command(pid)
    print("ready", flush=True)
    moment = wait_for_order(sys.stdin.fileno())
    if moment is None:
        return
    if not System().wait([command], 0.001):
        sys.exit("the command had ended before it was to be killed")
    kill_all(run, command, moment, report)


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]), Path(sys.argv[3]))
