# SPDX-License-Identifier: Apache-2.0
"""history: what it lists and draws, and what it says when there is nothing to draw."""

from __future__ import annotations

import io
import json
import os
from collections.abc import Callable, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
import yaml
from rich.console import Console

from kubewright.act import Trace, TracedPhase, TracedTask
from kubewright.act.messages import plain
from kubewright.cli.timeline import Timeline, axis, costliest, hosts, row, svg
from kubewright.store import Journal, Started

BEGAN = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)
RUNS = [f"2026010{day}T030405-{day:08x}" for day in (1, 2, 3)]


def task(
    host: str,
    began: float,
    seconds: float,
    name: str = "Work",
    role: str = "cni",
    outcome: Any = "ok",
    delegated: str | None = None,
) -> TracedTask:
    return TracedTask(
        phase="Prepare",
        role=role,
        task=name,
        action="x.y.z",
        host=host,
        delegated=delegated,
        began=began,
        seconds=seconds,
        outcome=outcome,
    )


TASKS = (
    task("localhost", 1, 2, "Begin", ""),
    task("demo-b", 3, 5, "Start containerd", "container_runtime", "changed"),
    task("demo-a", 3, 1, "Start containerd", "container_runtime", "changed"),
    task("demo-a", 4, 4, "Get a token", "worker", "ok", "demo-b"),
)


def trace(*tasks: TracedTask, seconds: float = 10, run: str = RUNS[-1]) -> Trace:
    return Trace(
        run=run,
        playbook="kubewright.cluster.site",
        began=BEGAN,
        seconds=seconds,
        phases=(
            TracedPhase(name="Begin", began=1, seconds=2),
            TracedPhase(name="Prepare", began=3, seconds=6),
        ),
        tasks=tasks,
    )


def drawn(of: Trace, width: int = 60) -> str:
    file = io.StringIO()
    console = Console(file=file, width=width, height=50, force_terminal=True, soft_wrap=True)
    console.print(Timeline(of, ["one heading", "another"]))
    return plain(file.getvalue())


def marks(tasks: Sequence[TracedTask], columns: int = 10) -> str:
    cells = row(tasks, 10, columns)
    return "".join("." if cell is None else cell.task[0] for cell in cells)


def test_a_column_shows_the_task_that_took_most_of_it() -> None:
    assert marks([task("a", 2, 3)]) == "..WWW....."
    assert marks([task("a", 0, 1.7, "A"), task("a", 1.7, 2.3, "B")], 5) == "AB..."
    short = [task("a", 0, 0.1, "A"), task("a", 0.1, 0.6, "B"), task("a", 0.7, 0.1, "C")]
    assert marks(short) == "B........."


def test_a_task_is_seen_however_short_it_is_and_at_the_very_end() -> None:
    assert marks([task("a", 5, 0)]) == ".....W...."
    assert marks([task("a", 10, 0)]) == ".........W"


def test_what_failed_is_seen_however_short_it_was() -> None:
    tasks = [task("a", 0, 0.1, "Fail", outcome="failed"), task("a", 0.1, 0.9, "Work")]
    assert marks(tasks)[0] == "F"


def test_the_axis_has_round_marks_that_fit() -> None:
    assert axis(10, 40) == "╷0 s    ╷2      ╷4      ╷6      ╷8"
    assert axis(10, 20) == "╷0 s      ╷5"
    assert axis(90, 60) == "╷0 s      ╷15       ╷30       ╷45       ╷60       ╷75"
    assert axis(1, 20) == "╷0 s      ╷0.5"
    assert axis(36000, 30).split() == ["╷0", "s", "╷10800", "╷21600"]
    assert axis(0.001, 30).startswith("╷0 s")


def test_the_controller_is_the_first_row() -> None:
    assert hosts(trace(*TASKS)) == ["localhost", "demo-a", "demo-b"]


def test_the_costliest_tasks() -> None:
    first, second, third = costliest(trace(*TASKS))
    assert (first.task, first.hosts, first.seconds, first.longest) == ("Start containerd", 2, 6, 5)
    assert (second.task, second.delegates) == ("Get a token", ("demo-b",))
    assert third.part == "Prepare"
    many = [task("a", 0, number, f"T{number}") for number in range(30)]
    assert [cost.task for cost in costliest(trace(*many))] == [f"T{n}" for n in range(29, 19, -1)]


