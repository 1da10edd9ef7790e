# SPDX-License-Identifier: Apache-2.0
"""Callback plugin that records what a run changes, or has the run killed at one of these tasks.

``KUBEWRIGHT_CHAOS_RECORD`` names a file. Each result that changed something becomes a line of it:
a JSON object with ``role`` (empty outside of roles), ``task``, ``play``, ``host``, ``occurrence``
(which start of that task on that host in this run, from 1), ``began`` (seconds since the epoch)
and ``seconds``.

``KUBEWRIGHT_CHAOS_KILL`` is a JSON object with ``role``, ``task``, ``host``, ``occurrence``,
``moment``, ``delay`` (seconds, for "during") and ``report`` (a file, see killer.py). A process
outside of the run does the killing, so that nothing of the run sees another part of it die.

What the moments are, in ansible-core 2.19 (``StrategyBase._queue_task``):

* "before": ``v2_runner_on_start`` is sent by the main process right before it forks the worker of
  that host, and the main process is held there until it is dead. So nothing of the task has run on
  that host, not even its ``when``. On other hosts the same task may be running or be over.
* "during": that long after ``v2_runner_on_start``. It is counted from before the fork, so it
  includes the controller's own work for the task. Where the task ends earlier than in the recorded
  run, it is killed at its end, and the report says "after". A module that runs on a node may go on
  there: its controller is gone, the node is not.
* "after": when the main process has the result. Variables that the task registers are set by then,
  but nothing that follows on that host has begun. On other hosts, tasks run.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ansible.plugins.callback import CallbackBase

DOCUMENTATION = """
name: chaos
type: notification
short_description: Records what a run changes, or has the run killed
description:
  - Only for the tests in C(tests/chaos).
requirements:
  - Enabled in the environment, by E(ANSIBLE_CALLBACK_PLUGINS) and E(ANSIBLE_CALLBACKS_ENABLED).
"""

RECORD_VARIABLE = "KUBEWRIGHT_CHAOS_RECORD"
KILL_VARIABLE = "KUBEWRIGHT_CHAOS_KILL"
RUN_VARIABLE = "KUBEWRIGHT_RUN"
KILLER = Path(__file__).resolve().parents[1] / "killer.py"


@dataclass(frozen=True)
class Start:
    """A task that began on a host; ``clock`` is of time.monotonic()."""

    role: str
    task: str
    host: str
    occurrence: int
    began: float
    clock: float


class CallbackModule(CallbackBase):  # type: ignore[misc]
    """See the module's docstring. Its methods are called in ansible-playbook's main process."""

    CALLBACK_VERSION = 2.0
    CALLBACK_TYPE = "notification"
    CALLBACK_NAME = "chaos"
    CALLBACK_NEEDS_ENABLED = True

    def __init__(self, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self._record = os.environ.get(RECORD_VARIABLE)
        order = os.environ.get(KILL_VARIABLE)
        self._order: dict[str, Any] | None = json.loads(order) if order else None
        self._killer: subprocess.Popen[str] | None = None
        self._play = ""
        self._occurrences: dict[tuple[str, str, str], int] = {}
        self._starts: dict[tuple[str, str], Start] = {}

    def v2_playbook_on_start(self, playbook: Any) -> None:
        """Start the killer now, so that it kills at once when it is told to."""
        if self._order is not None:
            self._killer = _start_killer(self._order)

    def v2_playbook_on_play_start(self, play: Any) -> None:
        """Remember the play's name."""
        self._play = str(play.get_name())

    def v2_runner_on_start(self, host: Any, task: Any) -> None:
        """Number the start, and kill if it is the one."""
        start = self._number(host, task)
        if self._is_ordered(start):
            if self._order["moment"] == "before":  # type: ignore[index]
                self._kill_now("before")
            elif self._order["moment"] == "during":  # type: ignore[index]
                self._tell(float(self._order["delay"]), "during")  # type: ignore[index]

    def v2_runner_on_ok(self, result: Any) -> None:
        """Record a change, and kill if it is the one."""
        start = self._starts.pop((str(result.host.name), str(result.task._uuid)), None)
        if start is None:  # an implicit task, which has no start
            return
        if self._record and result.result.get("changed"):
            self._write(start)
        if self._is_ordered(start) and self._order["moment"] != "before":  # type: ignore[index]
            self._kill_now("after")

    def _number(self, host: Any, task: Any) -> Start:
        role = str(task._role.get_name()).rpartition(".")[2] if task._role else ""
        # As it is written: by now, the task's name is filled in with the variables of some host.
        written = task.get_ds() or {}
        name, where = str(written.get("name") or task.name or task.action), str(host.name)
        occurrence = self._occurrences.get((role, name, where), 0) + 1
        self._occurrences[role, name, where] = occurrence
        start = Start(role, name, where, occurrence, time.time(), time.monotonic())
        self._starts[where, str(task._uuid)] = start
        return start

    def _write(self, start: Start) -> None:
        line = {
            "role": start.role,
            "task": start.task,
            "play": self._play,
            "host": start.host,
            "occurrence": start.occurrence,
            "began": round(start.began, 3),
            "seconds": round(time.monotonic() - start.clock, 3),
        }
        with Path(str(self._record)).open("a", encoding="utf-8") as file:
            file.write(json.dumps(line) + "\n")

    def _is_ordered(self, start: Start) -> bool:
        order = self._order
        return order is not None and all(
            getattr(start, key) == order[key] for key in ("role", "task", "host", "occurrence")
        )

    def _kill_now(self, moment: str) -> None:
        """Have the run killed, and stay here until it is."""
        self._tell(0.0, moment)
        assert self._killer is not None and self._killer.stdout is not None
        said = self._killer.stdout.read()
        raise RuntimeError(f"the killer ended without killing; see its report's .log ({said!r})")

    def _tell(self, delay: float, moment: str) -> None:
        assert self._killer is not None and self._killer.stdin is not None
        self._killer.stdin.write(f"{delay} {moment}\n")
        self._killer.stdin.flush()


def _start_killer(order: dict[str, Any]) -> subprocess.Popen[str]:
    """Start it outside of the run: without the run's mark, in a session of its own."""
    run = os.environ[RUN_VARIABLE]
    outside = {key: value for key, value in os.environ.items() if key != RUN_VARIABLE}
    with Path(f"{order['report']}.log").open("w", encoding="utf-8") as log:
        # -P: the tests' modules must not stand in for those of a library.
        killer = subprocess.Popen(
            [sys.executable, "-P", str(KILLER), run, str(os.getppid()), str(order["report"])],
            env=outside,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=log,
            start_new_session=True,
            text=True,
        )
    assert killer.stdout is not None
    if killer.stdout.readline().strip() != "ready":
        raise RuntimeError(f"the killer does not start; see {order['report']}.log")
    return killer
