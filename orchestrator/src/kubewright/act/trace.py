# SPDX-License-Identifier: Apache-2.0
"""Where a run's time went: phases and tasks with begin and duration. Pure: no clock, no files.

A trace holds names and times, never arguments or results, so nothing in it is secret. Events and
their fields: ansible_runner/display_callback/callback/awx_display.py.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from kubewright.act.events import LOCAL, STRUCTURE, Outcome
from kubewright.act.messages import plain

#: How Ansible labels the line of a delegated task: ``changed: [web-1 -> cp-1(10.0.0.1)]``. Events
#: have the name nowhere else: results keep the address alone, and hidden ones not even that.
_DELEGATED = re.compile(r"^\w+: \[(\S+) -> ([^\s\](]+)", re.MULTILINE)
_ENDS = ("runner_on_ok", "runner_on_failed", "runner_on_unreachable", "runner_on_skipped")


class TraceError(Exception):
    """The text is no trace of a schema that is known; the message says why."""


class _Model(BaseModel):
    model_config = ConfigDict(
        frozen=True, extra="forbid", validate_by_name=True, validate_by_alias=True
    )


class TracedPhase(_Model):
    """One play that had a task. ``began``: seconds since the run's begin."""

    name: str
    began: float = Field(ge=0, allow_inf_nan=False)
    seconds: float = Field(ge=0, allow_inf_nan=False)


class TracedTask(_Model):
    """One task on one host. ``began``: seconds since the run's begin, when a worker took it.

    ``role``: its last part, empty outside of roles. ``delegated``: the host that did it instead.
    ``seconds`` end when Ansible took the result. "unfinished": no end was told, so the run was cut.
    """

    phase: str
    role: str
    task: str
    action: str
    host: str
    delegated: str | None
    began: float = Field(ge=0, allow_inf_nan=False)
    seconds: float = Field(ge=0, allow_inf_nan=False)
    outcome: Outcome | Literal["unfinished"]

    @property
    def ended(self) -> float:
        """Seconds since the run's begin."""
        return self.began + self.seconds

    @property
    def part(self) -> str:
        """What it belongs to: its role, or its phase outside of roles."""
        return self.role or self.phase

    @property
    def local(self) -> bool:
        """Whether it belongs to the controller, not to a machine."""
        return self.host in LOCAL


class Trace(_Model):
    """A run: ``began`` is UTC, ``seconds`` its wall time; tasks are in order of their begin.

    Skipped tasks and includes are left out: they cost nothing.
    """

    schema_: Literal[1] = Field(1, alias="schema")
    run: str
    playbook: str
    began: datetime
    seconds: float = Field(ge=0, allow_inf_nan=False)
    phases: tuple[TracedPhase, ...]
    tasks: tuple[TracedTask, ...]

    @classmethod
    def parse(cls, text: str | bytes) -> Self:
        """Return the trace that a file holds.

        :raises TraceError: it is damaged, or of another schema.
        """
        try:
            return cls.model_validate_json(text)
        except ValidationError as error:
            first = error.errors(include_url=False, include_input=False)[0]
            where = ".".join(str(part) for part in first["loc"])
            raise TraceError(f"{where}: {first['msg']}" if where else first["msg"]) from error

    def as_dict(self) -> dict[str, Any]:
        """Return it as plain data for JSON."""
        return self.model_dump(mode="json", by_alias=True)

    def text(self) -> str:
        """Return it as it stands in a file."""
        return self.model_dump_json(by_alias=True) + "\n"

    @property
    def host_tasks(self) -> int:
        """How many tasks ended on machines, as :class:`kubewright.act.HostTasks` counts them."""
        return sum(not task.local and task.outcome != "unfinished" for task in self.tasks)

    @property
    def changed(self) -> int:
        """How many of the host-tasks changed something."""
        return sum(not task.local and task.outcome == "changed" for task in self.tasks)


@dataclass
class _Open:
    """A task that a host has begun."""

    uuid: str
    phase: str
    role: str
    task: str
    action: str
    host: str
    began: float
    delegated: str | None = None