def test_a_picture_reads_without_colours() -> None:
    lines = drawn(trace(*TASKS), width=61).splitlines()
    assert lines[:2] == ["one heading", "another"]
    # 11 columns of names, 50 for 10 seconds.
    assert lines[3].strip() == "╷0 s      ╷2        ╷4        ╷6        ╷8"
    assert lines[4] == "localhost  " + "·" * 5 + "A" * 10 + "·" * 35
    assert lines[5] == "demo-a     " + "·" * 15 + "B" * 5 + "C" * 20 + "·" * 10
    assert lines[6] == "demo-b     " + "·" * 15 + "B" * 25 + "·" * 10
    assert lines[8] == "A Prepare   B container_runtime   C worker"
    shown = drawn(trace(*TASKS), width=100)
    assert "Prepare                     6.0    60%" in shown
    assert "Ansible start and exit      2.0    20%" in shown
    assert "Get a token (by demo-b)" in shown


def test_failures_and_cuts_are_marked_and_explained() -> None:
    shown = drawn(
        trace(task("a", 0, 5, outcome="unreachable"), task("b", 0, 10, outcome="unfinished"))
    )
    assert "A!" in shown
    assert "A?" in shown
    assert "! failed or unreachable   ? cut" in shown


@pytest.mark.parametrize("width", [10, 40, 200])
def test_a_picture_fits_its_terminal(width: int) -> None:
    lines = drawn(trace(*TASKS), width).splitlines()
    # Twenty columns are the least that is of any use.
    assert len(lines[4]) == max(width, 11 + 20)


def test_a_run_without_a_task_has_a_picture() -> None:
    shown = drawn(trace(seconds=0))
    assert "╷0 s" in shown
    assert "slowest tasks" in shown


def test_forty_parts_are_told_apart() -> None:
    shown = drawn(trace(*(task("a", number, 1, role=f"role{number:02}") for number in range(40))))
    assert "Z role25" in shown
    assert "a role26" in shown


def test_an_svg_depends_on_the_trace_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    def made() -> str:
        return svg(Timeline(trace(*TASKS), ["h"]), "demo", "run-1")

    monkeypatch.setenv("NO_COLOR", "1")
    monkeypatch.setenv("TERM", "dumb")
    monkeypatch.setenv("COLUMNS", "30")
    first = made()
    monkeypatch.delenv("NO_COLOR")
    monkeypatch.setenv("TERM", "xterm-256color")
    assert made() == first
    assert first.startswith("<svg")
    assert "run-1-" in first
    assert "container_runtime" in first


@pytest.fixture
def runs(world: Any) -> Callable[..., None]:
    """Give the cluster three runs: finished with a trace, dead, and finished without a trace."""

    def write(text: str = trace(*TASKS).text()) -> None:
        journal = Journal(world.paths.journal)
        world.paths.runs.mkdir(parents=True)
        for number, run in enumerate(RUNS):
            at = (BEGAN + timedelta(days=number - 2)).isoformat()
            pid = 2**22 + 1  # more than a pid can be (proc(5), pid_max)
            journal.started(Started(run, "kubewright.cluster.site", "apply", pid, 1, "boot", at))
            (world.paths.runs / run).mkdir()
        journal.finished(RUNS[0], "failed")
        journal.finished(RUNS[2], "successful")
        (world.paths.runs / RUNS[2] / "trace.json").write_text(text)
        (world.paths.runs / RUNS[0] / "log.txt").write_text("log")

    return write


def test_list(world: Any, runs: Callable[..., None], command: Callable[..., Any]) -> None:
    runs()
    ended = command("history", "list")
    assert ended.code == 0, ended.err
    lines = ended.out.splitlines()
    assert [line.split()[0] for line in lines] == ["run", *reversed(RUNS)]
    assert lines[1].split()[1:] == [
        "2026-01-02",
        "03:04:05",
        "apply",
        "kubewright.cluster.site",
        "successful",
        "10.0",
        "2/3",
    ]
    assert lines[2].split()[-3:] == ["unfinished", "-", "-"]
    assert "failed" in lines[3]
    (newest,) = json.loads(command("history", "list", "--last", "1", "-o", "json").out)
    assert newest == {
        "run": RUNS[2],
        "began": "2026-01-02T03:04:05+00:00",
        "operation": "apply",
        "playbook": "kubewright.cluster.site",
        "status": "successful",
        "seconds": 10.0,
        "changed": 2,
        "host_tasks": 3,
    }


