# SPDX-License-Identifier: Apache-2.0
"""``kubewright reset``: make nodes the machines that they were."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated
from uuid import UUID

import typer

from kubewright.act.messages import named
from kubewright.cli.options import DEFAULT_FILE, File, Form, Yes, completed
from kubewright.cli.outcome import finish, work_done
from kubewright.cli.output import Format, Output
from kubewright.cli.state import opened
from kubewright.cli.watching import Terminal
from kubewright.locations import ClusterPaths
from kubewright.operate import Cluster
from kubewright.operate import reset as operation
from kubewright.spec import Spec, load, roster
from kubewright.spec.machines import read


def complete_node(ctx: typer.Context, incomplete: str) -> list[str]:
    """Return the nodes whose name begins so, for the shell."""
    return completed(ctx, incomplete, known_nodes)


def known_nodes(spec: Spec) -> tuple[str, ...]:
    """Return all nodes, also those that are to leave."""
    return roster.of(spec, read(ClusterPaths.of(spec.name).machines, spec.name)).known


Nodes = Annotated[
    list[str] | None,
    typer.Option(
        "--node",
        help="Node name; can be repeated. Default: all nodes.",
        autocompletion=complete_node,
    ),
]
ClusterId = Annotated[
    UUID | None,
    typer.Option(
        "--cluster-id",
        help="Reset nodes that belong to another cluster: the one with this id.",
        metavar="UUID",
    ),
]


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command()(reset)


def reset(
    file: File = DEFAULT_FILE,
    node: Nodes = None,
    output: Form = Format.TEXT,
    yes: Yes = False,
    cluster_id: ClusterId = None,
) -> None:
    """Restore nodes to their state before Kubewright. Deletes all Kubernetes data on them."""
    out = Output(output)
    cluster = opened(load(file), file, out)
    nodes = cluster.chosen(node or cluster.roster().known)
    out.note(_intention(cluster, nodes), style="yellow")
    out.confirm(f"Reset {named(nodes)}?", yes=yes)
    result = operation.reset(cluster, Terminal(out), nodes, str(cluster_id or "") or None)
    done = f"{named(nodes)}: restored to the state before Kubewright; {work_done(result)}."
    finish(result, out, {"cluster": cluster.name, "nodes": list(nodes)}, done)


def _intention(cluster: Cluster, nodes: Sequence[str]) -> str:
    """Return what will be done, with the name of each node."""
    paths = cluster.paths
    words = (
        f"reset removes Kubernetes, with all pods and their data, from {', '.join(nodes)} "
        f"of {cluster.name}; everything else on them stays"
    )
    if set(cluster.roster().known) - set(nodes):
        return words
    known = (paths.identity, paths.ssh_key.parent, paths.kubeconfig, paths.known_hosts)
    files = ", ".join(path.name for path in (*known, paths.machines))
    return f"{words}. The cluster's keys are deleted too: {files} in {paths.state}"
