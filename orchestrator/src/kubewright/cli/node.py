# SPDX-License-Identifier: Apache-2.0
"""``kubewright node``: cordon, drain, reboot, remove and uncordon single nodes."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from kubewright.act.messages import named
from kubewright.agreed import inventory as rules
from kubewright.cli import node_images
from kubewright.cli.options import DEFAULT_FILE, File, Form, Yes
from kubewright.cli.outcome import finish, work_done
from kubewright.cli.output import Format, Output
from kubewright.cli.reset import complete_node
from kubewright.cli.state import opened
from kubewright.cli.watching import Terminal
from kubewright.operate import remove as removing
from kubewright.operate.pods import Drain, Turn, turn
from kubewright.spec import load
from kubewright.spec.roster import Leaving

_nodes = typer.Typer(help="Work on single nodes of a cluster.")
node_images.register(_nodes)


class OnTimeout(StrEnum):
    """What happens to pods that have not left within the time."""

    WAIT = "wait"
    FORCE = "force"
    ABORT = "abort"


Names = Annotated[
    list[str],
    typer.Argument(metavar="NODE...", help="Names of nodes.", autocompletion=complete_node),
]
Timeout = Annotated[
    int | None,
    typer.Option(
        "--timeout",
        min=0,
        metavar="SECONDS",
        help="Seconds for pods to leave. Default: the pool's setting.",
    ),
]
Then = Annotated[
    OnTimeout | None,
    typer.Option(
        "--on-timeout",
        help="What happens then: keep waiting, delete the pods (force) regardless of their "
        "PodDisruptionBudgets, or abort and uncordon the node. Default: the pool's setting.",
    ),
]
Bare = Annotated[
    bool,
    typer.Option("--evict-bare-pods", help="Also evict pods without a controller. They are lost."),
]


NoDrain = Annotated[bool, typer.Option("--no-drain", help="Reboot without evicting pods.")]
GiveUp = Annotated[
    bool,
    typer.Option(
        "--skip-unreachable",
        help="Also remove nodes on your own machines that do not answer. They are not restored.",
    ),
]
Downtime = Annotated[
    bool,
    typer.Option(
        "--allow-downtime", help="Continue even if the cluster is down until they are back."
    ),
]


def register(app: typer.Typer) -> None:
    """Add the commands."""
    app.add_typer(_nodes, name="node", no_args_is_help=True)


@_nodes.command()
def cordon(node: Names, file: File = DEFAULT_FILE, output: Form = Format.TEXT) -> None:
    """Schedule no new pods on nodes until they are uncordoned. Running pods stay."""
    _run(Turn.CORDON, node, file, Output(output), "cordoned")


@_nodes.command()
def drain(
    node: Names,
    file: File = DEFAULT_FILE,
    timeout: Timeout = None,
    on_timeout: Then = None,
    evict_bare_pods: Bare = False,
    output: Form = Format.TEXT,
    yes: Yes = False,
) -> None:
    """Cordon nodes and evict their pods, one node at a time.

    Respects PodDisruptionBudgets. Pods of DaemonSets and static pods stay.
    """
    out = Output(output)
    if evict_bare_pods:
        out.note("pods without a controller will be lost, with their data", style="yellow")
    out.confirm(f"Drain {named(node)}?", yes=yes)
    how = Drain(timeout, on_timeout.value if on_timeout else None, evict_bare_pods)
    _run(Turn.DRAIN, node, file, out, "drained", how)


@_nodes.command()
def reboot(
    node: Names,
    file: File = DEFAULT_FILE,
    timeout: Timeout = None,
    on_timeout: Then = None,
    no_drain: NoDrain = False,
    allow_downtime: Downtime = False,
    output: Form = Format.TEXT,
    yes: Yes = False,
) -> None:
    """Drain and reboot nodes, one at a time; each is uncordoned when it is back.

    Refused for a control plane without which etcd would lose quorum.
    """
    out = Output(output)
    out.confirm(f"Reboot {named(node)}?", yes=yes)
    how = None if no_drain else Drain(timeout, on_timeout.value if on_timeout else None)
    _run(Turn.REBOOT, node, file, out, "rebooted", how, allow_downtime=allow_downtime)


@_nodes.command()
def remove(
    node: Names,
    file: File = DEFAULT_FILE,
    timeout: Timeout = None,
    on_timeout: Then = None,
    skip_unreachable: GiveUp = False,
    output: Form = Format.TEXT,
    yes: Yes = False,
) -> None:
    """Remove workers that cluster.yml no longer has a place for. Their machines are lost.

    Lower the size of a pool first, or remove an entry from nodes. Nodes are drained one at a time,
    then their machines are deleted; your own are restored to their state before Kubewright.
    """
    out = Output(output)
    cluster = opened(load(file), file, out)
    going = removing.leaving(cluster, node)
    for one in going:
        out.note(f"{one.name}: {_lost(one)}", style="yellow")
    names = tuple(one.name for one in going)
    out.confirm(f"Remove {named(names)} from {cluster.name}?", yes=yes)
    how = Drain(timeout, on_timeout.value if on_timeout else None)
    result = removing.remove(cluster, Terminal(out), names, how, skip_unreachable=skip_unreachable)
    data = {"cluster": cluster.name, "nodes": list(names)}
    finish(result, out, data, f"{named(names)}: removed; {work_done(result)}.")


def _lost(one: Leaving) -> str:
    if one.machine.provider == rules.STATIC:
        return "the machine stays; Kubernetes and the data of all pods on it are removed"
    return f"the machine is deleted at the provider {one.machine.provider}, with all data on it"


@_nodes.command()
def uncordon(node: Names, file: File = DEFAULT_FILE, output: Form = Format.TEXT) -> None:
    """Allow new pods on nodes again."""
    _run(Turn.UNCORDON, node, file, Output(output), "uncordoned")


def _run(
    what: Turn,
    node: list[str],
    file: Path,
    out: Output,
    words: str,
    how: Drain | None = None,
    *,
    allow_downtime: bool = False,
) -> None:
    cluster = opened(load(file), file, out)
    nodes = cluster.chosen(node)
    result = turn(what, cluster, Terminal(out), nodes, how, allow_downtime=allow_downtime)
    data = {"cluster": cluster.name, "nodes": list(nodes)}
    finish(result, out, data, f"{named(nodes)}: {words}; {work_done(result)}.")
