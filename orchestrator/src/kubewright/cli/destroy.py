# SPDX-License-Identifier: Apache-2.0
"""``kubewright destroy``: delete the cluster's machines and what is known of it here."""

from __future__ import annotations

import typer

from kubewright.act import Session
from kubewright.cli.operation import finish, run_playbook, tell_ended, work_done
from kubewright.cli.options import DEFAULT_FILE, File, Form, Yes
from kubewright.cli.output import Format, Output
from kubewright.locations import ClusterPaths
from kubewright.spec import load
from kubewright.spec.machines import MachinesError, read
from kubewright.store import StoreError

PLAYBOOK = "kubewright.cluster.destroy"


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command()(destroy)


def destroy(file: File = DEFAULT_FILE, output: Form = Format.TEXT, yes: Yes = False) -> None:
    """Delete the cluster's machines, with all that is on them, and its keys. Can't be undone."""
    out = Output(output)
    spec = load(file)
    paths = ClusterPaths.of(spec.name)
    out.note(_intention(spec.name, paths), style="yellow")
    out.confirm(f"Destroy {spec.name}?", yes=yes)
    with Session(paths, "destroy") as session:
        tell_ended(session, out)
        _set_damaged_machines_aside(spec.name, paths, out)
        result = run_playbook(session, out, PLAYBOOK, file, _epoch(session))
    finish(result, out, {"cluster": spec.name}, f"{spec.name} is gone: {work_done(result)}.")


def _intention(cluster: str, paths: ClusterPaths) -> str:
    try:
        machines = read(paths.machines, cluster).machines
    except MachinesError:
        machines = ()
    names = ", ".join(machine.name for machine in machines) or "none"
    return (
        f"destroy deletes all machines of {cluster} (known: {names}), with all data on them, "
        "and the cluster's keys"
    )


def _set_damaged_machines_aside(cluster: str, paths: ClusterPaths, out: Output) -> None:
    """A machines.json that can't be read is no reason to stop: the provider knows its machines."""
    try:
        read(paths.machines, cluster)
    except MachinesError as error:
        aside = paths.machines.with_suffix(".json.damaged")
        paths.machines.replace(aside)
        out.note(f"{error}; it is now {aside}", style="yellow")


def _epoch(session: Session) -> dict[str, int]:
    """A store that can't be read does not matter any more either: no node is asked anything."""
    try:
        return {"kubewright_epoch": session.next_epoch()}
    except StoreError:
        return {}
