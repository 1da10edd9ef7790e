# SPDX-License-Identifier: Apache-2.0
"""Outcomes that are kept, found again, and shown; and what they are kept for."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from content import PARTS, Place, content_hash
from points import Kill, kills, read_recording
from results import Outcome, Results, document, remaining, summary, table


@pytest.fixture
def found(recording: str) -> list[Kill]:
    return kills(read_recording(recording), "1")


@pytest.fixture
def results(tmp_path: Path) -> Results:
    return Results(tmp_path / "new" / "1.jsonl")


def test_without_a_file_all_remains(results: Results, found: list[Kill]) -> None:
    assert results.kept() == {}
    assert remaining(found, results.kept()) == found


def test_what_passed_is_not_run_again(results: Results, found: list[Kill]) -> None:
    results.add(Outcome(found[0].key, "passed", 10.0, 20.0, 5.0, "said"))
    results.add(Outcome(found[1].key, "failed", 10.0, why="broken"))
    results.add(Outcome(found[2].key, "not reached", why="too early"))
    assert remaining(found, Results(results.path).kept()) == found[1:]


def test_the_newest_outcome_counts(results: Results, found: list[Kill]) -> None:
    results.add(Outcome(found[0].key, "failed", why="broken"))
    results.add(Outcome(found[0].key, "passed"))
    assert results.kept()[found[0].key].verdict == "passed"
    results.add(Outcome(found[0].key, "failed", why="again"))
    assert remaining(found, results.kept()) == found


def test_another_seed_of_the_same_task_is_another_kill(results: Results, recording: str) -> None:
    seeds = [kills(read_recording(recording), str(seed))[1] for seed in range(20)]
    results.add(Outcome(seeds[0].key, "passed"))
    assert seeds[0] not in remaining(seeds, results.kept())
    assert remaining(seeds, results.kept())


def test_a_line_that_was_cut_costs_only_itself(results: Results, found: list[Kill]) -> None:
    results.add(Outcome(found[0].key, "passed"))
    with results.path.open("a") as file:
        file.write('{"key": ["cut')
    results.add(Outcome(found[1].key, "passed"))
    assert set(results.kept()) == {found[0].key, found[1].key}


def test_forgetting(results: Results, found: list[Kill]) -> None:
    results.add(Outcome(found[0].key, "passed"))
    results.forget()
    results.forget()
    assert results.kept() == {}


def test_table_has_each_point_and_why_it_failed(found: list[Kill]) -> None:
    outcomes = [
        Outcome(found[0].key, "passed", 10.4, 20.6, 5.0, "all | well"),
        Outcome(found[1].key, "failed", 11.0, why="first line\nsecond line"),
    ]
    kept = {outcome.key: outcome for outcome in outcomes}
    rows = table(found, kept).splitlines()
    assert rows[0].startswith("| point | host | moment | outcome |")
    assert rows[2] == (
        f"| machines : Make it | cp-1 | {found[0].when} | passed | 10 s | 21 s | 5 s "
        "| all \\| well |"
    )
    assert rows[3].endswith("| failed | 11 s |  |  |  |")
    assert rows[5].endswith("| not run |  |  |  |  |")
    assert rows[-1] == "* volume : Mount it: first line"
    assert len({row.replace("\\|", "").count("|") for row in rows[:6]}) == 1
    assert summary(found, kept) == "4 points: 1 passed, 1 failed, 2 not run"


def test_document_tells_what_wrote_it(found: list[Kill]) -> None:
    page = document(["Written by `make chaos`."], found, {})
    assert page.startswith("# Chaos\n\nWritten by `make chaos`.\n\n4 points: 0 passed, 4 not run.")
    assert page.endswith("|\n") and not page.endswith("\n\n")


def test_content_is_what_decides_how_an_apply_goes(tmp_path: Path) -> None:
    for part in PARTS:
        (tmp_path / part).mkdir(parents=True)
        (tmp_path / part / "file").write_text("one")
    before = content_hash(tmp_path)
    (tmp_path / "docs").mkdir()
    (tmp_path / "docs/page.md").write_text("text")
    (tmp_path / "plugins/__pycache__").mkdir()
    (tmp_path / "plugins/__pycache__/file.pyc").write_text("compiled")
    assert content_hash(tmp_path) == before
    for part in PARTS:
        (tmp_path / part / "file").write_text("two")
        changed = content_hash(tmp_path)
        (tmp_path / part / "file").rename(tmp_path / part / "other")
        moved = content_hash(tmp_path)
        assert len({before, changed, moved}) == 3
        shutil.move(tmp_path / part / "other", tmp_path / part / "file")
        (tmp_path / part / "file").write_text("one")
        assert content_hash(tmp_path) == before


def test_places_differ_by_content_size_and_seed(tmp_path: Path) -> None:
    places = [Place(tmp_path, "a" * 64, 3, 2), Place(tmp_path, "b" * 64, 3, 2)]
    places.append(Place(tmp_path, "a" * 64, 1, 1))
    files = {place.results(seed) for place in places for seed in ("1", "2")}
    assert len(files) == 6
    assert all(file.is_relative_to(tmp_path / "chaos") for file in files)
    evidence = places[0].evidence("1", "role : do/it")
    assert evidence.is_relative_to(places[0].directory) and "/" not in evidence.name
