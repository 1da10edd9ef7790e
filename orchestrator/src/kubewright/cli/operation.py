# SPDX-License-Identifier: Apache-2.0
"""What apply and destroy share: a session, a run that can be cancelled, and its outcome."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from kubewright.act import Result, Session
from kubewright.cli.exits import CommandError, ExitCode
from kubewright.cli.interrupts import cancelling
from kubewright.cli.output import Output, counted
from kubewright.cli.progress import Progress


def tell_ended(session: Session, out: Output) -> None:
    """Say what a dead orchestrator had left, which the session has ended."""
    for run in session.ended:
        out.note(f"the run {run} was left unfinished by an earlier command; it was ended")


def run_playbook(
    session: Session,
    out: Output,
    name: str,
    file: Path,
    extra_vars: Mapping[str, Any],
    options: tuple[str, ...] = (),
) -> Result:
    """Run a playbook and show its progress; signals cancel it."""

    def tell() -> None:
        out.note("interrupted: ending the run, this takes some seconds", style="yellow")

    with cancelling(session.cancel, tell), Progress(out.notes) as progress:
        result = session.run(
            name, inventory=file, extra_vars=extra_vars, options=options, on_event=progress
        )
    if result.log_error:
        out.note(f"the log {result.log} is incomplete: {result.log_error}", style="yellow")
    return result


def finish(result: Result, out: Output, data: Mapping[str, Any], text: str) -> None:
    """Print what came of a run, or why it failed.

    :raises CommandError: it did not end well.
    """
    whole = {**data, **result.as_dict()}
    if result.ok:
        out.result(whole, text)
        return
    if result.status == "canceled":
        message, code = "interrupted", ExitCode.INTERRUPTED
    else:
        tasks = result.host_tasks
        only_unreachable = tasks.unreachable > 0 and tasks.failed == 0
        message = "\n".join(_failure_lines(result))
        code = ExitCode.UNHEALTHY if only_unreachable else ExitCode.FAILED
    kept = "What there is of the log" if result.log_error else "The full log"
    raise CommandError(message, remedy=f"{kept} is {result.log}", code=code, data=whole)


def _failure_lines(result: Result) -> list[str]:
    lines = []
    for failure in result.failures:
        where = f"{failure.host}: {failure.task}: " if failure.host else ""
        lines.append(f"{where}{failure.message}")
    return lines or [f"the run ended as {result.status}"]


def work_done(result: Result) -> str:
    """Return how much a run did, in words."""
    tasks = result.host_tasks
    changed = counted(tasks.changed, "change") if result.changed else "nothing changed"
    return f"{changed}, {counted(tasks.total, 'host-task')}, {result.seconds:.0f} s"
