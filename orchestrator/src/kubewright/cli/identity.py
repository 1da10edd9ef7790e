# SPDX-License-Identifier: Apache-2.0
"""``kubewright identity``: the cluster's authorities as one file, for where no files are kept."""

from __future__ import annotations

import json
import shlex
import sys
from typing import Annotated, Any

import typer

from kubewright.act import Session
from kubewright.cli.exits import CommandError, ExitCode
from kubewright.cli.operation import finish, run_playbook, tell_ended
from kubewright.cli.options import DEFAULT_FILE, File, Form
from kubewright.cli.output import Format, Output
from kubewright.cli.state import own_state
from kubewright.locations import ClusterPaths
from kubewright.spec import load
from kubewright.store.files import replace

PLAYBOOK = "kubewright.cluster.identity"
#: The form of the bundle; ``_bundle`` of the collection reads it.
FORM = 1
#: What an identity has below ``pki``, named as kubeadm does; ``_identity`` of the collection.
FILES = (
    "ca.crt",
    "ca.key",
    "etcd/ca.crt",
    "etcd/ca.key",
    "front-proxy-ca.crt",
    "front-proxy-ca.key",
    "sa.key",
    "sa.pub",
)

_identity = typer.Typer(help="The cluster's authorities, for runs that keep no files (AWX).")


def register(app: typer.Typer) -> None:
    """Add the commands."""
    app.add_typer(_identity, name="identity", no_args_is_help=True)


@_identity.command("make")
def make(file: File = DEFAULT_FILE, output: Form = Format.TEXT) -> None:
    """Make the cluster's authorities before its first run, and say which node begins it.

    Where they are there already, nothing is done.
    """
    out = Output(output)
    spec = load(file)
    paths = own_state(spec, file, out)
    with Session(paths, "identity make") as session:
        tell_ended(session, out)
        result = run_playbook(session, out, PLAYBOOK, file, {})
    text = f"The identity of {spec.name} is in {paths.identity}."
    finish(result, out, {"cluster": spec.name, "identity": str(paths.identity)}, text)


@_identity.command("export")
def export(
    file: File = DEFAULT_FILE,
    output: Form = Format.JSON,
    begun: Annotated[
        bool, typer.Option("--begun", help="Record first that the cluster has been whole once.")
    ] = False,
    force: Annotated[bool, typer.Option("--force", help="Print it on a terminal too.")] = False,
) -> None:
    """Print the cluster's identity as one JSON document. It holds private keys."""
    if output is Format.YAML:
        raise CommandError(
            "an identity is taken as JSON alone",
            remedy="Leave -o yaml out.",
            code=ExitCode.BAD_INPUT,
        )
    out = Output(Format.JSON)
    spec = load(file)
    if sys.stdout.isatty() and not force:
        raise CommandError(
            "the identity holds private keys, and stdout is a terminal",
            remedy=f"(umask 077; kubewright identity export -f {shlex.quote(str(file))}"
            f"{' --begun' if begun else ''} > {spec.name}.identity)",
            code=ExitCode.REFUSED,
        )
    paths = own_state(spec, file, out)
    bundle = read(paths)
    if begun:
        with Session(paths, "identity export") as session:
            tell_ended(session, out)
            bundle = _record_begun(paths)
    if not bundle["cluster"].get("initial_node") and not bundle["cluster"].get("begun"):
        raise CommandError(
            f"the identity in {paths.identity} does not say which node begins {spec.name}: of "
            "those who take it, each could begin a cluster of its own",
            remedy=f"kubewright identity make -f {shlex.quote(str(file))}, then export again",
            code=ExitCode.REFUSED,
        )
    out.result(bundle, "")


def _record_begun(paths: ClusterPaths) -> dict[str, Any]:
    """Record where the identity lies too that the cluster has begun; return the bundle then."""
    bundle = read(paths)
    cluster = bundle["cluster"]
    if not cluster.get("begun"):
        cluster["begun"] = True
        replace(paths.identity / "cluster.json", json.dumps(cluster, indent=1) + "\n")
    return bundle


def read(paths: ClusterPaths) -> dict[str, Any]:
    """Return the bundle of the identity that lies on this machine.

    :raises CommandError: there is none, it can't be read, or it is not whole.
    """
    if not paths.identity.is_dir():
        raise CommandError(
            f"there is no identity in {paths.identity}",
            remedy="'kubewright identity make' makes it; 'kubewright apply' does so too.",
        )
    try:
        cluster = json.loads((paths.identity / "cluster.json").read_text(encoding="utf-8"))
        pki = {name: (paths.pki / name).read_text(encoding="ascii") for name in FILES}
    except FileNotFoundError as error:
        raise _not_whole(paths, f"it lacks {error.filename}") from error
    except ValueError as error:
        raise CommandError(
            f"the identity in {paths.identity} can't be read: {error}",
            remedy="Bring it back from a copy.",
        ) from error
    if not isinstance(cluster, dict):
        raise _not_whole(paths, "cluster.json holds no object")
    return {"kubewright_identity": FORM, "cluster": cluster, "pki": pki}


def _not_whole(paths: ClusterPaths, why: str) -> CommandError:
    return CommandError(
        f"the identity in {paths.identity} is not whole: {why}",
        remedy="Wait for a run that is under way, or bring it back from a copy.",
    )
