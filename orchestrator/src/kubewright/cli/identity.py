# SPDX-License-Identifier: Apache-2.0
"""``kubewright identity``: the cluster's authorities as one file, for where no files are kept."""

from __future__ import annotations

import shlex
import sys
from typing import Annotated

import typer

from kubewright.cli.exits import CommandError, ExitCode
from kubewright.cli.options import DEFAULT_FILE, File, Form
from kubewright.cli.outcome import finish
from kubewright.cli.output import Format, Output
from kubewright.cli.state import opened
from kubewright.cli.watching import Terminal
from kubewright.operate import identity as operation
from kubewright.spec import load

_identity = typer.Typer(
    help="The cluster's CAs and keys, for controllers that keep no files (AWX)."
)


def register(app: typer.Typer) -> None:
    """Add the commands."""
    app.add_typer(_identity, name="identity", no_args_is_help=True)


@_identity.command("make")
def make(file: File = DEFAULT_FILE, output: Form = Format.TEXT) -> None:
    """Create the cluster's CAs and keys before its first run, and record which node initializes it.

    Does nothing if they exist.
    """
    out = Output(output)
    cluster = opened(load(file), file, out)
    result = operation.make(cluster, Terminal(out))
    where = str(cluster.paths.identity)
    text = f"The identity of {cluster.name} is in {where}."
    finish(result, out, {"cluster": cluster.name, "identity": where}, text)


@_identity.command("export")
def export(
    file: File = DEFAULT_FILE,
    output: Form = Format.JSON,
    begun: Annotated[
        bool,
        typer.Option("--initialized", help="First record that the cluster has been initialized."),
    ] = False,
    force: Annotated[
        bool, typer.Option("--force", help="Print it even if stdout is a terminal.")
    ] = False,
) -> None:
    """Print the cluster's identity as one JSON document. It contains private keys."""
    if output is Format.YAML:
        raise CommandError(
            "an identity is printed as JSON only",
            remedy="Omit -o yaml.",
            code=ExitCode.BAD_INPUT,
        )
    out = Output(Format.JSON)
    spec = load(file)
    if sys.stdout.isatty() and not force:
        raise CommandError(
            "the identity contains private keys, and stdout is a terminal",
            remedy=f"(umask 077; kubewright identity export -f {shlex.quote(str(file))}"
            f"{' --initialized' if begun else ''} > {spec.name}.identity)",
            code=ExitCode.REFUSED,
        )
    cluster = opened(spec, file, out)
    bundle = operation.read(cluster.paths)
    if begun:
        bundle = operation.record_begun(cluster, Terminal(out))
    if not bundle["cluster"].get("initial_node") and not bundle["cluster"].get("begun"):
        raise CommandError(
            f"the identity in {cluster.paths.identity} does not say which node initializes "
            f"{spec.name}: every controller that uses it could initialize a separate cluster",
            remedy=f"kubewright identity make -f {shlex.quote(str(file))}, then export it again",
            code=ExitCode.REFUSED,
        )
    out.result(bundle, "")
