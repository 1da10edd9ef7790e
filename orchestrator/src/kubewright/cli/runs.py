# SPDX-License-Identifier: Apache-2.0
"""The runs of a cluster, and which one a user means."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import Annotated

import typer

from kubewright.act.messages import named
from kubewright.cli.exits import CommandError, ExitCode
from kubewright.cli.options import completed
from kubewright.cli.output import counted
from kubewright.locations import ClusterPaths
from kubewright.store import Journal
from kubewright.store.history import Run, history

LIST = "kubewright history list"


def complete_run(ctx: typer.Context, incomplete: str) -> list[str]:
    """Return the ids of runs that begin so, newest first, for the shell."""
    return completed(ctx, incomplete, lambda spec: (run.run for run in known_runs(spec.name)))


RunId = Annotated[
    str | None,
    typer.Argument(
        help="A run's id, or its first characters. Default: the newest run.",
        autocompletion=complete_run,
    ),
]


def first(file: Path) -> str:
    """Return how the first run is made, for who has none yet."""
    return f"kubewright apply -f {shlex.quote(str(file))} starts the first one"


def known_runs(cluster: str) -> list[Run]:
    """Return all runs that are known, newest first."""
    paths = ClusterPaths.of(cluster)
    return history(Journal(paths.journal), paths.runs)


def chosen(cluster: str, prefix: str | None, file: Path) -> Run:
    """Return the run whose id begins so; the newest one without a prefix.

    :raises CommandError: there is none, or more than one.
    """
    known = known_runs(cluster)
    if not known:
        raise CommandError(f"{cluster} has no runs yet", remedy=f"{first(file)}.")
    if prefix is None:
        return known[0]
    found = [run for run in known if run.run.startswith(prefix)]
    exact = [run for run in found if run.run == prefix]
    if len(found) > 1 and not exact:
        names = named(run.run for run in found)
        raise CommandError(
            f"{counted(len(found), 'run')} of {cluster} start with {prefix!r}: {names}",
            remedy="Give more characters of the id.",
            code=ExitCode.BAD_INPUT,
        )
    if not found:
        raise CommandError(
            f"no run of {cluster} starts with {prefix!r}",
            remedy=f"{LIST} -f {shlex.quote(str(file))} lists the runs.",
            code=ExitCode.BAD_INPUT,
        )
    return (exact or found)[0]
