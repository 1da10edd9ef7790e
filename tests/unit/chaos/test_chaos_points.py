# SPDX-License-Identifier: Apache-2.0
"""Which points a recording has, and what a seed chooses."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from points import FRACTIONS, MOMENTS, PARTS, Kill, kills, read_recording, select

CHECKOUT = Path(__file__).resolve().parents[3]
NAMES = ["machines : Make it", "volume : Mount it", "control_plane : Start it", "Publish it"]


def test_points_are_distinct_tasks_in_the_order_of_the_run(recording: str) -> None:
    assert [kill.name for kill in kills(read_recording(recording), "1")] == NAMES


def test_a_seed_always_chooses_the_same(recording: str) -> None:
    assert kills(read_recording(recording), "7") == kills(read_recording(recording), "7")


def test_a_choice_does_not_depend_on_other_tasks_or_on_durations(recording: str) -> None:
    whole = {kill.name: kill for kill in kills(read_recording(recording), "7")}
    slower = recording.replace('"seconds": 10.0', '"seconds": 99.0')
    part = "\n".join(line for line in slower.splitlines() if "Mount" in line)
    (alone,) = kills(read_recording(part), "7")
    assert alone.key == whole[alone.name].key
    assert alone.delay == pytest.approx(alone.fraction * 99, abs=0.001)


def test_seeds_choose_every_moment_and_host(recording: str) -> None:
    mounts = [kills(read_recording(recording), str(seed))[1] for seed in range(60)]
    assert {kill.moment for kill in mounts} == set(MOMENTS)
    assert {kill.host for kill in mounts} == {"cp-1", "web-1"}
    assert len({kill.fraction for kill in mounts}) > 10
    assert all(FRACTIONS[0] <= kill.fraction <= FRACTIONS[1] for kill in mounts)
    assert all(kill.delay == pytest.approx(kill.fraction * 10) for kill in mounts)


def test_a_call_that_does_many_things_is_killed_in_each_part_of_its_time(
    recording: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(PARTS, "Mount it", 3)
    mounts = [kill for kill in kills(read_recording(recording), "1") if kill.task == "Mount it"]
    assert [kill.moment for kill in mounts] == ["during"] * 3
    assert 0.05 <= mounts[0].fraction <= 0.35 <= mounts[1].fraction <= 0.65 <= mounts[2].fraction
    assert len({kill.key for kill in mounts}) == 3


def test_of_several_starts_on_a_host_the_first_that_changed_counts(recording: str) -> None:
    assert kills(read_recording(recording), "1")[2].occurrence == 1
    later = recording.replace(
        '"host": "localhost", "occurrence": 1', '"host": "localhost", "occurrence": 3'
    )
    assert kills(read_recording(later), "1")[3].occurrence == 3


def test_selection_by_name_ignores_case(recording: str) -> None:
    found = kills(read_recording(recording), "1")
    assert [kill.name for kill in select(found, "1", only="MOUNT")] == ["volume : Mount it"]
    assert select(found, "1", only="nothing") == []
    assert select(found, "1") == found


def test_a_number_of_points_is_chosen_by_the_seed(recording: str) -> None:
    found = kills(read_recording(recording), "1")
    firsts = {select(found, str(seed), count=1)[0].name for seed in range(60)}
    assert firsts == set(NAMES)
    for seed in map(str, range(10)):
        one, two = (select(found, seed, count=count) for count in (1, 2))
        assert set(one) < set(two)
        assert two == [kill for kill in found if kill in two], "in the order of the run"
    assert select(found, "1", count=99) == found


def test_the_order_names_the_start_and_the_report(recording: str) -> None:
    kill = kills(read_recording(recording), "1")[0]
    order = json.loads(kill.order("/tmp/report"))
    assert order == {
        "role": "machines",
        "task": "Make it",
        "host": "cp-1",
        "occurrence": 1,
        "moment": kill.moment,
        "delay": kill.delay,
        "report": "/tmp/report",
    }


def test_a_moment_in_words() -> None:
    def when(moment: str) -> str:
        return Kill("", "task", "play", "host", 1, moment, 0.426, 1.0).when  # type: ignore[arg-type]

    assert [when(moment) for moment in MOMENTS] == ["before", "during, 43%", "after"]


def test_the_points_of_the_clusters_tests_are_tasks_of_today() -> None:
    """After another name of a task: `make chaos-points`."""
    changes = read_recording((CHECKOUT / "tests" / "chaos" / "create.jsonl").read_text())
    assert len(kills(changes, "1")) > 20
    for change in changes:
        place = CHECKOUT / (f"roles/{change.role}/tasks" if change.role else "playbooks")
        texts = [path.read_text() for path in place.rglob("*.yml")]
        assert any(f"- name: {change.task}\n" in text for text in texts), change
