# SPDX-License-Identifier: Apache-2.0
"""Who acts, who is changed and in what order: by example, and for clusters of any shape."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import pytest
from ansible_collections.kubewright.cluster.plugins.module_utils._base.errors import KubewrightError
from ansible_collections.kubewright.cluster.plugins.module_utils._decide.decision import (
    Decision,
    decide,
)
from ansible_collections.kubewright.cluster.plugins.module_utils._decide.election import actor
from ansible_collections.kubewright.cluster.plugins.module_utils._decide.situation import (
    Node,
    Situation,
)
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

PLANE = "control_plane"
RUNTIME = frozenset({"container_runtime"})


def plane(name: str, phase: str = "joined", *drift: str, up: bool = True, **more: Any) -> Node:
    """A control plane that works, unless something else is said."""
    joined = phase == "joined"
    return Node(name, PLANE, phase, frozenset(drift), up if joined else None, up and joined, **more)


def worker(name: str, phase: str = "joined", *drift: str, ready: bool | None = True) -> Node:
    """A worker of the pool web."""
    return Node(name, "pool_web", phase, frozenset(drift), ready)


def elected(*nodes: Node, **more: Any) -> str:
    return actor(Situation(nodes, **more))


def test_a_new_cluster_is_initialized_on_the_first_by_name() -> None:
    assert elected(plane("b", "none"), plane("a", "none")) == "a"


def test_a_cluster_goes_on_where_it_was_initialized() -> None:
    assert elected(plane("a", "none"), plane("b", "partial"), initial_node="b") == "b"


def test_a_ready_api_server_acts_whoever_initialized_it() -> None:
    nodes = (plane("a", up=False), plane("b"), plane("c"))
    assert elected(*nodes, initial_node="a") == "b"


def test_the_first_may_be_gone_once_another_has_joined() -> None:
    assert elected(plane("c"), initial_node="a") == "c"


def test_a_cluster_is_never_initialized_twice() -> None:
    with pytest.raises(KubewrightError, match="initialized on a"):
        elected(plane("b", "none"), initial_node="a")


@pytest.mark.parametrize("phase", ["none", "partial"])
def test_a_cluster_that_was_whole_is_not_initialized_where_its_nodes_were_lost(phase: str) -> None:
    """Its other control planes do not answer, and may come back."""
    with pytest.raises(KubewrightError, match=r"cluster exists, but no longer includes a"):
        elected(plane("a", phase), initial_node="a", begun=True)
    assert elected(plane("a", phase), plane("b"), initial_node="a", begun=True) == "b"


def test_nobody_acts_without_an_api_server() -> None:
    with pytest.raises(KubewrightError, match="No API server is ready on b"):
        elected(plane("a", "none"), plane("b", up=False), initial_node="b")


def test_one_acts_whose_api_server_will_be_ready_with_new_certificates() -> None:
    """A cluster that was off for a year has no API server, and apply got no further."""
    nodes = (plane("a", up=False), plane("b", up=False, serves=False), plane("c", "none"))
    assert elected(*nodes, initial_node="a", begun=True) == "b"
    assert elected(*nodes, plane("d"), initial_node="a", begun=True) == "d"


def test_nobody_answers() -> None:
    with pytest.raises(KubewrightError, match="No control plane answers"):
        elected(worker("w"))


def decided(*nodes: Node, acting: str = "a", **more: Any) -> Decision:
    return decide(Situation(nodes, **more), acting)


def test_a_new_cluster_is_prepared_at_once_and_whom_others_wait_for_is_first() -> None:
    new = [plane(name, "none", "control_plane") for name in ("b", "a")]
    found = decided(*new, worker("w", "none", "worker"))
    assert (found.fresh, found.waves) == (("a", "b", "w"), ())
    assert found.unsettled == ("b", "a", "w")


def test_nodes_that_run_are_changed_in_waves() -> None:
    nodes = [
        *(plane(name, "joined", "container_runtime") for name in ("a", "b", "c")),
        *(worker(name, "joined", "container_runtime") for name in ("w1", "w2", "w3")),
        worker("w4", "joined", "worker", ready=False),
        Node("x1", "pool_db", "joined", RUNTIME, True),
    ]
    found = decided(*nodes)
    assert found.waves == (("w4",), ("b",), ("c",), ("a",), ("w1", "x1"), ("w2", "w3"))
    assert found.proven == ("b", "c", "a", "w1", "x1")


def test_control_planes_that_are_down_are_brought_back_together() -> None:
    """By itself each would wait for the quorum that it is needed for."""
    down = [plane(name, "joined", "container_runtime", up=False) for name in ("b", "c")]
    found = decided(plane("a", "joined", "container_runtime"), *down)
    assert found.waves == (("b", "c"), ("a",))


def test_one_brings_about_what_is_the_whole_clusters() -> None:
    found = decided(plane("a", "joined", "cni"), plane("b", "joined", "cni"))
    assert (found.touched, found.waves) == (("a",), (("a",),))


def test_certificates_are_renewed_on_control_planes_alone_before_the_rest() -> None:
    nodes = (plane("b", due=True), plane("a"), plane("c", "none", due=True))
    assert decided(*nodes).renewing == ("b",)


def test_another_image_is_tried_where_one_runs_already() -> None:
    found = decided(
        plane("a", "joined", "system_volume"), worker("w", "none", "system_volume", "worker")
    )
    assert found.tries == ("a",)


def test_who_is_seen_to_work_at_the_end_of_a_run() -> None:
    nodes = (
        plane("a"),
        worker("changed", "joined", "worker"),
        worker("late", ready=False),
        worker("unknown", ready=None),
        worker("impeded"),
    )
    found = decided(*nodes, impeded=frozenset({"impeded"}))
    assert found.unsettled == ("changed", "late", "unknown", "impeded")
    assert decided(plane("a")).unsettled == ()


#: How long one takes says nothing where the machine is busy.
any_time = settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])

ROLES = ("preflight", "system_volume", "load_balancer", "container_runtime", "worker", "cni")
KINDS = (PLANE, "pool_web", "pool_db")


@st.composite
def nodes(draw: Callable[..., Any]) -> tuple[Node, ...]:
    """Nodes of any kind, in any state."""
    phases = st.sampled_from(["none", "partial", "joined"])
    made = []
    for kind in KINDS:
        for number in range(draw(st.integers(0, 7 if kind == PLANE else 5))):
            made.append(
                Node(
                    f"{kind}-{number}",
                    kind,
                    draw(phases),
                    frozenset(draw(st.sets(st.sampled_from(ROLES)))),
                    draw(st.sampled_from([True, False, None])),
                    draw(st.booleans()),
                    draw(st.booleans()),
                    draw(st.booleans()),
                )
            )
    return tuple(made)


@st.composite
def situations(draw: Callable[..., Any]) -> tuple[Situation, str]:
    """A situation and who acts in it."""
    found = draw(nodes())
    names = [node.name for node in found]
    impeded = frozenset(draw(st.sets(st.sampled_from(names)))) if names else frozenset()
    situation = Situation(found, "", draw(st.booleans()), impeded)
    acting = [node.name for node in situation.control_planes]
    return situation, draw(st.sampled_from(acting)) if acting else ""


@any_time
@given(situations())
def test_never_are_two_control_planes_that_work_changed_at_once(
    drawn: tuple[Situation, str],
) -> None:
    situation, acting = drawn
    by_name = {node.name: node for node in situation.nodes}
    for wave in decide(situation, acting).waves:
        working = [
            name for name in wave if by_name[name].is_control_plane and not by_name[name].broken
        ]
        assert len(working) <= 1
        assert not working or len(wave) == 1, "nobody else is changed beside it"


@any_time
@given(situations())
def test_never_does_a_change_go_below_the_quorum(drawn: tuple[Situation, str]) -> None:
    """Each that works is awaited before the next; so no more than one is missing for a change."""
    situation, acting = drawn
    found = decide(situation, acting)
    members = [node for node in situation.control_planes if node.joined]
    working = {node.name for node in members if not node.broken}
    for wave in found.waves:
        left = working - set(wave)
        assert len(left) >= len(working) - 1
        assert not working & set(wave) or set(wave) <= set(found.proven)


@any_time
@given(situations())
def test_what_is_as_it_should_be_is_never_touched(drawn: tuple[Situation, str]) -> None:
    situation, acting = drawn
    found = decide(situation, acting)
    named = [*found.fresh, *(name for wave in found.waves for name in wave)]
    assert sorted(named) == sorted(found.touched), "each once"
    for node in situation.nodes:
        own = node.drift if node.name == acting else node.drift - {"cni"}
        assert (node.name in named) == bool(own)
        assert node.name not in found.fresh or not node.joined


@any_time
@given(situations())
def test_a_pool_has_one_node_that_goes_before_the_others(drawn: tuple[Situation, str]) -> None:
    situation, acting = drawn
    by_name = {node.name: node for node in situation.nodes}
    seen: set[str] = set()
    for wave in decide(situation, acting).waves:
        kinds = [by_name[name].kind for name in wave if not by_name[name].broken]
        for kind in kinds:
            assert kinds.count(kind) == 1 or kind in seen
        seen |= set(kinds)


@any_time
@given(situations())
def test_the_same_situation_gives_the_same_decision(drawn: tuple[Situation, str]) -> None:
    situation, acting = drawn
    assert decide(situation, acting) == decide(situation, acting)


def test_the_module_reads_what_nodes_said(run_module: Callable[..., dict[str, Any]]) -> None:
    def said(phase: str, drift: Mapping[str, list[str]], **node: bool) -> dict[str, Any]:
        return {
            "membership": {"phase": phase, "role": "worker" if phase == "joined" else None},
            "certificates": {"due": True, "serves": True, "list": []},
            "api_ready": False,
            "drift": drift,
            "node": node,
        }

    states = {
        "w": said("joined", {"worker": ["kubelet.service is not running"]}, ready=False),
        "a": said("none", {"control_plane": ["it is not in the cluster"]}),
    }
    groups = {"all": ["w", "a", "x"], PLANE: ["a", "silent"], "pool_web": ["w"]}
    found = run_module(
        "cluster_decision",
        states=states,
        groups=groups,
        findings=[{"host": "w", "check": "traffic"}, {"host": "a", "check": "clock"}],
    )
    assert not found["changed"]
    assert (found["actor"], found["fresh"], found["waves"]) == ("a", ["a"], [["w"]])
    assert (found["renewing"], found["unsettled"]) == ([], ["a", "w"])
    refused = run_module("cluster_decision", states={"w": states["w"]}, groups=groups)
    assert "No control plane answers" in refused["msg"]


def test_in_check_mode_nobody_has_to_act(run_module: Callable[..., dict[str, Any]]) -> None:
    found = run_module("cluster_decision", states={}, groups={}, check=True)
    assert (found["actor"], found["touched"]) == ("", [])


def test_in_check_mode_a_fatal_finding_is_the_reason(
    run_module: Callable[..., dict[str, Any]],
) -> None:
    """The API server of a control plane that has another address now is never ready."""
    state = {
        "membership": {"phase": "joined", "role": PLANE},
        "certificates": {"due": False, "serves": True, "list": []},
        "api_ready": False,
        "drift": {"load_balancer": ["haproxy.cfg has other content"]},
        "node": {},
    }
    given = {
        "states": {"a": state},
        "groups": {PLANE: ["a"]},
        "begun": True,
        "findings": [{"host": "a", "check": "address", "severity": "fatal"}],
    }
    assert run_module("cluster_decision", **given, check=True)["actor"] == ""
    assert "No API server is ready on a" in run_module("cluster_decision", **given)["msg"]
