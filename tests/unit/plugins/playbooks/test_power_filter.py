# SPDX-License-Identifier: Apache-2.0
"""Which machines may be restarted or switched off, and in which order."""

from __future__ import annotations

from typing import Any

from ansible_collections.kubewright.cluster.plugins.filter import power

PLANES = ["cp-1", "cp-2", "cp-3"]
ADDRESSES: dict[str, str | None] = {f"cp-{last}": f"192.0.2.{last}" for last in range(1, 6)}
SILENT = {"unreachable": True, "msg": "no route to host"}
OURS, THEIRS = "5b0e6f0a-0000-4000-8000-000000000001", "5b0e6f0a-0000-4000-8000-000000000002"


def node(role: str = "control_plane", phase: str = "joined", cluster: str = OURS) -> dict[str, Any]:
    """What `node_state` says of a machine that answers."""
    if phase == "none":
        return {"membership": {"phase": phase, "role": None, "cluster_id": None}}
    return {
        "membership": {"phase": phase, "role": role, "cluster_id": cluster},
        "fence": {"epoch": 3, "run": "x"},
    }


def member(last: int, healthy: bool, voter: bool = True, name: str = "") -> dict[str, Any]:
    address = f"192.0.2.{last}"
    return {
        "name": name or f"cp-{last}",
        "addresses": [address],
        "voter": voter,
        "healthy": healthy,
    }


def etcd(healthy: str, size: int = 3, asked: str = "cp-1") -> list[dict[str, Any]]:
    """What `etcd_info` says on one control plane, of members of which some are healthy."""
    members = [member(last, str(last) in healthy) for last in range(1, size + 1)]
    return [{"item": asked, "members": members}]


def asked(names: list[str], **more: Any) -> tuple[dict[str, Any], list[str]]:
    roles = {name: "worker" if name.startswith("web") else "control_plane" for name in names}
    answers = {name: node(role) for name, role in roles.items()}
    return {**answers, **more.get("answers", {})}, more.get("planes", PLANES)


def refused(
    names: list[str], operation: str, sights: Any, downtime: bool = False, **more: Any
) -> str:
    answers, planes = asked(names, **more)
    return power.refusal(answers, operation, ADDRESSES, sights, planes, downtime)


def turns(names: list[str], operation: str, sights: Any, **more: Any) -> list[str]:
    assert refused(names, operation, sights, **more) == ""
    answers, planes = asked(names, **more)
    return power.order(answers, operation, ADDRESSES, sights, planes)


def test_restarted_the_control_plane_comes_first_and_switched_off_last() -> None:
    every = [*PLANES, "web-1"]
    assert turns(every, "reboot", etcd("123")) == every
    assert turns(["cp-2", "web-1"], "power_off", etcd("123")) == ["web-1", "cp-2"]


def test_one_that_etcd_does_not_count_on_is_restarted_before_the_others() -> None:
    assert turns(PLANES, "reboot", etcd("13")) == ["cp-2", "cp-1", "cp-3"]


def test_a_second_one_is_refused_and_it_is_said_who_is_to_come_back_first() -> None:
    for operation, done in (("reboot", "rebooted"), ("power_off", "switched off")):
        assert refused(["web-1", "cp-1"], operation, etcd("12")) == (
            f"cp-1 was not {done}: 2 of etcd's 3 members are healthy (cp-1, cp-2), 2 have to be, "
            "and 1 would be left. First power on or repair cp-3 (see `kubewright "
            "status`). To continue even if the cluster stops meanwhile: -e "
            "kubewright_allow_downtime=true"
        )
        assert turns(["cp-3"], operation, etcd("12")) == ["cp-3"], "nobody misses it"


def test_those_that_are_switched_off_stay_off_together() -> None:
    said = refused(["cp-1", "cp-2"], "power_off", etcd("123"))
    assert said.startswith("cp-1, cp-2 were not switched off: 3 of etcd's 3 members are healthy")
    assert "1 would be left. Take fewer of them. To continue" in said
    assert turns(["cp-1", "cp-2"], "power_off", etcd("12345", 5)) == ["cp-1", "cp-2"]
    assert turns(["cp-1", "cp-2"], "reboot", etcd("123")) == ["cp-1", "cp-2"], "each comes back"


def test_where_the_cluster_may_stop_nobody_counts() -> None:
    every = [*PLANES, "web-1"]
    assert turns(every, "power_off", [], downtime=True) == ["web-1", *PLANES]
    assert turns(["cp-1"], "reboot", etcd("12"), downtime=True) == ["cp-1"]


