# SPDX-License-Identifier: Apache-2.0
"""ansible-runner's events to what people and results need. Pure: no clock, no files.

Event names and fields: https://ansible.readthedocs.io/projects/runner/en/stable/intro/
"""

from __future__ import annotations

import json
import re
from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import Any, Literal

from kubewright.act.findings import REPORT, Finding, in_one_sentence, read_findings
from kubewright.act.messages import failure_message, plain, reason
from kubewright.act.result import Change, Failure, HostTasks, Phase

Outcome = Literal["ok", "changed", "failed", "unreachable"]

#: These structure a play; they cost no machine anything.
STRUCTURE = ("include_tasks", "include_role", "import_tasks", "import_role", "meta")
LOCAL = ("localhost", "127.0.0.1")
#: The tasks whose results are answers of the nodes, kept whole.
ANSWERED = ("kubewright.cluster.node_state", "kubewright.cluster.system_image_info")
#: The task that decides in what order nodes that run are changed.
DECISION = "kubewright.cluster.cluster_decision"
#: What a running task has to say (the collection's `_on_node`).
_SAYS = re.compile(r"^kubewright: (\S+): (.+)$")
#: How much output to keep for the case that ansible-playbook ends without an event.
_TAIL = 40


@dataclass(frozen=True)
class PhaseStarted:
    """A play begins."""

    name: str


@dataclass(frozen=True)
class TaskStarted:
    """A task begins, on all hosts of the play or on those that reach it."""

    phase: str
    name: str


@dataclass(frozen=True)
class HostStarted:
    """A host begins a task."""

    task: str
    host: str


@dataclass(frozen=True)
class HostIdle:
    """A task that a host has begun is over without a result: it was skipped, or an include."""

    host: str


@dataclass(frozen=True)
class HostResult:
    """A task ended on a host. ``message`` is set when it failed; ``ignored``: that was expected.

    ``answer``: what the probe said of the node; ``findings``: of the preflight.
    """

    phase: str
    task: str
    host: str
    outcome: Outcome
    message: str = ""
    ignored: bool = False
    answer: Mapping[str, Any] | None = None
    findings: tuple[Finding, ...] = ()


@dataclass(frozen=True)
class HostSays:
    """What a running task on a host has to say: for people, and nothing depends on it.

    ``text`` goes on where the host's name ends: "waits for ...".
    """

    host: str
    text: str


Event = PhaseStarted | TaskStarted | HostStarted | HostIdle | HostSays | HostResult


@dataclass
class _Failed:
    failure: Failure
    ignored: bool


