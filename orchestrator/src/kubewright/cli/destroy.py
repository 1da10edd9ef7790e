# SPDX-License-Identifier: Apache-2.0
"""``kubewright destroy``: delete or reset the cluster's machines, forget what is known of it."""

from __future__ import annotations

from typing import Annotated

import typer

from kubewright.act import Session
from kubewright.cli.operation import finish, run_playbook, tell_ended, work_done
from kubewright.cli.options import DEFAULT_FILE, File, Form, Yes
from kubewright.cli.output import Format, Output
from kubewright.cli.state import own_state
from kubewright.locations import ClusterPaths
from kubewright.observe.health import expected_hosts
from kubewright.spec import Spec, load
from kubewright.spec.machines import MachinesError, read
from kubewright.spec.own_machines import STATIC
from kubewright.store import StoreError
from kubewright.store.ownership import providers

PLAYBOOK = "kubewright.cluster.destroy"
ClusterId = Annotated[
    str | None,
    typer.Option(
        "--cluster-id",
        help="The machines are of a cluster with this id, whose state was lost.",
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
    """Delete the cluster's machines, with all on them, and its keys. Can't be undone.

    Machines of your own (provider static) stay; they are reset.
    """
    out = Output(output)
    spec = load(file)
    paths = own_state(spec, file, out)
    out.note(_intention(spec, paths, cluster_id), style="yellow")
    out.confirm(f"Destroy {spec.name}?", yes=yes)
    with Session(paths, "destroy") as session:
        tell_ended(session, out)
        told = {**_epoch(session, spec), "kubewright_confirm_destroy": cluster_id or spec.name}
        _set_damaged_machines_aside(spec.name, paths, out)
        result = run_playbook(session, out, PLAYBOOK, file, told)
    finish(result, out, {"cluster": spec.name}, f"{spec.name} is gone: {work_done(result)}.")


def _intention(spec: Spec, paths: ClusterPaths, cluster_id: str | None) -> str:
    """Return what will be done to which machines, and to the keys."""
    if cluster_id:
        return (
            f"destroy deletes the machines that carry the id {cluster_id} and the name "
            f"{spec.name}, with all data on them"
        )
    try:
        machines = read(paths.machines, spec.name).machines
    except MachinesError:
        machines = ()
    made = [machine.name for machine in machines if machine.provider != STATIC]
    own = spec.own_hosts()
    whose = "all other machines" if own else "all machines"
    gone = (
        f"{whose} of {spec.name} (known: {', '.join(made) or 'none'}), with all data on them, "
        "and the cluster's keys"
    )
    elsewhere = set(providers(paths)) - {STATIC}
    if not made and not elsewhere and set(expected_hosts(spec)) == set(own):
        gone = f"the keys of {spec.name}"
    words = "stays and is reset" if len(own) == 1 else "stay and are reset"
    kept = f"; {', '.join(own)} {words}: all pods and data of pods go" if own else ""
    return f"destroy deletes {gone}{kept}"


def _set_damaged_machines_aside(cluster: str, paths: ClusterPaths, out: Output) -> None:
    """A machines.json that can't be read is no reason to stop: the provider knows its machines."""
    try:
        read(paths.machines, cluster)
    except MachinesError as error:
        aside = paths.machines.with_suffix(".json.damaged")
        paths.machines.replace(aside)
        out.note(f"{error}; it is now {aside}", style="yellow")


def _epoch(session: Session, spec: Spec) -> dict[str, int]:
    """A store that can't be read does not matter any more where no node is asked anything.

    :raises StoreError: it can't be read, and nodes are reset, which refuse a lower epoch.
    """
    try:
        return {"kubewright_epoch": session.next_epoch()}
    except StoreError:
        if spec.own_hosts():
            raise
        return {}
