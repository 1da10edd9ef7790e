# SPDX-License-Identifier: Apache-2.0
"""Restore nodes to their state before Kubewright."""

from __future__ import annotations

from collections.abc import Sequence

from kubewright.act import Result
from kubewright.operate.cluster import Cluster
from kubewright.operate.run import run, session
from kubewright.operate.watch import Watch

PLAYBOOK = "kubewright.cluster.reset"


def reset(
    cluster: Cluster, watch: Watch, nodes: Sequence[str], cluster_id: str | None = None
) -> Result:
    """Reset nodes. ``cluster_id``: of the other cluster that they belong to."""
    with session(cluster, "reset", watch) as opened:
        told = {
            "kubewright_epoch": opened.next_epoch(),
            "kubewright_target": ",".join(nodes),
            "kubewright_confirm_reset": cluster_id or cluster.name,
        }
        return run(opened, cluster, watch, PLAYBOOK, told)
