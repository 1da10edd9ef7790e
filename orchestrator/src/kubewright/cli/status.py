# SPDX-License-Identifier: Apache-2.0
"""``kubewright status``: what is, and what is wrong with it. Reads only."""

from __future__ import annotations

import typer
from rich.console import Group, RenderableType
from rich.text import Text

from kubewright.act.remedies import remedy
from kubewright.cli.exits import ExitCode
from kubewright.cli.options import DEFAULT_FILE, File, Form
from kubewright.cli.output import Format, Output
from kubewright.cli.state import opened
from kubewright.cli.tree import tree
from kubewright.cli.validate import tell_newer
from kubewright.observe import Snapshot, take, troubles, warnings
from kubewright.spec import Spec, load
from kubewright.spec.version import begun_with, newer, release


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command()(status)


def status(file: File = DEFAULT_FILE, output: Form = Format.TEXT) -> None:
    """Show the health of control plane, etcd, pools and nodes. Exit code 3 if unhealthy."""
    out = Output(output)
    spec = load(file)
    paths = opened(spec, file, out).paths
    snapshot = take(spec, paths)
    # What runs counts, whatever the file says by now.
    version = " and ".join(snapshot.versions) or begun_with(spec.name) or release(spec)
    wrong = troubles(spec, snapshot, remedy)
    data = {
        **snapshot.as_dict(),
        "kubernetes": version,
        "available": newer(spec) or None,
        "healthy": not wrong,
        "troubles": list(wrong),
        "warnings": list(warnings(snapshot)),
    }
    out.result(data, _page(spec, version, snapshot, wrong))
    tell_newer(spec, out)
    if wrong:
        raise typer.Exit(ExitCode.UNHEALTHY)


def _page(spec: Spec, version: str, snapshot: Snapshot, wrong: tuple[str, ...]) -> RenderableType:
    parts: list[RenderableType] = [tree(spec, version, snapshot)]
    parts += [Text(f"✗ {sentence}", style="red") for sentence in wrong]
    parts += [Text(f"! {sentence}", style="yellow") for sentence in warnings(snapshot)]
    parts += [] if wrong else [Text("✓ healthy", style="green")]
    return Group(*parts)
