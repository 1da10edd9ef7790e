# SPDX-License-Identifier: Apache-2.0
"""Progress lines, with a clock that is set by hand."""

from __future__ import annotations

import io

from rich.console import Console

from kubewright.act import HostResult, PhaseStarted, TaskStarted
from kubewright.cli.output import counted, elapsed
from kubewright.cli.progress import Progress


class Clock:
    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


def show(terminal: bool) -> list[str]:
    clock, written = Clock(), io.StringIO()
    console = Console(
        file=written, force_terminal=terminal, no_color=True, width=200, highlight=False
    )
    with Progress(console, clock) as progress:
        progress(PhaseStarted("Make the machines"))
        progress(TaskStarted("Make the machines", "Make [one] of them"))
        clock.now += 14
        progress(HostResult("Make the machines", "Make", "a", "changed"))
        progress(HostResult("Make the machines", "Look", "b", "ok"))
        progress(PhaseStarted("Nobody is here"))
        progress(PhaseStarted("Prepare [all] nodes"))
        progress(TaskStarted("Prepare [all] nodes", "Look"))
        clock.now += 61
        progress(HostResult("Prepare", "Look", "b", "failed", "the disk\nis full"))
        progress(HostResult("Prepare", "Look", "a", "failed", "expected", ignored=True))
        progress(HostResult("Prepare", "Look", "c", "unreachable", ""))
    return written.getvalue().splitlines()


def test_without_a_terminal_each_line_stays() -> None:
    assert show(terminal=False) == [
        "[ 0:00] Make the machines",
        "[ 0:14] Make the machines: 14 s, 2 hosts, 1 changed",
        "[ 0:14] Prepare [all] nodes",
        "[ 1:15] b failed: Look: the disk",
        "[ 1:15] c unreachable: Look",
        "[ 1:15] Prepare [all] nodes: 61 s, 3 hosts",
    ]


def test_on_a_terminal_only_what_has_ended_stays() -> None:
    page = "\n".join(show(terminal=True))
    assert "Make the machines: Make [one] of them" in page
    assert "[ 0:14] Make the machines: 14 s, 2 hosts, 1 changed" in page
    assert "[ 0:00] Make the machines" not in page


def test_durations_and_counts() -> None:
    assert [elapsed(seconds) for seconds in (0, 59.9, 60, 3599, 3600, 36061)] == [
        "0:00",
        "0:59",
        "1:00",
        "59:59",
        "1:00:00",
        "10:01:01",
    ]
    assert (counted(1, "host"), counted(2, "host"), counted(0, "host")) == (
        "1 host",
        "2 hosts",
        "0 hosts",
    )
