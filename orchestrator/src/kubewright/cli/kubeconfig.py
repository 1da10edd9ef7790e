# SPDX-License-Identifier: Apache-2.0
"""``kubewright kubeconfig``: administrator credentials that point at a living control plane."""

from __future__ import annotations

import typer

from kubewright.cli.exits import CommandError, ExitCode
from kubewright.cli.options import DEFAULT_FILE, File, Form
from kubewright.cli.output import Format, Output, serialised
from kubewright.cli.state import opened
from kubewright.observe import pointed_at, read_kubeconfig
from kubewright.observe.control_plane import PORT
from kubewright.observe.snapshot import api_servers
from kubewright.spec import load
from kubewright.spec.names import api_name


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command()(kubeconfig)


def kubeconfig(file: File = DEFAULT_FILE, output: Form = Format.YAML) -> None:
    """Print an administrator's kubeconfig that points at a healthy control plane."""
    out = Output(output)
    spec = load(file)
    paths = opened(spec, file, out).paths
    credentials = read_kubeconfig(paths.kubeconfig)
    servers = api_servers(spec, paths)
    living = next((server for server in servers if server.ready), None)
    if living is None:
        reasons = "; ".join(f"{server.host}: {server.reason}" for server in servers)
        raise CommandError(
            f"no control plane of {spec.name} is ready ({reasons or 'no machines known'})",
            remedy="See 'kubewright status'.",
            code=ExitCode.UNHEALTHY,
        )
    data = pointed_at(credentials, f"https://{living.address}:{PORT}", api_name(spec.name))
    out.result(data, serialised(data, Format.YAML).rstrip("\n"))