@dataclass
class Tally:
    """Takes raw events one by one and adds them up."""

    changed: bool = False
    counts: dict[Outcome, int] = field(
        default_factory=lambda: {"ok": 0, "changed": 0, "failed": 0, "unreachable": 0}
    )
    host_counts: dict[str, int] = field(default_factory=dict)
    answers: dict[str, Mapping[str, Any]] = field(default_factory=dict)
    findings: tuple[Finding, ...] = ()
    unreachable: dict[str, str] = field(default_factory=dict)
    changes: list[Change] = field(default_factory=list)
    waves: tuple[tuple[str, ...], ...] = ()
    output: deque[str] = field(default_factory=lambda: deque(maxlen=_TAIL))
    _phase: str = ""
    _phase_began: datetime | None = None
    _plays: list[tuple[str, datetime]] = field(default_factory=list)
    _last: datetime | None = None
    _failed: list[_Failed] = field(default_factory=list)
    _items: dict[tuple[str, str], list[str]] = field(default_factory=dict)
    _stats: Mapping[str, Any] | None = None

    def feed(self, raw: Mapping[str, Any]) -> Event | None:
        """Take a raw event; return what is worth telling a person."""
        self._clock(raw)
        kind = raw.get("event")
        data = raw.get("event_data") or {}
        if kind == "playbook_on_play_start":
            return self._play(data)
        if kind == "playbook_on_task_start":
            return self._task(data)
        if kind == "runner_on_start":
            return HostStarted(str(data.get("task") or ""), str(data.get("host") or ""))
        if kind == "runner_on_skipped":
            return HostIdle(str(data.get("host") or ""))
        if kind == "playbook_on_stats":
            self._stats = data
        elif kind == "runner_item_on_failed":
            key = (str(data.get("host")), str(data.get("task_uuid")))
            self._items.setdefault(key, []).append(failure_message(data.get("res") or {}))
        elif kind in ("runner_on_ok", "runner_on_failed", "runner_on_unreachable"):
            return self._result(kind, data)
        elif kind in ("verbose", "error", "warning") and raw.get("stdout"):
            if says := _SAYS.match(plain(str(raw["stdout"]).strip())):
                return HostSays(*says.groups())
            self.output.extend(str(raw["stdout"]).splitlines())
        return None

    def host_tasks(self) -> HostTasks:
        """Return the counts so far."""
        return HostTasks(**self.counts)

    def phases(self, ended: datetime | None = None) -> tuple[Phase, ...]:
        """Return the plays with their durations; the last one lasts until ``ended``."""
        last = ended or self._last
        ends = [start for _, start in self._plays[1:]] + ([last] if last else [])
        return tuple(
            Phase(name, max(0.0, (end - start).total_seconds()))
            for (name, start), end in zip(self._plays, ends, strict=False)
        )

    def failures(self) -> tuple[Failure, ...]:
        """Return what made the run fail: neither what was ignored nor what was rescued.

        The final statistics tell rescued hosts from failed ones. They are missing when the run was
        cut short; then all failures are told.
        """
        found = [item.failure for item in self._failed if not item.ignored]
        if self._stats is None:
            return tuple(found)
        lost: set[str] = set()
        for key in ("failures", "dark"):
            lost |= {host for host, count in (self._stats.get(key) or {}).items() if count}
        return tuple(failure for failure in found if failure.host in lost)

    def _clock(self, raw: Mapping[str, Any]) -> None:
        created = raw.get("created")
        if isinstance(created, str):
            moment = datetime.fromisoformat(created)
            self._last = moment if self._last is None else max(self._last, moment)

    def _play(self, data: Mapping[str, Any]) -> PhaseStarted:
        self._phase = str(data.get("name") or data.get("play") or "")
        self._phase_began = self._last
        return PhaseStarted(self._phase)

    def _task(self, data: Mapping[str, Any]) -> TaskStarted:
        """Count a play at its first task: one that no host is part of has none."""
        if self._phase_began is not None:
            self._plays.append((self._phase, self._phase_began))
            self._phase_began = None
        return TaskStarted(self._phase, str(data.get("task") or ""))

    def _result(self, kind: str, data: Mapping[str, Any]) -> HostResult | HostIdle:
        action = str(data.get("task_action", ""))
        host, task = str(data.get("host", "")), str(data.get("task") or "")
        if action.rpartition(".")[2] in STRUCTURE:
            return HostIdle(host)
        result: Mapping[str, Any] = data.get("res") or {}
        outcome: Outcome
        if kind == "runner_on_ok":
            outcome = "changed" if result.get("changed") else "ok"
        else:
            outcome = "failed" if kind == "runner_on_failed" else "unreachable"
        self.changed = self.changed or outcome == "changed"
        if host not in LOCAL:
            self.counts[outcome] += 1
            self.host_counts[host] = self.host_counts.get(host, 0) + 1
        if action == DECISION:
            self.waves = tuple(tuple(map(str, wave)) for wave in result.get("waves") or ())
        found = read_findings(result) if action == REPORT else ()
        self.findings = found or self.findings
        if outcome in ("ok", "changed"):
            return self._done(action, HostResult(self._phase, task, host, outcome), result, found)
        items = self._items.pop((host, str(data.get("task_uuid"))), [])
        message = "; ".join(dict.fromkeys(items)) or failure_message(result)
        if found:
            message = in_one_sentence(found)  # the action's own words are the whole table
        ignored = bool(data.get("ignore_errors"))
        self._failed.append(_Failed(Failure(host, task, message), ignored))
        if outcome == "unreachable":
            self.unreachable[host] = reason(message)
        return HostResult(self._phase, task, host, outcome, message, ignored, findings=found)

    def _done(
        self,
        action: str,
        event: HostResult,
        result: Mapping[str, Any],
        found: tuple[Finding, ...],
    ) -> HostResult:
        self.unreachable.pop(event.host, None)
        if event.outcome == "changed":
            self.changes.append(Change(event.host, event.task, tuple(_differences(result))))
        answer = None
        if action in ANSWERED:
            answer = self.answers[event.host] = result
        return replace(event, answer=answer, findings=found)


def _differences(result: Mapping[str, Any]) -> list[dict[str, str]]:
    """Return what a task shows with --diff: of itself, or of each item of its loop."""
    parts = [result, *(one for one in result.get("results") or () if isinstance(one, Mapping))]
    found = []
    for part in parts:
        diff = part.get("diff")
        for one in diff if isinstance(diff, list) else [diff]:
            if isinstance(one, Mapping):
                found.append({str(key): _words(value) for key, value in one.items()})
    return found


def _words(value: object) -> str:
    """Return text as it is, and data as Ansible prints it in a difference."""
    return value if isinstance(value, str) else json.dumps(value, indent=4, sort_keys=True) + "\n"
