# SPDX-License-Identifier: Apache-2.0
"""Progress lines, with a clock that is set by hand."""

from __future__ import annotations

import io

import pyte
import pytest
from rich.console import Console

from kubewright.act import HostResult, HostStarted, PhaseStarted, TaskStarted
from kubewright.act.messages import plain
from kubewright.act.remedies import remedy
from kubewright.cli.output import counted, elapsed
from kubewright.cli.progress import Progress


class Clock:
    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


class Terminal(io.StringIO):
    """A file that is a terminal."""

    def isatty(self) -> bool:
        return True


REFUSED = "Task failed: Failed to connect to the host via ssh: ssh: connect: Connection refused"


def show(file: io.StringIO, forced: bool = False) -> str:
    clock = Clock()
    console = Console(
        file=file,
        force_terminal=forced or None,
        no_color=True,
        width=200,
        highlight=False,
        soft_wrap=True,
    )
    with Progress(console, clock, lambda event: ["(heard)"] * isinstance(event, TaskStarted)) as p:
        p(PhaseStarted("Create the machines"))
        p(TaskStarted("Create the machines", "Make [one] of them"))
        p(HostStarted("Make [one] of them", "a"))
        clock.now += 14
        p(HostResult("Create the machines", "Make", "a", "changed"))
        p(HostResult("Create the machines", "Look", "b", "ok"))
        p(PhaseStarted("Nobody is here"))
        p(PhaseStarted("Prepare [all] nodes"))
        p(TaskStarted("Prepare [all] nodes", "Look"))
        clock.now += 61
        p(HostResult("Prepare", "Look", "b", "failed", "the disk\nis full"))
        p(HostResult("Prepare", "Look", "a", "failed", "expected", ignored=True))
        p(HostResult("Prepare", "Look", "c", "unreachable", f"a banner\n{REFUSED}"))
        p(HostResult("Prepare", "Look", "d", "unreachable", REFUSED))
    return file.getvalue()


LINES = [
    "[ 0:00] Create the machines",
    "(heard)",
    "[ 0:14] Create the machines: 14 s, 2 hosts, 1 changed",
    "[ 0:14] Prepare [all] nodes",
    "(heard)",
    "[ 1:15] b failed: Look: the disk",
    "[ 1:15] c unreachable: Look: connect: Connection refused",
    f"        {remedy(REFUSED)}",
    "[ 1:15] d unreachable: Look: connect: Connection refused",
    "[ 1:15] Prepare [all] nodes: 61 s, 4 hosts, 3 failed",
]


def test_without_a_terminal_each_line_stays() -> None:
    assert show(io.StringIO()).splitlines() == LINES


def test_a_file_that_wants_colours_is_no_terminal() -> None:
    assert plain(show(io.StringIO(), forced=True)).splitlines() == LINES


def test_on_a_terminal_only_what_has_ended_stays(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TERM", "xterm")
    screen = pyte.Screen(200, 50)
    pyte.Stream(screen).feed(show(Terminal()).replace("\n", "\r\n"))
    stays = [line for line in LINES if line not in (LINES[0], LINES[3])]
    assert [line.rstrip() for line in screen.display if line.strip()] == stays
    assert not screen.cursor.hidden


def test_a_terminal_that_can_not_move_its_cursor_gets_lines(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("TERM", "dumb")
    assert show(Terminal()).splitlines() == LINES


def test_the_view_ends_when_the_run_breaks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TERM", "xterm")
    file, screen = Terminal(), pyte.Screen(80, 24)
    console = Console(file=file, no_color=True, width=80, height=24, highlight=False)
    with pytest.raises(KeyboardInterrupt), Progress(console) as progress:
        progress(PhaseStarted("Wait"))
        progress(TaskStarted("Wait", "Wait"))
        raise KeyboardInterrupt
    pyte.Stream(screen).feed(file.getvalue().replace("\n", "\r\n"))
    assert [line.rstrip() for line in screen.display if line.strip()] == ["[ 0:00] Wait: 0 s"]
    assert not screen.cursor.hidden


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
