# SPDX-License-Identifier: Apache-2.0
"""``kubewright history``: the runs that a cluster has had, and where the time of one went."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer
from rich.table import Table
from rich.text import Text

from kubewright.act import Trace, TraceError
from kubewright.cli.exits import CommandError
from kubewright.cli.options import DEFAULT_FILE, File, Form
from kubewright.cli.output import Format, Output, counted
from kubewright.cli.runs import LIST, RunId, chosen, first, known_runs
from kubewright.cli.state import opened
from kubewright.cli.timeline import Timeline, svg
from kubewright.spec import load
from kubewright.store.history import Run
from kubewright.store.runs import LOG, TRACE

_history = typer.Typer(help="Past runs: what each did, and how long it took.")


def register(app: typer.Typer) -> None:
    """Add the commands."""
    app.add_typer(_history, name="history", no_args_is_help=True)


@_history.command("list")
def list_runs(
    file: File = DEFAULT_FILE,
    output: Form = Format.TEXT,
    last: Annotated[int, typer.Option(min=1, help="Number of runs to list.")] = 20,
) -> None:
    """List runs, newest first."""
    out = Output(output)
    spec = load(file)
    opened(spec, file, out)
    cluster = spec.name
    rows = []
    for run in known_runs(cluster)[:last]:
        try:
            rows.append((run, _read(run)))
        except TraceError as error:
            out.note(f"{run.directory / TRACE}: is damaged: {error}", style="yellow")
            rows.append((run, None))
    if not rows:
        out.note(f"{cluster} has no runs yet: {first(file)}")
    out.result([_row(run, trace) for run, trace in rows], _table(rows))


@_history.command("show")
def show_run(
    run: RunId = None,
    file: File = DEFAULT_FILE,
    output: Form = Format.TEXT,
    picture: Annotated[
        Path | None,
        typer.Option("--svg", metavar="FILE", help="Also write the timeline to this SVG file."),
    ] = None,
) -> None:
    """Show the timeline of a run, and its slowest tasks."""
    out = Output(output)
    spec = load(file)
    opened(spec, file, out)
    cluster = spec.name
    one = chosen(cluster, run, file)
    trace = _trace(one)
    timeline = Timeline(trace, _heading(cluster, one, trace))
    if picture is not None:
        title = f"{cluster}: {one.operation or trace.playbook}"
        picture.write_text(svg(timeline, title, f"run-{trace.run}"), encoding="utf-8")
        out.note(f"the picture is in {picture}")
    out.result(trace.as_dict(), timeline)


def _read(run: Run) -> Trace | None:
    """Return the trace of a run, None when it has none.

    :raises TraceError: it is damaged.
    """
    try:
        return Trace.parse((run.directory / TRACE).read_bytes())
    except FileNotFoundError:
        return None


def _trace(run: Run) -> Trace:
    path = run.directory / TRACE
    try:
        trace = _read(run)
    except TraceError as error:
        raise CommandError(
            f"{path} is damaged: {error}",
            remedy=f"Remove it. The run's log is {path.with_name(LOG)}.",
        ) from error
    if trace is not None:
        return trace
    if run.status == "in progress":
        remedy = "The trace is written when the run ends."
    elif path.with_name(LOG).exists():
        remedy = f"See its log, {path.with_name(LOG)}. For other runs: {LIST}."
    else:
        remedy = f"Traces are kept for the newest runs only; {LIST} lists them."
    raise CommandError(
        f"the run {run.run} ({run.status or 'status unknown'}) has no trace", remedy=remedy
    )


def _heading(cluster: str, run: Run, trace: Trace) -> list[str]:
    what = f"{run.operation}: {trace.playbook}" if run.operation else trace.playbook
    done = f"{trace.changed} changed of {counted(trace.host_tasks, 'host-task')}"
    return [
        f"{cluster}  {what}  {run.status or 'status unknown'}  {trace.seconds:.1f} s  {done}",
        f"run {trace.run}, began {trace.began:%Y-%m-%d %H:%M:%S} UTC",
    ]


def _row(run: Run, trace: Trace | None) -> dict[str, Any]:
    began = run.began or (trace.began if trace else None)
    return {
        "run": run.run,
        "began": began.isoformat(timespec="seconds") if began else None,
        "operation": run.operation or None,
        "playbook": run.playbook or (trace.playbook if trace else None),
        "status": run.status or None,
        "seconds": round(trace.seconds, 1) if trace else run.seconds,
        "changed": trace.changed if trace else None,
        "host_tasks": trace.host_tasks if trace else None,
    }


def _table(rows: list[tuple[Run, Trace | None]]) -> Table:
    table = Table("run", "began (UTC)", "operation", "playbook", "status", box=None)
    table.add_column("seconds", justify="right")
    table.add_column("changed/host-tasks", justify="right")
    for run, trace in rows:
        row = _row(run, trace)
        table.add_row(
            run.run,
            str(row["began"] or "-")[:19].replace("T", " "),
            row["operation"] or "-",
            row["playbook"] or "-",
            Text(run.status or "-", style="green" if run.status == "successful" else "yellow"),
            "-" if row["seconds"] is None else f"{row['seconds']:.1f}",
            f"{trace.changed}/{trace.host_tasks}" if trace else "-",
        )
    return table
