# SPDX-License-Identifier: Apache-2.0
"""``kubewright reset``: make nodes the machines that they were."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated

import typer

from kubewright.act import Session
from kubewright.act.messages import named
from kubewright.cli.exits import CommandError, ExitCode
from kubewright.cli.operation import finish, run_playbook, tell_ended, work_done
from kubewright.cli.options import DEFAULT_FILE, File, Form, Yes, completed
from kubewright.cli.output import Format, Output
from kubewright.cli.state import own_state
from kubewright.locations import ClusterPaths
from kubewright.observe.health import expected_hosts
from kubewright.spec import Spec, load

PLAYBOOK = "kubewright.cluster.reset"


def complete_node(ctx: typer.Context, incomplete: str) -> list[str]:
    """Return the nodes whose name begins so, for the shell."""
    return completed(ctx, incomplete, expected_hosts)


Nodes = Annotated[
    list[str] | None,
    typer.Option(
        "--node", help="A node; may be given again. All, if none.", autocompletion=complete_node
    ),
]
ClusterId = Annotated[
    str | None,
    typer.Option(
        "--cluster-id", help="The nodes belong to another cluster, with this id.", metavar="UUID"
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
    """Make nodes the machines that they were before Kubewright. Their data is gone then."""
    out = Output(output)
    spec = load(file)
    nodes = chosen(spec, node or [])
    paths = own_state(spec, file, out)
    out.note(_intention(spec, nodes, paths), style="yellow")
    out.confirm(f"Reset {named(nodes)}?", yes=yes)
    with Session(paths, "reset") as session:
        tell_ended(session, out)
        told = {
            "kubewright_epoch": session.next_epoch(),
            "kubewright_target": ",".join(nodes),
            "kubewright_confirm_reset": cluster_id or spec.name,
        }
        result = run_playbook(session, out, PLAYBOOK, file, told)
    done = f"{named(nodes)}: as before Kubewright; {work_done(result)}."
    finish(result, out, {"cluster": spec.name, "nodes": list(nodes)}, done)


def _intention(spec: Spec, nodes: Sequence[str], paths: ClusterPaths) -> str:
    """Return what will be done, with the name of each node."""
    words = (
        f"reset removes Kubernetes, with all pods and data of pods, from {', '.join(nodes)} of "
        f"{spec.name}; what else is there stays"
    )
    if set(expected_hosts(spec)) - set(nodes):
        return words
    known = (paths.identity, paths.ssh_key.parent, paths.kubeconfig, paths.known_hosts)
    files = ", ".join(path.name for path in (*known, paths.machines))
    return f"{words}. The cluster's keys go too: {files} in {paths.state}"


def chosen(spec: Spec, wanted: Sequence[str]) -> tuple[str, ...]:
    """Return the nodes that are meant, in the file's order."""
    hosts = expected_hosts(spec)
    if unknown := sorted(set(wanted) - set(hosts)):
        raise CommandError(
            f"{spec.name} has no node {named(unknown)}",
            remedy=f"Its nodes are {named(hosts)}.",
            code=ExitCode.BAD_INPUT,
        )
    return tuple(host for host in hosts if not wanted or host in wanted)
