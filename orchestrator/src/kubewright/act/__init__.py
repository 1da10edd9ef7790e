# SPDX-License-Identifier: Apache-2.0
"""Runs playbooks: the only user of ansible-runner, and the only part that changes anything.

An operation is one :class:`Session`: it holds the cluster's lock, has ended what a dead
orchestrator left running, and journals each run.
"""

from __future__ import annotations

from kubewright.act.events import (
    Event,
    HostIdle,
    HostResult,
    HostSays,
    HostStarted,
    PhaseStarted,
    TaskStarted,
)
from kubewright.act.findings import Finding
from kubewright.act.leftovers import LeftoverError
from kubewright.act.result import Change, Failure, HostTasks, Phase, Result
from kubewright.act.session import Session
from kubewright.act.trace import Trace, TracedPhase, TracedTask, TraceError

__all__ = [
    "Change",
    "Event",
    "Failure",
    "Finding",
    "HostIdle",
    "HostResult",
    "HostSays",
    "HostStarted",
    "HostTasks",
    "LeftoverError",
    "Phase",
    "PhaseStarted",
    "Result",
    "Session",
    "TaskStarted",
    "Trace",
    "TraceError",
    "TracedPhase",
    "TracedTask",
]
