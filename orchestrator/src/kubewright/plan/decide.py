# SPDX-License-Identifier: Apache-2.0
"""From the inventory's hosts and their answers to what an apply would do. No I/O, no clock."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any, Literal

from kubewright.plan.answers import Answer

State = Literal["missing", "unreachable", "new", "drifted", "unchanged"]

#: Roles that bring about objects of the whole cluster: one control plane does it for all.
CLUSTER_ROLES = ("cni",)


@dataclass(frozen=True)
class Step:
    """A role that would run, and why, in words."""

    role: str
    reasons: tuple[str, ...]


@dataclass(frozen=True)
class NodePlan:
    """What would happen to a node. `role`: control_plane or worker.

    `reason`: why it does not answer, empty where it does or where that is not known.
    """

    name: str
    role: str
    state: State
    steps: tuple[Step, ...] = ()
    unknown: tuple[str, ...] = ()
    diff: tuple[Mapping[str, str], ...] = ()
    reason: str = ""


@dataclass(frozen=True)
class Plan:
    """All nodes in the inventory's order, and what concerns the cluster as a whole.

    ``waves``: the nodes that run and would be changed, in their order; those of a wave at once.
    """

    nodes: tuple[NodePlan, ...]
    cluster_steps: tuple[Step, ...]
    waves: tuple[tuple[str, ...], ...] = ()

    @property
    def changes(self) -> bool:
        """Whether an apply would change anything."""
        touched = any(node.state in ("missing", "new", "drifted") for node in self.nodes)
        return touched or bool(self.cluster_steps)

    @property
    def nothing_to_do(self) -> bool:
        """Whether all nodes have answered, and an apply would change none of them."""
        return not self.changes and {node.state for node in self.nodes} <= {"unchanged"}

    def as_dict(self) -> dict[str, Any]:
        """Return it as plain data for JSON."""
        return {
            "changes": self.changes,
            "nodes": [
                {
                    "name": node.name,
                    "role": node.role,
                    "state": node.state,
                    "steps": [_step_data(step) for step in node.steps],
                    "unknown": list(node.unknown),
                    "diff": [dict(one) for one in node.diff],
                    "reason": node.reason,
                }
                for node in self.nodes
            ],
            "cluster_steps": [_step_data(step) for step in self.cluster_steps],
            "waves": [list(wave) for wave in self.waves],
        }


def decide(
    hosts: Mapping[str, Mapping[str, Any]],
    answers: Mapping[str, Answer],
    silent: Mapping[str, str] = MappingProxyType({}),
    waves: tuple[tuple[str, ...], ...] = (),
) -> Plan:
    """Return the plan.

    ``hosts``: the variables of each host (:attr:`kubewright.spec.inventory.Inventory.hosts`).
    ``answers``: by host; one that has a machine and is not in it did not answer. ``silent``: why.
    ``waves``: the order that the collection has decided on.
    """
    nodes = tuple(
        _node(name, variables, answers.get(name), silent.get(name, ""))
        for name, variables in hosts.items()
    )
    return Plan(nodes, _cluster_steps(answers), waves)


def _node(name: str, variables: Mapping[str, Any], answer: Answer | None, reason: str) -> NodePlan:
    role = str(variables["kubewright_role"])
    if answer is None:
        machine = variables.get("kubewright_machine")
        if machine is None:
            return NodePlan(name, role, "missing")
        # Who is off is not asked.
        off = "its machine is off; apply powers it on" if machine.get("power") == "off" else ""
        return NodePlan(name, role, "unreachable", reason=reason or off)
    steps = tuple(
        Step(step, reasons) for step, reasons in answer.drift.items() if step not in CLUSTER_ROLES
    )
    state: State = "unchanged" if not steps else "drifted" if answer.phase == "joined" else "new"
    return NodePlan(name, role, state, steps, answer.unknown, answer.diff)


def _cluster_steps(answers: Mapping[str, Answer]) -> tuple[Step, ...]:
    """What the first control plane with a working API server says of the cluster's objects.

    Without one there is no cluster yet, and the first to start it would make them.
    """
    able = sorted((name for name, answer in answers.items() if answer.api_ready))
    seen = (
        answers[able[0]]
        if able
        else next(
            (answer for answer in answers.values() if set(CLUSTER_ROLES) & set(answer.drift)), None
        )
    )
    if seen is None:
        return ()
    return tuple(Step(role, seen.drift[role]) for role in CLUSTER_ROLES if role in seen.drift)


def _step_data(step: Step) -> dict[str, Any]:
    return {"role": step.role, "reasons": list(step.reasons)}
