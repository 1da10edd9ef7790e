# SPDX-License-Identifier: Apache-2.0
"""Epoch, journal and logs: also after crashes."""

from __future__ import annotations

import json
import os
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from kubewright.act import Session
from kubewright.act.playbook import Order
from kubewright.act.result import HostTasks, Result
from kubewright.act.session import READS_KEPT
from kubewright.agreed import claims, lease
from kubewright.locations import ClusterPaths
from kubewright.store import Journal, Started, StoreError, next_epoch
from kubewright.store.files import private_directory, replace
from kubewright.store.history import history
from kubewright.store.journal import MAX_LINES
from kubewright.store.runs import KEPT, new_directory, prune


def test_epochs_grow(tmp_path: Path) -> None:
    path = tmp_path / "store.json"
    assert [next_epoch(path) for _ in range(3)] == [1, 2, 3]
    assert path.stat().st_mode & 0o777 == 0o600


@pytest.mark.parametrize("text", ["", "{", "[]", '{"schema": 2, "epoch": 1}', '{"schema": 1}'])
def test_a_damaged_store_is_not_replaced(tmp_path: Path, text: str) -> None:
    path = tmp_path / "store.json"
    path.write_text(text)
    with pytest.raises(StoreError, match="largest number in /var/lib/kubewright/epoch"):
        next_epoch(path)
    assert path.read_text() == text


def entry(run: str) -> Started:
    return Started.by_this_process(run, "site", "apply")


def test_the_journal_knows_unfinished_runs(tmp_path: Path) -> None:
    journal = Journal(tmp_path / "journal.jsonl")
    assert journal.unfinished() == []
    journal.started(entry("a"))
    journal.started(entry("b"))
    journal.finished("a", "successful")
    (left,) = journal.unfinished()
    assert left.run == "b"
    assert left.pid == os.getpid()
    assert left.pid_started == lease.started(os.getpid())
    assert left.boot_id == lease.boot_id()


def test_a_line_that_a_crash_cut_short_is_left_out(tmp_path: Path) -> None:
    journal = Journal(tmp_path / "journal.jsonl")
    journal.started(entry("a"))
    with journal.path.open("a") as file:
        file.write('{"event": "started", "run": "hal')
    journal.started(entry("b"))
    journal.finished("a", "failed")
    assert [one.run for one in journal.unfinished()] == ["b"]


def test_a_long_journal_is_cut_to_its_newer_half(tmp_path: Path) -> None:
    journal = Journal(tmp_path / "journal.jsonl")
    line = json.dumps({"event": "finished", "run": "old", "status": "successful"}) + "\n"
    journal.path.write_text(line * (MAX_LINES + 1))
    journal.trim()
    assert len(journal.path.read_text().splitlines()) == MAX_LINES // 2


def test_the_newest_fifty_logs_and_traces_are_kept_and_nothing_else(tmp_path: Path) -> None:
    begin = datetime(2026, 1, 1, tzinfo=UTC)
    runs = tmp_path / "runs"
    ids = [claims.new_run_id(begin + timedelta(seconds=number)) for number in range(60)]
    assert ids == sorted(ids)
    for run in ids:
        directory = new_directory(runs, run)
        (directory / "log.txt").write_text("log")
        (directory / "trace.json").write_text("{}")
        (directory / ".trace.json.cut").write_text("{")
        (directory / "artifacts").mkdir()
        (directory / "artifacts" / "command").write_text("secret")
        (directory / "args").symlink_to(tmp_path)
    prune(runs)
    assert sorted(entry.name for entry in runs.iterdir()) == ids[10:]
    assert {file.name for file in runs.rglob("*") if not file.is_dir()} == {
        "log.txt",
        "trace.json",
    }
    assert tmp_path.exists()


def test_directories_are_private(tmp_path: Path) -> None:
    loose = tmp_path / "state"
    loose.mkdir(mode=0o755)
    assert private_directory(loose).stat().st_mode & 0o777 == 0o700


def test_a_file_is_replaced_whole_or_not_at_all(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "file"
    replace(path, "old")

    def full(_: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="No space"):
        replace(path, "new")
    assert path.read_text() == "old"
    assert [entry.name for entry in tmp_path.iterdir()] == ["file"]


def test_the_run_that_came_last_is_kept_where_the_clock_went_back(tmp_path: Path) -> None:
    runs = tmp_path / "runs"
    before = [f"20260102T0304{number:02}-00000000" for number in range(3)]
    last = "20250101T000000-00000000"
    for run in (*before, last):
        (new_directory(runs, run) / "log.txt").write_text("log")
    prune(runs, [*before, last], kept=2)
    assert sorted(entry.name for entry in runs.iterdir()) == [last, before[-1]]


def test_a_session_keeps_the_run_that_it_was_told_of(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    paths = ClusterPaths(tmp_path / "demo")
    for number in range(KEPT):
        new_directory(paths.runs, f"20260102T0304{number:02}-00000000")

    def run(order: Order, *_: object) -> Result:
        log = order.directory / "log.txt"
        log.write_text("log")
        return Result(order.run, "site", "successful", False, HostTasks(), {}, (), 1.0, (), log)

    monkeypatch.setattr("kubewright.act.playbook.run", run)
    monkeypatch.setattr(
        "kubewright.act.session.claims.new_run_id", lambda: "20250101T000000-00000000"
    )
    with Session(paths, "apply") as session:
        result = session.run("site", inventory=tmp_path / "cluster.yml")
    with Session(paths, "plan"):
        assert result.log.read_text() == "log"
    assert len(list(paths.runs.iterdir())) == KEPT


def test_who_only_reads_leaves_no_history(
    paths: ClusterPaths, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Nor is a change forgotten for it; what is kept of the newest reads is what they said."""

    def ended(order: Order, *_: object) -> Result:
        log = order.directory / "log.txt"
        return Result(order.run, "", "successful", False, HostTasks(), {}, (), 1.0, (), log)

    monkeypatch.setattr("kubewright.act.session.playbook.run", ended)
    with Session(paths, "apply") as session:
        change = session.run("site", inventory=tmp_path).run
    for _ in range(READS_KEPT + 2):
        with Session(paths, "plan", reads=True) as session:
            assert session.newest == change
            read = session.run("plan", inventory=tmp_path).run
    journal = Journal(paths.journal)
    assert [run.run for run in history(journal, paths.runs)] == [change]
    kept = {entry.name for entry in paths.reads.iterdir()}
    assert (len(kept), read in kept) == (READS_KEPT, True)


def test_of_a_read_that_was_killed_nothing_is_left_running(paths: ClusterPaths) -> None:
    private_directory(paths.state)
    Journal(paths.journal).started(Started.by_this_process("r", "plan", "plan", reads=True))
    with Session(paths, "apply") as session:
        assert session.ended == ("r",)
