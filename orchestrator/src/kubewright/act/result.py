# SPDX-License-Identifier: Apache-2.0
"""What came of a run."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from kubewright.act.findings import Finding
from kubewright.act.remedies import remedy


@dataclass(frozen=True)
class HostTasks:
    """How many tasks had which result on the machines (not on localhost).

    The kinds exclude each other: ``ok`` changed nothing, ``failed`` includes what was rescued or
    ignored. Skipped tasks and includes are not counted. Their sum is the number of host-tasks,
    which is what a run costs.
    """

    ok: int = 0
    changed: int = 0
    failed: int = 0
    unreachable: int = 0

    @property
    def total(self) -> int:
        """All of them."""
        return self.ok + self.changed + self.failed + self.unreachable


@dataclass(frozen=True)
class Failure:
    """Why a run failed. ``host`` and ``task`` are empty when it did before any task."""

    host: str
    task: str
    message: str

    @property
    def remedy(self) -> str:
        """What to do about it, empty where nothing is known."""
        return remedy(self.message)

    def as_dict(self) -> dict[str, str]:
        """Return it as plain data for JSON."""
        return {**asdict(self), "remedy": self.remedy}


@dataclass(frozen=True)
class Change:
    """A task that changed something on a host, or would have done so in a check.

    ``diff``: what Ansible shows with ``--diff``, of each file ``before``, ``after`` and their
    headers, or ``prepared``: the difference as it is to be printed.
    """

    host: str
    task: str
    diff: tuple[Mapping[str, str], ...] = ()

    def as_dict(self) -> dict[str, Any]:
        """Return it as plain data for JSON."""
        return {"host": self.host, "task": self.task, "diff": [dict(one) for one in self.diff]}


@dataclass(frozen=True)
class Phase:
    """One play: its name and how many seconds it took."""

    name: str
    seconds: float


@dataclass(frozen=True)
class Result:
    """What came of a run. ``status``: successful, failed, canceled or error (ansible did not run).

    ``changed``: whether any task changed anything, on a machine or on localhost.
    ``host_task_counts``: the number of host-tasks of each machine. ``seconds``: wall time.
    ``log_error``: why the log is incomplete, empty when it is whole. ``answers``: what the module
    node_state returned, by host. ``findings``: of the preflight. ``unreachable``: why a host did
    not answer, of those that did not until the end. ``waves``: the nodes that run and are changed,
    in their order; those of a wave at once.
    """

    run: str
    playbook: str
    status: str
    changed: bool
    host_tasks: HostTasks
    host_task_counts: dict[str, int]
    failures: tuple[Failure, ...]
    seconds: float
    phases: tuple[Phase, ...]
    log: Path
    log_error: str = ""
    answers: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    findings: tuple[Finding, ...] = ()
    unreachable: Mapping[str, str] = field(default_factory=dict)
    changes: tuple[Change, ...] = ()
    waves: tuple[tuple[str, ...], ...] = ()

    @property
    def ok(self) -> bool:
        """Whether all went well."""
        return self.status == "successful"

    def as_dict(self) -> dict[str, Any]:
        """Return it as plain data for JSON."""
        return {
            "run": self.run,
            "playbook": self.playbook,
            "status": self.status,
            "changed": self.changed,
            "host_tasks": asdict(self.host_tasks),
            "host_task_counts": dict(sorted(self.host_task_counts.items())),
            "failures": [failure.as_dict() for failure in self.failures],
            "findings": [asdict(finding) for finding in self.findings],
            "seconds": round(self.seconds, 1),
            "phases": [
                {"name": phase.name, "seconds": round(phase.seconds, 1)} for phase in self.phases
            ],
            "log": str(self.log),
            "log_error": self.log_error,
        }
