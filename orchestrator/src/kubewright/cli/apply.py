# SPDX-License-Identifier: Apache-2.0
"""``kubewright apply``: make the cluster, or bring it back to what the file says."""

from __future__ import annotations

import shlex

import typer

from kubewright.act import Session
from kubewright.cli.operation import finish, run_playbook, tell_ended, work_done
from kubewright.cli.options import DEFAULT_FILE, File, Form, Yes
from kubewright.cli.output import Format, Output, counted
from kubewright.cli.progress import Progress
from kubewright.cli.validate import summary
from kubewright.image import ROLES, build
from kubewright.locations import ClusterPaths
from kubewright.observe.health import expected_hosts
from kubewright.spec import Spec, load
from kubewright.spec.machines import MachinesError, read
from kubewright.spec.version import resolve

PLAYBOOK = "kubewright.cluster.site"


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command()(apply)


def apply(file: File = DEFAULT_FILE, output: Form = Format.TEXT, yes: Yes = False) -> None:
    """Make the cluster, or bring it back to what cluster.yml says. Never removes a machine."""
    out = Output(output)
    spec = load(file)
    version = resolve(spec.version)
    paths = ClusterPaths.of(spec.name)
    out.note(summary(spec, version))
    out.note(_intention(spec, paths))
    out.confirm("Do it?", yes=yes)
    with Session(paths, "apply") as session:
        tell_ended(session, out)
        _build_images(version, out)
        epoch = session.next_epoch()
        result = run_playbook(session, out, PLAYBOOK, file, {"kubewright_epoch": epoch})
    finish(
        result,
        out,
        {"cluster": spec.name, "kubernetes": version, "epoch": epoch},
        f"{spec.name} is as {file} says: {work_done(result)}.\n"
        f"Credentials: (umask 077; kubewright kubeconfig -f {shlex.quote(str(file))} "
        f"> {spec.name}.kubeconfig)",
    )


def _intention(spec: Spec, paths: ClusterPaths) -> str:
    """Return what will be done to which machines, as far as is known before it begins."""
    hosts = expected_hosts(spec)
    try:
        known = read(paths.machines, spec.name).by_name()
    except MachinesError as error:
        return f"which machines there are is not known ({error})"
    new = [host for host in hosts if host not in known]
    made = f"makes {counted(len(new), 'machine')} ({', '.join(new)})" if new else ""
    kept = f"checks {counted(len(hosts) - len(new), 'machine')}" if len(new) < len(hosts) else ""
    return f"apply {' and '.join(filter(None, [made, kept]))}"


def _build_images(version: str, out: Output) -> None:
    """Build the system images that are not in the store: minutes at first, nothing later."""
    with Progress(out.notes) as progress:
        build(version, ROLES, lambda line, _: progress.line(line))
