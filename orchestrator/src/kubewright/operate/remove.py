# SPDX-License-Identifier: Apache-2.0
"""Remove nodes that the cluster's file does not want any more, with their machines."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from kubewright.act import Result
from kubewright.act.messages import named
from kubewright.agreed import roster as records
from kubewright.agreed import state
from kubewright.operate.cluster import Cluster
from kubewright.operate.converge import SKIP_UNREACHABLE
from kubewright.operate.errors import OperationError, Why
from kubewright.operate.pods import Drain
from kubewright.operate.run import run, session
from kubewright.operate.watch import Watch
from kubewright.spec import roster
from kubewright.spec.machines import Kept, read
from kubewright.spec.roster import Leaving

PLAYBOOK = "kubewright.cluster.node_remove"


def leaving(cluster: Cluster, names: Sequence[str]) -> tuple[Leaving, ...]:
    """Return the nodes of these names, all of which the file has no place for.

    Where a pool has more nodes than its size, any of them may be named.

    :raises OperationError: there is no such node, or the file wants it.
    """
    return _chosen(cluster, names)[0]


def remove(
    cluster: Cluster,
    watch: Watch,
    names: Sequence[str],
    how: Drain,
    *,
    skip_unreachable: bool = False,
) -> Result:
    """Remove nodes, one after another. ``how``: how they are drained.

    ``skip_unreachable``: machines of one's own that do not answer are given up as they are.

    :raises OperationError: see :func:`leaving`; nothing was done.
    """
    with session(cluster, "node remove", watch) as opened:
        going, kept = _chosen(cluster, names)
        if kept is not None:
            with state.locked(cluster.paths.state, False):
                records.write(cluster.paths.state, cluster.name, kept)
        hosts = ",".join(one.name for one in going)
        told = {
            **how.variables,
            "kubewright_epoch": opened.next_epoch(),
            "kubewright_target": hosts,
            "kubewright_confirm_remove": hosts,
            SKIP_UNREACHABLE: skip_unreachable,
        }
        return run(opened, cluster, watch, PLAYBOOK, told)


def _chosen(cluster: Cluster, names: Sequence[str]) -> tuple[tuple[Leaving, ...], Kept | None]:
    """Return the nodes, and what has to be kept so that these leave and no others of their pool."""
    wanted = cluster.chosen(names)
    machines = read(cluster.paths.machines, cluster.name)
    first = tuple(sorted({*machines.kept.named, *wanted}))
    kept = replace(machines.kept, named=first)
    found = roster.of(cluster.spec, replace(machines, kept=kept))
    if staying := [name for name in wanted if name in found.hosts]:
        raise OperationError(
            f"{cluster.file} still has a place for {named(staying)}; nothing was removed",
            remedy="Lower the size of its pool, or remove its entry from nodes; then run the "
            "command again.",
            why=Why.REFUSED,
        )
    going = tuple(one for one in found.leaving if one.name in wanted)
    before = {one.name for one in roster.of(cluster.spec, machines).leaving}
    return going, None if set(wanted) <= before else kept