class Tracer:
    """Takes raw events one by one; ``began`` is when the run did.

    A host does one task at a time, with any strategy, so a task's begin is known by its host.
    """

    def __init__(self, run: str, playbook: str, began: datetime) -> None:
        self._run = run
        self._playbook = playbook
        self._began = began.astimezone(UTC)
        self._phase = ""
        self._phase_began: float | None = None
        self._phases: list[tuple[str, float]] = []
        self._open: dict[str, _Open] = {}
        self._tasks: list[TracedTask] = []
        self._all_ended: float | None = None

    def feed(self, raw: Mapping[str, Any]) -> None:
        """Take a raw event of ansible-runner."""
        kind = str(raw.get("event"))
        data: Mapping[str, Any] = raw.get("event_data") or {}
        if kind == "playbook_on_play_start":
            self._phase = str(data.get("name") or data.get("play") or "")
            self._phase_began = self._offset(raw.get("created"))
        elif kind == "playbook_on_task_start" and self._phase_began is not None:
            # A play counts from its first task on: one that no host is part of has none.
            self._phases.append((self._phase, self._phase_began))
            self._phase_began = None
        elif kind == "playbook_on_stats":
            self._all_ended = self._offset(raw.get("created"))
        elif kind == "runner_on_start":
            self._begin(raw, data)
        elif kind.startswith("runner_"):
            self._note_delegation(raw, data)
            if kind in _ENDS:
                self._end(kind, raw, data)

    def trace(self, seconds: float) -> Trace:
        """Return the trace of a run that took so many seconds. What is open then was cut."""
        cut = [self._cut(task, seconds) for task in self._open.values()]
        tasks = [*self._tasks, *(task for task in cut if task is not None)]
        last = seconds if self._all_ended is None else self._all_ended
        ends = [*(began for _, began in self._phases[1:]), last]
        return Trace(
            run=self._run,
            playbook=self._playbook,
            began=self._began,
            seconds=round(seconds, 3),
            phases=tuple(
                TracedPhase(name=name, began=began, seconds=_span(began, end))
                for (name, began), end in zip(self._phases, ends, strict=False)
            ),
            tasks=tuple(sorted(tasks, key=lambda task: (task.began, task.host))),
        )

    def _begin(self, raw: Mapping[str, Any], data: Mapping[str, Any]) -> None:
        begun = self._described(data, self._offset(raw.get("created")))
        before = self._open.pop(begun.host, None)
        if before is not None:
            lost = self._cut(before, begun.began)
            self._tasks += [] if lost is None else [lost]
        self._open[begun.host] = begun

    def _note_delegation(self, raw: Mapping[str, Any], data: Mapping[str, Any]) -> None:
        """A loop's items are labelled one by one, and its end is not."""
        begun = self._open.get(str(data.get("host")))
        found = _DELEGATED.search(plain(str(raw.get("stdout") or "")))
        if begun is not None and found is not None and found[1] == begun.host:
            begun.delegated = found[2]

    def _end(self, kind: str, raw: Mapping[str, Any], data: Mapping[str, Any]) -> None:
        ended = self._offset(data.get("end") or raw.get("created"))
        told = self._described(data, self._offset(data.get("start"), ended))
        begun = self._open.pop(told.host, None)
        if begun is None or begun.uuid != told.uuid:
            begun = told
        outcome: Outcome
        if kind == "runner_on_ok":
            outcome = "changed" if (data.get("res") or {}).get("changed") else "ok"
        else:
            outcome = "failed" if kind == "runner_on_failed" else "unreachable"
        if kind != "runner_on_skipped" and not _structural(begun):
            self._tasks.append(_traced(begun, ended, outcome))

    def _cut(self, begun: _Open, at: float) -> TracedTask | None:
        return None if _structural(begun) else _traced(begun, at, "unfinished")

    def _described(self, data: Mapping[str, Any], began: float) -> _Open:
        return _Open(
            uuid=str(data.get("task_uuid")),
            phase=self._phase,
            role=str(data.get("role") or "").rpartition(".")[2],
            task=str(data.get("task") or ""),
            action=str(data.get("task_action") or ""),
            host=str(data.get("host") or ""),
            began=began,
        )

    def _offset(self, moment: object, default: float = 0.0) -> float:
        """Return the seconds from the run's begin to a moment (ISO 8601), never less than 0."""
        if not isinstance(moment, str):
            return default
        seconds = (datetime.fromisoformat(moment) - self._began).total_seconds()
        return round(max(0.0, seconds), 3)


def _structural(task: _Open) -> bool:
    return task.action.rpartition(".")[2] in STRUCTURE


def _traced(task: _Open, ended: float, outcome: Outcome | Literal["unfinished"]) -> TracedTask:
    return TracedTask(
        phase=task.phase,
        role=task.role,
        task=task.task,
        action=task.action,
        host=task.host,
        delegated=task.delegated,
        began=task.began,
        seconds=_span(task.began, ended),
        outcome=outcome,
    )


def _span(began: float, ended: float) -> float:
    return round(max(0.0, ended - began), 3)
