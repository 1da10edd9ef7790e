# SPDX-License-Identifier: Apache-2.0
"""Ratios, medians, and the two forms of the results."""

from __future__ import annotations

import json
import re

import pytest
from measured import (
    Repeats,
    Results,
    Round,
    Run,
    Simulated,
    Timed,
    document,
    growth,
    lines,
    median_phases,
    slug,
)


def results() -> Results:
    """Three rounds. By hand: 120, 100, 140; ours: 90, 75, 63."""
    rounds = [
        Round("by_hand", Timed(120, {"init": 13}), Timed(90, {"Join the nodes": 40}), 300, 5),
        Round("kubewright", Timed(100, {"init": 11}), Timed(75, {"Join the nodes": 30}), 300, 5),
        Round("by_hand", Timed(140, {"init": 15}), Timed(63, {"Join the nodes": 35}), 301, 5),
    ]
    return Results(
        kubernetes="1.37.2",
        machine={"cores": 2},
        rounds=rounds,
        repeats=Repeats(Run(9, 5, 5, 0), Run(8, 5, 5, 0), Run(20.04, 13, 5, 2)),
        planning=[Simulated(100, {"spec": 0.1, "plan": 0.1}, 37), Simulated(1000, {"spec": 2}, 40)],
        rendering=[Simulated(100, {"render": 2}, 60), Simulated(1000, {"render": 20}, 61)],
    )


def test_the_ratio_is_of_the_medians_and_not_the_median_ratio() -> None:
    found = results()
    assert found.ratio == 75 / 120
    assert sorted(one.ratio for one in found.rounds)[1] == 0.75


def test_the_first_line_is_the_ratio_with_two_decimals_and_the_only_one_of_that_name() -> None:
    printed = list(lines(results()))
    assert printed[0] == "ratio 0.62"
    assert [line for line in printed if line.startswith("ratio")] == ["ratio 0.62"]


def test_every_line_is_a_name_and_a_number() -> None:
    printed = list(lines(results()))
    assert all(re.fullmatch(r"[a-z0-9_]+ \d+(\.\d+)?", line) for line in printed), printed
    names = [line.split()[0] for line in printed]
    assert len(set(names)) == len(names)


@pytest.mark.parametrize(
    "line",
    [
        "round_2_by_hand 100.0",
        "round_2_kubewright 75.0",
        "round_2_ratio 0.75",
        "by_hand_seconds 120.0",
        "by_hand_phase_init 13.0",
        "kubewright_phase_join_the_nodes 35.0",
        "kubewright_host_tasks 301",
        "unchanged_host_tasks 5",
        "unchanged_playbook_seconds 8.0",
        "one_change_seconds 20.0",
        "one_change_hosts_changed 2",
        "planning_100_cpu_seconds 0.200",
        "planning_growth 10.00",
        "rendering_1000_peak_mb 61",
    ],
)
def test_lines(line: str) -> None:
    assert line in list(lines(results()))


def test_a_phase_that_a_round_did_not_have_took_no_time_there() -> None:
    times = [Timed(2, {"a": 2}), Timed(3, {"a": 2, "b": 1}), Timed(2, {"a": 1})]
    assert median_phases(times) == {"a": 2, "b": 0}


def test_growth_is_from_the_smallest_to_the_largest() -> None:
    assert (
        growth([Simulated(1, {"x": 2}, 1), Simulated(5, {}, 1), Simulated(9, {"x": 9}, 1)]) == 4.5
    )


@pytest.mark.parametrize(
    ("name", "word"),
    [
        ("Join the nodes", "join_the_nodes"),
        ("Prepare the nodes, initialize the cluster", "prepare_the_nodes_initialize_the_cluster"),
        ("control_planes", "control_planes"),
    ],
)
def test_slug(name: str, word: str) -> None:
    assert slug(name) == word


def test_the_document_is_json_with_the_same_numbers() -> None:
    read = json.loads(json.dumps(document(results())))
    assert read["whole"]["ratio"] == 0.62
    assert read["whole"]["rounds"][1]["first"] == "kubewright"
    assert read["whole"]["rounds"][1]["kubewright"] == {
        "seconds": 75,
        "phases": {"Join the nodes": 30},
    }
    assert read["one_change"] == {
        "seconds": 20.0,
        "host_tasks": 13,
        "hosts_contacted": 5,
        "hosts_changed": 2,
    }
    assert read["planning"]["growth"] == 10
    assert [size["nodes"] for size in read["rendering"]["sizes"]] == [100, 1000]
