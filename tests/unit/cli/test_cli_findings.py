# SPDX-License-Identifier: Apache-2.0
"""Findings as a table in which nothing is cut, and the exit code of a run that ends by them."""

from __future__ import annotations

import io
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from kubewright.act import Finding, HostTasks, Result
from kubewright.cli.exits import CommandError, ExitCode
from kubewright.cli.findings import table
from kubewright.cli.outcome import finish
from kubewright.cli.output import Format, Output
from kubewright.operate import Look
from kubewright.plan import Plan

HOST = "a-control-plane-with-a-long-name-in-the-cluster-of-an-example"
PATH = "/var/lib/a/path/that/is/longer/than/any/column/of/a/narrow/terminal/can/be.json"


def finding(host: str, severity: Any = "fatal") -> Finding:
    return Finding(host, "swap", severity, f"{PATH} is in the way", f"rm {PATH}")


def ended(status: str = "failed", *findings: Finding, failed: int = 0, lost: int = 0) -> Result:
    return Result(
        run="1",
        playbook="site",
        status=status,
        changed=False,
        host_tasks=HostTasks(ok=3, failed=failed, unreachable=lost),
        host_task_counts={},
        failures=(),
        seconds=1.0,
        phases=(),
        log=Path("log.txt"),
        findings=findings,
        unreachable={"a": "no"} if lost else {},
    )


@pytest.mark.parametrize("width", [40, 80, 120])
def test_nothing_is_cut_on_a_narrow_terminal(width: int) -> None:
    file = io.StringIO()
    Console(file=file, width=width, force_terminal=True, no_color=True).print(
        table([finding(HOST), finding("b", "warning")])
    )
    shown = file.getvalue()
    assert "…" not in shown
    letters = [letter for letter in shown if letter.isalnum()]
    wanted = [letter for letter in f"{HOST}{PATH}{PATH}{PATH}{PATH}" if letter.isalnum()]
    assert all(letters.count(letter) >= wanted.count(letter) for letter in set(wanted))


def test_common_names_are_whole_at_80_columns() -> None:
    file = io.StringIO()
    names = [f"prod-control-plane-{number}" for number in range(3)]
    Console(file=file, width=80).print(table(finding(name) for name in names))
    shown = [line.split(" ")[0] for line in file.getvalue().splitlines()]
    assert shown[1:4] == [f"{names[0]},", f"{names[1]},", names[2]]


def test_what_is_no_terminal_has_one_line_a_finding(
    capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    monkeypatch.delenv("FORCE_COLOR", raising=False)
    Output().notes.print(table([finding(HOST)]))
    _, line = capfd.readouterr().err.splitlines()
    assert [word for word in line.split() if word in (HOST, PATH)] == [HOST, PATH, PATH]


@pytest.mark.parametrize(
    ("result", "code"),
    [
        (ended("failed", lost=1), ExitCode.UNHEALTHY),
        (ended("failed", finding("a"), lost=1), ExitCode.UNHEALTHY),
        (ended("failed", finding("a"), finding("b", "warning"), lost=1), ExitCode.UNHEALTHY),
        (ended("failed", finding("a"), finding("b"), lost=1), ExitCode.FAILED),
        (ended("failed", finding("b")), ExitCode.FAILED),
        (ended("failed", failed=1, lost=1), ExitCode.FAILED),
    ],
)
def test_machines_that_answer_and_are_unfit_are_no_matter_of_waiting(
    result: Result, code: ExitCode
) -> None:
    with pytest.raises(CommandError) as caught:
        finish(result, Output(Format.JSON), {}, "")
    assert caught.value.code == code


def test_a_run_that_went_well_has_said_all() -> None:
    nothing = Plan((), ())
    assert not Look(nothing, ended("successful", failed=1)).failed, "one that was rescued"
    assert Look(nothing, ended("failed", failed=1)).failed


@pytest.mark.parametrize("words", [("apply",), ("apply", "--check"), ("plan",)])
def test_where_nobody_answers_the_table_says_why(
    recorded: Any,
    command: Callable[..., Any],
    monkeypatch: pytest.MonkeyPatch,
    words: tuple[str, ...],
) -> None:
    """The playbook itself ends well: whoever does not answer is passed over. Nobody is asked."""
    monkeypatch.setattr("sys.stdin.isatty", lambda: True, raising=False)
    hosts = ["demo-cp-1", "demo-web-1"]
    unknown = {"check": "ssh", "severity": "fatal", "text": "no key", "remedy": "connect once"}
    found = [{"host": host, **unknown} for host in hosts]
    said = [
        *(raw("runner_on_unreachable", host, "kubewright.cluster.node_state") for host in hosts),
        raw("runner_on_ok", "localhost", "kubewright.cluster.preflight_report", findings=found),
    ]
    recorded.events = {"plan": said, "site": said}
    run = command(*words)
    assert (run.code, run.out) == (3, "")
    assert run.err.count("connect once") == 1
    assert "Error: no node answers\nFix the findings" in run.err
    told = json.loads(command(*words, "-o", "json").out)
    assert [one["host"] for one in told["findings"]] == hosts


def raw(kind: str, host: str, action: str, **res: Any) -> dict[str, Any]:
    """An event of ansible-runner."""
    data = {"host": host, "task": "Look", "task_action": action, "task_uuid": "1", "res": res}
    return {"event": kind, "created": "2026-01-01T00:00:01+00:00", "event_data": data}
