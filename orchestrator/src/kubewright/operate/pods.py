# SPDX-License-Identifier: Apache-2.0
"""Cordon, drain, reboot and uncordon nodes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import Enum
from typing import Any

from kubewright.act import Result
from kubewright.operate.cluster import Cluster
from kubewright.operate.run import run, session
from kubewright.operate.watch import Watch


class Turn(Enum):
    """What is done, by the name of its playbook."""

    CORDON = "node_cordon"
    DRAIN = "node_drain"
    REBOOT = "reboot"
    UNCORDON = "node_uncordon"


@dataclass(frozen=True)
class Drain:
    """How a node is drained: None for what its pool says.

    ``on_timeout``: wait, force or abort. ``evict_bare_pods``: those without a controller are
    evicted too, and lost.
    """

    timeout_seconds: int | None = None
    on_timeout: str | None = None
    evict_bare_pods: bool = False

    @property
    def variables(self) -> dict[str, Any]:
        """Return what the playbook is told."""
        told = {"timeout_seconds": self.timeout_seconds, "on_timeout": self.on_timeout}
        found = {f"node_drain_{name}": value for name, value in told.items() if value is not None}
        return found | ({"node_drain_evict_bare_pods": True} if self.evict_bare_pods else {})


def turn(
    what: Turn,
    cluster: Cluster,
    watch: Watch,
    nodes: Sequence[str],
    how: Drain | None = None,
    *,
    allow_downtime: bool = False,
) -> Result:
    """Do it on nodes, one after another. ``how``: None where nothing is drained.

    ``allow_downtime``: the cluster may stop working meanwhile, when it is rebooted.
    """
    with session(cluster, f"node {what.name.lower()}", watch) as opened:
        told = {"kubewright_epoch": opened.next_epoch(), "kubewright_target": ",".join(nodes)}
        told |= how.variables if how else {}
        if what is Turn.REBOOT:
            told |= {"kubewright_drain": how is not None}
            told |= {"kubewright_allow_downtime": allow_downtime}
        return run(opened, cluster, watch, f"kubewright.cluster.{what.value}", told)
