# SPDX-License-Identifier: Apache-2.0
"""Ask every node what an apply would do there. Changes nothing."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

from kubewright.act import Result
from kubewright.act.findings import TRAFFIC
from kubewright.agreed import identity
from kubewright.operate.cluster import Cluster
from kubewright.operate.run import run, session
from kubewright.operate.watch import Watch
from kubewright.plan import Answer, Plan, decide
from kubewright.spec import inventory as spec_inventory
from kubewright.spec.machines import read

PLAN = "kubewright.cluster.plan"
SITE = "kubewright.cluster.site"
#: A host that is to leave has it, and says there why (`kubewright.spec.inventory`).
LEAVING = "kubewright_leaving"


@dataclass(frozen=True)
class Look:
    """What an apply would do, and the run in which the nodes said so.

    ``after``: the run before it that may have changed something, "" for none.
    """

    plan: Plan
    result: Result
    after: str = ""

    @property
    def failed(self) -> bool:
        """Whether it says too little. A node that does not answer is part of what it says.

        What failed here, or on a node, is not, unless an apply could go on without it.
        """
        result = self.result
        if result.ok:
            return False
        here = any(failure.host == "localhost" for failure in result.failures)
        cut = result.status in ("canceled", "error")
        return here or cut or result.host_tasks.failed > 0 or not result.answers

    @property
    def all_silent(self) -> bool:
        """Whether there are machines, and not one has answered."""
        return bool(self.result.unreachable) and not self.result.answers


def plan(
    cluster: Cluster,
    watch: Watch,
    *,
    diff: bool = False,
    extra_vars: Mapping[str, Any] = MappingProxyType({}),
) -> Look:
    """Ask the nodes alone. ``diff``: also for the files that differ."""
    return _look(cluster, watch, "plan", PLAN, diff=diff, extra_vars=extra_vars)


def check(cluster: Cluster, watch: Watch, *, diff: bool, extra_vars: Mapping[str, Any]) -> Look:
    """Run every play of an apply without its changes. No epoch is taken for it."""
    return _look(cluster, watch, "check", SITE, diff=diff, extra_vars=extra_vars)


def _look(
    cluster: Cluster,
    watch: Watch,
    operation: str,
    playbook: str,
    *,
    diff: bool,
    extra_vars: Mapping[str, Any],
) -> Look:
    options = ("--check", "--diff") if diff else ("--check",)
    with session(cluster, operation, watch, reads=True) as opened:
        after = opened.newest
        result = run(opened, cluster, watch, playbook, extra_vars, options)
    machines = read(cluster.paths.machines, cluster.name)
    inventory = spec_inventory.build(
        cluster.spec, version=cluster.release, paths=cluster.paths, machines=machines
    )
    answers = {name: Answer.from_result(said) for name, said in result.answers.items()}
    hosts = {host: told for host, told in inventory.hosts.items() if LEAVING not in told}
    return Look(decide(hosts, answers, result.unreachable, result.waves), result, after)


def is_settled(cluster: Cluster, look: Look) -> bool:
    """Whether an apply would find nothing to do and nothing to wait for, here and on the nodes."""
    nodes = [answer.get("node") or {} for answer in look.result.answers.values()]
    return (
        look.plan.nothing_to_do
        and not any(one.fatal or one.check == TRAFFIC for one in look.result.findings)
        and all(node.get("ready", True) for node in nodes)
        and cluster.paths.kubeconfig.exists()
        and _has_begun(cluster)
    )


def _has_begun(cluster: Cluster) -> bool:
    """Whether the cluster is on record as initialized: a run that was cut is finished for that.

    What can't be read is judged by the run.
    """
    kept = identity.recorded(cluster.paths.identity)
    return kept is not None and kept.begun
