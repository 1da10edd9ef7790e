# SPDX-License-Identifier: Apache-2.0
"""Restore nodes to their state before Kubewright."""

from __future__ import annotations

from collections.abc import Sequence

from kubewright.act import Result
from kubewright.act.messages import named
from kubewright.operate.cluster import Cluster
from kubewright.operate.errors import OperationError, Why
from kubewright.operate.run import run, session
from kubewright.operate.watch import Watch
from kubewright.spec.machines import read

PLAYBOOK = "kubewright.cluster.reset"


def reset(
    cluster: Cluster, watch: Watch, nodes: Sequence[str], cluster_id: str | None = None
) -> Result:
    """Reset nodes. ``cluster_id``: of the other cluster that they belong to.

    :raises OperationError: a provider has no machine of that name; nothing was done.
    """
    _require_machines(cluster, nodes)
    with session(cluster, "reset", watch) as opened:
        told = {
            "kubewright_epoch": opened.next_epoch(),
            "kubewright_target": ",".join(nodes),
            "kubewright_confirm_reset": cluster_id or cluster.name,
        }
        return run(opened, cluster, watch, PLAYBOOK, told)


def _require_machines(cluster: Cluster, nodes: Sequence[str]) -> None:
    """Refuse nodes whose machines nobody knows: Ansible would ask DNS for their names."""
    known = read(cluster.paths.machines, cluster.name)
    found = {*known.by_name(), *cluster.spec.own_hosts()}
    missing = [node for node in nodes if node not in found]
    if not missing:
        return
    if known.written_at is None:
        where = f"{cluster.paths.state} has no list of machines"
        remedy = (
            "Run 'kubewright plan' to query the providers. If this is not the cluster's "
            "state directory, set KUBEWRIGHT_STATE_DIR."
        )
    else:
        where = "the providers had none when they were last queried"
        remedy = (
            "Give the existing ones with --node, or run 'kubewright plan' to query the providers "
            "again."
        )
    raise OperationError(
        f"{named(missing)} has no known machine: {where}. Nothing was reset.",
        remedy=remedy,
        why=Why.BAD_INPUT,
    )
