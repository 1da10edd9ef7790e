# SPDX-License-Identifier: Apache-2.0
"""Whether nodes may be reset, and who takes them out of their cluster."""

from __future__ import annotations

from typing import Any

import pytest
from ansible.errors import AnsibleFilterError
from ansible_collections.kubewright.cluster.plugins.filter import reset

Plan = dict[str, Any]


def state(
    phase: str = "joined",
    role: str | None = "worker",
    ready: bool = False,
    cluster: str | None = "id",
) -> Plan:
    known = phase != "none"
    return {
        "membership": {
            "phase": phase,
            "role": role if known else None,
            "cluster_id": cluster if known else None,
        },
        "api_ready": ready,
        "fence": {"epoch": 3, "run": ""},
    }


PLANE = state(role="control_plane", ready=True)
DOWN = state(role="control_plane")
WORKER, NONE, SILENT = state(), state("none"), {"unreachable": True}


def plan(targets: Plan, rest: Plan, confirmed: str = "demo", cluster_id: str = "id") -> Plan:
    return reset.reset_plan(targets, rest, confirmed, "demo", cluster_id)


@pytest.mark.parametrize(
    ("targets", "rest", "actor", "gone"),
    [
        ({"cp-1": PLANE, "w-1": WORKER}, {}, "", True),
        ({"w-1": WORKER}, {"cp-1": DOWN, "cp-2": PLANE}, "cp-2", False),
        ({"w-1": NONE}, {"cp-1": PLANE}, "cp-1", False),
        ({"cp-1": PLANE}, {"cp-2": NONE, "w-1": NONE}, "", True),
        ({"w-1": NONE}, {"cp-1": SILENT}, "", False),
        ({"cp-1": state("partial", "control_plane")}, {"cp-2": PLANE}, "cp-2", False),
    ],
)
def test_who_acts_and_whether_all_is_gone(
    targets: Plan, rest: Plan, actor: str, gone: bool
) -> None:
    assert plan(targets, rest) == {"actor": actor, "gone": gone}


@pytest.mark.parametrize(
    ("targets", "rest", "said"),
    [
        ({"cp-1": PLANE}, {"w-1": WORKER}, "w-1 would be left behind"),
        ({"w-1": WORKER}, {"cp-1": DOWN}, "cp-1 would be left behind"),
        ({"w-1": WORKER}, {"cp-1": SILENT}, "cp-1 did not answer"),
    ],
)
def test_nobody_is_left_behind(targets: Plan, rest: Plan, said: str) -> None:
    with pytest.raises(AnsibleFilterError, match=said):
        plan(targets, rest)


def test_another_cluster_is_confirmed_by_its_id_and_asks_nobody_of_this_one() -> None:
    theirs = {"w-1": state(cluster="theirs")}
    with pytest.raises(AnsibleFilterError, match="kubewright_confirm_reset=theirs, not 'demo'"):
        plan(theirs, {})
    # And takes nothing of this one along, whoever is left of it.
    for rest in ({"cp-1": PLANE}, {"cp-1": NONE}, {}):
        assert plan(theirs, rest, "theirs") == {"actor": "", "gone": False}
    # Where the state was lost nobody knows which is which.
    assert plan(theirs, {}, cluster_id="")["gone"]
    with pytest.raises(AnsibleFilterError, match="kubewright_confirm_reset=demo"):
        plan({"w-1": WORKER}, {}, "theirs")


def test_nobody_acts_for_another_cluster() -> None:
    foreign = state(role="control_plane", ready=True, cluster="theirs")
    assert plan({"w-1": NONE}, {"cp-1": foreign}) == {"actor": "", "gone": False}
    assert plan({"w-1": NONE}, {"cp-1": foreign, "cp-2": PLANE})["actor"] == "cp-2"
    # Where the state was lost and the target is nobody's, no cluster is known to be this one.
    assert plan({"w-1": NONE}, {"cp-1": PLANE}, cluster_id="") == {"actor": "", "gone": False}
    # The last of this cluster goes, and a foreign one is still to be reached.
    assert plan({"w-1": WORKER}, {"cp-1": foreign}) == {"actor": "", "gone": False}


def test_a_damaged_record_is_of_no_other_cluster() -> None:
    damaged = state("partial", None, cluster=None)
    assert plan({"w-1": damaged, "w-2": WORKER}, {"cp-1": PLANE})["actor"] == "cp-1"
    assert plan({"w-1": damaged}, {}) == {"actor": "", "gone": True}
    with pytest.raises(AnsibleFilterError, match="would be left behind"):
        plan({"w-1": damaged}, {"cp-1": DOWN})


def test_the_id_in_the_identity() -> None:
    assert reset.identity('{"cluster_id": "id"}', "/s/cluster.json", "demo") == "id"


@pytest.mark.parametrize("text", ["", "{", "[]", "7", "{}", '{"cluster_id": 7}'])
def test_a_damaged_identity_is_named_with_a_way_out(text: str) -> None:
    with pytest.raises(AnsibleFilterError, match=r"/s/cluster\.json is damaged: .* move it away"):
        reset.identity(text, "/s/cluster.json", "demo")


def test_two_clusters_at_once_are_refused() -> None:
    with pytest.raises(AnsibleFilterError, match="several clusters"):
        plan({"a": WORKER, "b": state(cluster="theirs")}, {})


def test_states_of_a_loop() -> None:
    assert reset.states([{"item": "a", "epoch": 3}]) == {"a": {"item": "a", "epoch": 3}}
    assert reset.done({"a": {"kubewright_was_reset": True}, "b": {}}, ["a", "b"]) == ["a"]
