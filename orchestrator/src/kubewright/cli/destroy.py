# SPDX-License-Identifier: Apache-2.0
"""``kubewright destroy``: delete or reset the cluster's machines, forget what is known of it."""

from __future__ import annotations

from typing import Annotated
from uuid import UUID

import typer

from kubewright.cli.options import DEFAULT_FILE, File, Form, Yes
from kubewright.cli.outcome import finish, work_done
from kubewright.cli.output import Format, Output
from kubewright.cli.state import opened
from kubewright.cli.watching import Terminal
from kubewright.locations import ClusterPaths
from kubewright.operate import destroy as operation
from kubewright.spec import Spec, load, roster
from kubewright.spec.machines import Machines, MachinesError, read
from kubewright.spec.own_machines import STATIC
from kubewright.store.ownership import providers

ClusterId = Annotated[
    UUID | None,
    typer.Option(
        "--cluster-id",
        help="Delete the machines of the cluster with this id, whose state was lost.",
        metavar="UUID",
    ),
]


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command()(destroy)


def destroy(
    file: File = DEFAULT_FILE,
    output: Form = Format.TEXT,
    yes: Yes = False,
    cluster_id: ClusterId = None,
) -> None:
    """Delete the cluster's machines with all their data, and its keys. Cannot be undone.

    Your own machines (provider static) are not deleted, but reset.
    """
    out = Output(output)
    cluster = opened(load(file), file, out)
    out.note(_intention(cluster.spec, cluster.paths, cluster_id), style="yellow")
    out.confirm(f"Destroy {cluster.name}?", yes=yes)
    result = operation.destroy(cluster, Terminal(out), str(cluster_id or "") or None)
    finish(
        result, out, {"cluster": cluster.name}, f"{cluster.name} is destroyed: {work_done(result)}."
    )


def _intention(spec: Spec, paths: ClusterPaths, cluster_id: UUID | None) -> str:
    """Return what will be done to which machines, and to the keys."""
    if cluster_id:
        return (
            f"destroy deletes the machines that carry the id {cluster_id} and the name "
            f"{spec.name}, with all data on them"
        )
    try:
        known = read(paths.machines, spec.name)
    except MachinesError:
        known = Machines(spec.name)
    made = [machine.name for machine in known.machines if machine.provider != STATIC]
    old = (one.name for one in roster.of(spec, known).leaving if one.own)
    own = (*spec.own_hosts(), *old)
    whose = "all other machines" if own else "all machines"
    gone = (
        f"{whose} of {spec.name} (known: {', '.join(made) or 'none'}), with all data on them, "
        "and the cluster's keys"
    )
    elsewhere = set(providers(paths)) - {STATIC}
    if not made and not elsewhere and spec.machine_count == len(spec.own_hosts()):
        gone = f"the keys of {spec.name}"
    words = "stays and is reset" if len(own) == 1 else "stay and are reset"
    kept = f"; {', '.join(own)} {words}, with the loss of all pods and their data" if own else ""
    return f"destroy deletes {gone}{kept}"
