# SPDX-License-Identifier: Apache-2.0
"""What came of an operation, told: its result, or why it failed and what to do about it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from rich.console import RenderableType

from kubewright.act import Result
from kubewright.act.messages import named
from kubewright.act.remedies import remedies
from kubewright.cli.exits import CommandError, ExitCode
from kubewright.cli.output import Format, Output, counted

#: Failures that are told at the end of a run; the log has all.
MOST_FAILURES = 20


def finish(
    result: Result,
    out: Output,
    data: Mapping[str, Any],
    text: RenderableType,
    *,
    partial: bool = False,
) -> None:
    """Print what came of a run, or why it failed. ``partial``: the text also where it failed.

    :raises CommandError: it did not end well.
    """
    whole = {**data, **result.as_dict()}
    if result.ok:
        out.result(whole, text)
        return
    if partial and out.form is Format.TEXT:  # other forms have the data with the error
        out.result(whole, text)
    if result.status == "canceled":
        message, code = "interrupted", ExitCode.INTERRUPTED
    else:
        tasks = result.host_tasks
        only_unreachable = tasks.unreachable > 0 and tasks.failed == 0
        unfit = any(one.fatal and one.host not in result.unreachable for one in result.findings)
        message = "\n".join(_failure_lines(result))
        code = ExitCode.UNHEALTHY if only_unreachable and not unfit else ExitCode.FAILED
    kept = "The incomplete log" if result.log_error else "The full log"
    remedy = "\n".join([*_remedy_lines(result), f"{kept} is {result.log}"])
    raise CommandError(message, remedy=remedy, code=code, data=whole)


def _failure_lines(result: Result) -> list[str]:
    lines = []
    for failure in result.failures[:MOST_FAILURES]:
        where = f"{failure.host}: {failure.task}: " if failure.host else ""
        lines.append(f"{where}{failure.message}")
    more = len(result.failures) - len(lines)
    lines += [f"and {counted(more, 'failure')} more; see the log"] if more > 0 else []
    return lines or [f"the run ended with status {result.status}"]


def _remedy_lines(result: Result) -> list[str]:
    """Return what to do about failures of a known kind, once each."""
    found = remedies((failure.host, failure.message) for failure in result.failures)
    return [f"{named(hosts)}: {words}" if any(hosts) else words for words, hosts in found]


def work_done(result: Result) -> str:
    """Return how much a run did, in words."""
    tasks = result.host_tasks
    changed = counted(tasks.changed, "change") if result.changed else "nothing changed"
    return f"{changed}, {counted(tasks.total, 'host-task')}, {result.seconds:.0f} s"