def test_one_that_is_alone_may_be_restarted_and_not_switched_off() -> None:
    for sights in (etcd("1", 1), etcd("", 1), [{"item": "cp-1", "msg": "no answer"}]):
        assert turns(["cp-1"], "reboot", sights, planes=["cp-1"]) == ["cp-1"]
    assert refused(["cp-1"], "power_off", etcd("1", 1), planes=["cp-1"]) == (
        "cp-1 was not switched off: that is the whole control plane. Until it is "
        "back, the cluster has no API, and nothing heals or starts pods. To do it anyway: "
        "-e kubewright_allow_downtime=true"
    )
    # Others have joined that the inventory does not have.
    assert "3 of etcd's 5" in refused(["cp-1"], "reboot", etcd("123", 5), planes=["cp-1"])


def test_where_nobody_can_say_it_is_refused() -> None:
    silent = [{"item": "cp-1", "msg": "context deadline exceeded"}, {"item": "cp-2"}]
    said = refused(["cp-3"], "reboot", silent)
    assert "cp-3 was not rebooted: no control plane can tell which etcd members" in said
    assert "(cp-1: context deadline exceeded; cp-2: no answer)" in said
    assert said.endswith("-e kubewright_allow_downtime=true")


def test_one_that_does_not_answer_may_have_its_turn_and_counts_as_it_is() -> None:
    quiet = {"answers": {"cp-3": SILENT, "web-1": SILENT}}
    assert turns([], "reboot", etcd("12"), **quiet) == ["cp-3", "web-1"]
    assert turns([], "reboot", etcd("123"), **quiet) == ["cp-3", "web-1"]
    # SSH does not answer, etcd there does.
    assert "was not rebooted" in refused([], "reboot", etcd("23"), answers={"cp-3": SILENT})


def test_one_that_answers_and_cannot_be_looked_at_is_left_alone() -> None:
    held = {"failed": True, "msg": "/run/kubewright/node.lock was held by process 7"}
    said = refused([], "reboot", etcd("123"), answers={"web-1": held})
    assert said == f"web-1 can't be checked, so nothing was changed: {held['msg']}"


def test_a_machine_that_is_no_node_yet_is_missed_by_nobody() -> None:
    fresh = {"cp-1": node(phase="none")}
    assert power.counted(fresh, PLANES) == []
    assert turns([], "power_off", [], answers=fresh) == ["cp-1"]
    assert power.counted({"cp-1": node(phase="partial"), "cp-2": SILENT}, PLANES) == PLANES[:2]


def test_two_who_see_different_things_are_believed_on_the_safe_side() -> None:
    both = [*etcd("123"), *etcd("1", asked="cp-2")]
    assert "1 of etcd's 3" in refused(["cp-3"], "reboot", both), "somebody sees it healthy"
    assert "1 of etcd's 3" in refused(["cp-2"], "reboot", both), "nobody is sure of the others"


def test_learners_do_not_vote_and_a_member_is_known_by_its_address_too() -> None:
    learner = [member(1, True), member(2, True), member(3, True), member(4, True, voter=False)]
    sights = [{"item": "cp-1", "members": learner}]
    assert turns(["cp-4"], "power_off", sights) == ["cp-4"]
    moved = [member(1, True), member(2, True, name="https://192.0.2.2:2380"), member(3, False)]
    assert "1 would be left" in refused(["cp-2"], "reboot", [{"item": "cp-1", "members": moved}])


def test_machines_of_another_cluster_are_refused() -> None:
    answers = {"cp-1": node(), "web-1": node("worker", cluster=THEIRS), "web-2": SILENT}
    carried = power.carried(answers)
    assert carried == {"cp-1": OURS, "web-1": THEIRS, "web-2": None}
    said = power.foreign(carried, {"ids": [OURS]}, "demo")
    assert said.startswith(
        f"web-1 is a node of the cluster {THEIRS}, and demo is {OURS} here. Nothing was changed."
    )
    # After a reset the cluster has another id; where none is known nobody can tell.
    for ids in ([OURS, THEIRS], []):
        assert power.foreign(carried, {"ids": ids}, "demo") == ""


def test_the_epoch_is_above_what_those_that_answer_have_seen() -> None:
    assert power.seen({"cp-1": node(), "web-2": SILENT}) == [{"epoch": 3, "run": "x"}]
