# SPDX-License-Identifier: Apache-2.0
"""``kubewright logs``: what ansible-playbook said in a run."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Annotated, TextIO

import typer
from rich.text import Text

from kubewright.act import Failure, failures
from kubewright.cli.exits import CommandError
from kubewright.cli.options import DEFAULT_FILE, File, Form
from kubewright.cli.output import Format, Output
from kubewright.cli.runs import LIST, RunId, chosen
from kubewright.cli.state import opened
from kubewright.spec import load
from kubewright.store.history import Run
from kubewright.store.runs import FAILURES, LOG

Failed = Annotated[
    bool, typer.Option("--failed", help="Show only failed tasks, with their messages.")
]
#: Characters of a log that are printed at once: a large cluster's has hundreds of megabytes.
BLOCK = 1 << 16


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command()(logs)


def logs(
    run: RunId = None,
    file: File = DEFAULT_FILE,
    output: Form = Format.TEXT,
    failed: Failed = False,
) -> None:
    """Print the log of a run, by default the newest."""
    out = Output(output)
    spec = load(file)
    opened(spec, file, out)
    one = chosen(spec.name, run, file)
    data = {"run": one.run, "status": one.status or None, "log": str(one.directory / LOG)}
    if not failed and out.form is Format.TEXT:
        _print(one, out)
        return
    if not failed:
        out.result({**data, "lines": _lines(one)}, "")
        return
    found = _failures(one)
    if not found:
        status = one.status or "status unknown"
        out.note(f"no task failed in the run {one.run} ({status})")
    told = {**data, "failures": [failure.as_dict() for failure in found]}
    out.result(told, Text("\n").join(_told(failure) for failure in found))


@contextmanager
def _opened(run: Run) -> Iterator[TextIO]:
    """The log of a run, whose lines end with a line feed and with nothing else."""
    path = run.directory / LOG
    try:
        file = path.open(encoding="utf-8", errors="replace", newline="\n")
    except FileNotFoundError:
        raise CommandError(
            f"the run {run.run} ({run.status or 'status unknown'}) has no log",
            remedy=f"Logs are kept for the newest runs only; {LIST} lists them.",
        ) from None
    with file:
        yield file


def _print(run: Run, out: Output) -> None:
    with _opened(run) as file:
        end = "\n"
        while block := file.read(BLOCK):
            out.straight(block)
            end = block[-1]
    if end != "\n":
        out.straight("\n")


def _lines(run: Run) -> list[str]:
    with _opened(run) as file:
        return [line.removesuffix("\n") for line in file]


def _failures(run: Run) -> list[Failure]:
    path = run.directory / FAILURES
    try:
        found = failures.read(path)
    except failures.FailuresError as error:
        raise CommandError(f"{error}", remedy=f"The run's log is {run.directory / LOG}.") from error
    if found is not None:
        return found
    with _opened(run):
        pass  # it is kept as long as its log
    if run.status not in ("failed", "error", "canceled"):
        return []
    raise CommandError(
        f"what failed in the run {run.run} ({run.status}) is not recorded",
        remedy=f"It was run by an older Kubewright. Its log is {run.directory / LOG}.",
    )


def _told(failure: Failure) -> Text:
    # One before any task has neither host nor task.
    where = f"{failure.host}: {failure.task}" if failure.host else "before any task"
    text = Text.assemble((where, "bold red"), f"\n  {failure.message}")
    return text.append(f"\n  {failure.remedy}", style="yellow") if failure.remedy else text
