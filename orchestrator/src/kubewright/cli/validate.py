# SPDX-License-Identifier: Apache-2.0
"""``kubewright validate`` and ``kubewright schema``: the file alone."""

from __future__ import annotations

from pathlib import Path

import typer

from kubewright.cli.exits import ExitCode
from kubewright.cli.failures import problem_data
from kubewright.cli.options import DEFAULT_FILE, File, Form
from kubewright.cli.output import Format, Output, counted, serialised
from kubewright.spec import Spec, SpecError, json_schema, load
from kubewright.spec.version import newer, release


def register(app: typer.Typer) -> None:
    """Add the commands."""
    app.command()(validate)
    app.command()(schema)


def validate(file: File = DEFAULT_FILE, output: Form = Format.TEXT) -> None:
    """Check cluster.yml and list every problem in it."""
    out = Output(output)
    try:
        spec = load(file)
    except SpecError as error:
        _tell(out, file, error)
        raise typer.Exit(ExitCode.BAD_INPUT) from error
    version = release(spec)
    data = {"valid": True, "cluster": spec.name, "kubernetes": version, "problems": []}
    out.result({**data, "available": newer(spec) or None}, f"{file}: {summary(spec, version)}")
    tell_newer(spec, out)


def _tell(out: Output, file: Path, error: SpecError) -> None:
    for problem in error.problems:
        out.note(str(problem), style="red")
    problems = [problem_data(problem) for problem in error.problems]
    if out.form is not Format.TEXT:
        out.result({"valid": False, "problems": problems}, "")


def summary(spec: Spec, version: str) -> str:
    """Return a cluster in one line."""
    control_planes = counted(spec.control_plane.count, "control plane")
    pools = "".join(f", pool {pool.name} of {pool.count}" for pool in spec.pools)
    return f"cluster {spec.name}, Kubernetes {version}, {control_planes}{pools}"


def tell_newer(spec: Spec, out: Output) -> None:
    """Say which release a new cluster of this file would have, where this one has an older one."""
    if available := newer(spec):
        out.note(
            f"Kubernetes {available} is available. {spec.name} keeps {release(spec)}: "
            "Kubewright can't upgrade a cluster yet."
        )


def schema(output: Form = Format.JSON) -> None:
    """Print the JSON Schema of cluster.yml, for editors."""
    data = json_schema()
    Output(output).result(data, serialised(data, Format.JSON).rstrip("\n"))
