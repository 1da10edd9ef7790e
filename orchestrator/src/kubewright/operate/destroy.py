# SPDX-License-Identifier: Apache-2.0
"""Delete or reset the cluster's machines, and forget what is known of it."""

from __future__ import annotations

from kubewright.act import Result, Session
from kubewright.operate.cluster import Cluster
from kubewright.operate.run import run, session
from kubewright.operate.watch import Watch
from kubewright.spec.machines import MachinesError, read
from kubewright.store import StoreError

PLAYBOOK = "kubewright.cluster.destroy"


def destroy(cluster: Cluster, watch: Watch, cluster_id: str | None = None) -> Result:
    """Destroy it. ``cluster_id``: that of its machines, where its state was lost."""
    with session(cluster, "destroy", watch) as opened:
        told = {
            **_epoch(opened, cluster),
            "kubewright_confirm_destroy": cluster_id or cluster.name,
        }
        _set_damaged_machines_aside(cluster, watch)
        return run(opened, cluster, watch, PLAYBOOK, told)


def _set_damaged_machines_aside(cluster: Cluster, watch: Watch) -> None:
    """A machines.json that can't be read is no reason to stop: the provider knows its machines."""
    machines = cluster.paths.machines
    try:
        read(machines, cluster.name)
    except MachinesError as error:
        aside = machines.with_suffix(".json.damaged")
        machines.replace(aside)
        watch.warn(f"{error}; it is now {aside}")


def _epoch(opened: Session, cluster: Cluster) -> dict[str, int]:
    """A store that can't be read does not matter any more where no node is asked anything.

    :raises StoreError: it can't be read, and nodes are reset, which refuse a lower epoch.
    """
    try:
        return {"kubewright_epoch": opened.next_epoch()}
    except StoreError:
        if cluster.spec.own_hosts():
            raise
        return {}