def test_list_knows_a_run_that_is_under_way(world: Any, command: Callable[..., Any]) -> None:
    world.paths.state.mkdir(parents=True)
    journal = Journal(world.paths.journal)
    entry = Started.by_this_process(RUNS[0], "site", "apply")
    assert entry.pid == os.getpid()
    journal.started(entry)
    (told,) = json.loads(command("history", "list", "-o", "json").out)
    assert told["status"] == "in progress"
    ended = command("history", "show")
    assert ended.code == 1
    assert "The trace is written when the run ends." in ended.err


def test_list_knows_a_run_that_the_journal_has_lost(
    world: Any, runs: Callable[..., None], command: Callable[..., Any]
) -> None:
    runs()
    world.paths.journal.unlink()
    told = json.loads(command("history", "list", "-o", "json").out)
    assert [one["run"] for one in told] == RUNS[::-1]
    assert (told[0]["status"], told[0]["host_tasks"]) == (None, 3)
    assert (told[1]["began"], told[1]["seconds"]) == (None, None)


def test_list_of_a_cluster_without_a_run(world: Any, command: Callable[..., Any]) -> None:
    ended = command("history", "list", "-o", "json")
    assert (ended.code, json.loads(ended.out)) == (0, [])
    assert "no runs yet: kubewright apply" in ended.err


def test_show(world: Any, runs: Callable[..., None], command: Callable[..., Any]) -> None:
    runs()
    newest = command("history", "show")
    assert newest.code == 0, newest.err
    assert newest.out.splitlines()[0] == (
        "demo  apply: kubewright.cluster.site  successful  10.0 s  2 changed of 3 host-tasks"
    )
    assert "\x1b" not in newest.out
    assert max(len(line) for line in newest.out.splitlines()) <= 100
    assert command("history", "show", RUNS[2][:9]).out == newest.out
    assert json.loads(command("history", "show", "-o", "json").out) == trace(*TASKS).as_dict()
    assert yaml.safe_load(command("history", "show", "-o", "yaml").out)["run"] == RUNS[2]


def test_show_writes_a_picture(
    world: Any, runs: Callable[..., None], command: Callable[..., Any], tmp_path: Path
) -> None:
    runs()
    file = tmp_path / "run.svg"
    ended = command("history", "show", "--svg", str(file))
    assert ended.code == 0, ended.err
    assert file.read_text().startswith("<svg")
    ended = command("history", "show", "--svg", str(tmp_path / "nowhere" / "run.svg"))
    assert (ended.code, "Traceback" in ended.err) == (1, False)
    assert "nowhere/run.svg: No such file" in ended.err


@pytest.mark.parametrize(
    ("word", "code", "words"),
    [
        ("2025", 2, "no run of demo starts with '2025'"),
        ("2026", 2, "3 runs of demo start with '2026'"),
        (RUNS[0], 1, "log.txt"),
        (RUNS[1], 1, "(unfinished) has no trace"),
    ],
)
def test_show_of_what_can_not_be_shown(
    world: Any,
    runs: Callable[..., None],
    command: Callable[..., Any],
    word: str,
    code: int,
    words: str,
) -> None:
    runs()
    ended = command("history", "show", word)
    assert (ended.code, ended.out) == (code, "")
    assert words in ended.err


def test_show_of_a_cluster_without_a_run(world: Any, command: Callable[..., Any]) -> None:
    ended = command("history", "show")
    assert ended.code == 1
    assert "has no runs yet" in ended.err
    assert "kubewright apply -f cluster.yml starts the first one" in ended.err


def test_a_damaged_trace(
    world: Any, runs: Callable[..., None], command: Callable[..., Any]
) -> None:
    runs('{"schema": 1}')
    ended = command("history", "show")
    assert (ended.code, ended.out) == (1, "")
    assert "trace.json is damaged: run: Field required" in ended.err
    assert "Remove it" in ended.err
    listed = command("history", "list")
    assert listed.code == 0
    assert RUNS[2] in listed.out
    assert "is damaged" in listed.err


def test_an_apply_can_be_looked_at_afterwards(world: Any, command: Callable[..., Any]) -> None:
    assert command("apply", "--yes").code == 0
    told = json.loads(command("history", "show", "-o", "json").out)
    assert [phase["name"] for phase in told["phases"]] == ["Create the machines", "Look"]
    assert {one["host"] for one in told["tasks"]} >= {"demo-cp-1", "demo-web-1", "localhost"}
    (listed,) = json.loads(command("history", "list", "-o", "json").out)
    assert (listed["operation"], listed["status"]) == ("apply", "successful")
    assert (listed["changed"], listed["host_tasks"]) == (4, 4)
