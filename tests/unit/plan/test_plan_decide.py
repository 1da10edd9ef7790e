# SPDX-License-Identifier: Apache-2.0
"""From hosts and their answers to what an apply would do."""

from __future__ import annotations

import dataclasses
from typing import Any

import pytest

from kubewright.plan import Answer, NodePlan, Plan, Step, decide

RUNTIME, WORKER, CNI = "container_runtime", "worker", "cni"
GONE = ("Namespace kube-flannel is missing",)
#: The only sign of a machine in a host's variables.
MACHINE = {"kubewright_machine": {"name": "x"}}


def host(role: str = "worker", known: bool = True) -> dict[str, Any]:
    return {"kubewright_role": role, **(MACHINE if known else {})}


def joined(**drift: tuple[str, ...]) -> Answer:
    return Answer(drift, phase="joined")


def serving(**drift: tuple[str, ...]) -> Answer:
    return Answer(drift, phase="joined", api_ready=True)


def only(answer: Answer | None, *, known: bool = True) -> NodePlan:
    """The plan of a cluster of one node."""
    (node,) = decide({"a": host(known=known)}, {"a": answer} if answer else {}).nodes
    return node


RESULT = {
    "changed": False,
    "drift": {"worker": ["it is not in the cluster"], "cni": []},
    "membership": {"phase": "partial", "operation": "join", "role": "worker", "cluster_id": "3f"},
    "api_ready": True,
    "unknown": ["Node a: nobody answers"],
    "diff": [{"before_header": "/a", "after_header": "/a", "before": "x", "after": "y"}],
    "machine": {"root": True},
}


def test_an_answer_is_what_the_module_returned() -> None:
    assert Answer.from_result(RESULT) == Answer(
        drift={"worker": ("it is not in the cluster",), "cni": ()},
        phase="partial",
        api_ready=True,
        unknown=("Node a: nobody answers",),
        diff=(RESULT["diff"][0],),  # type: ignore[index]
    )


@pytest.mark.parametrize("result", [{}, {"diff": None, "membership": {}}])
def test_an_answer_that_says_little(result: dict[str, Any]) -> None:
    assert Answer.from_result(result) == Answer(drift={}, phase="none", api_ready=False)


@pytest.mark.parametrize(
    ("answer", "known", "state"),
    [
        (None, False, "missing"),
        (None, True, "unreachable"),
        (joined(), True, "unchanged"),
        (joined(container_runtime=("why",)), True, "drifted"),
        (Answer({WORKER: ("why",)}, phase="none"), True, "new"),
        (Answer({WORKER: ("why",)}, phase="partial"), True, "new"),
        (Answer({WORKER: ("why",)}, phase="none"), False, "new"),
    ],
)
def test_states(answer: Answer | None, known: bool, state: str) -> None:
    node = only(answer, known=known)
    assert node.state == state
    changes = decide({"a": host(known=known)}, {"a": answer} if answer else {}).changes
    assert changes == (state in ("missing", "drifted", "new"))


def test_steps_keep_the_order_of_the_roles_and_their_reasons() -> None:
    node = only(joined(worker=("b", "a"), container_runtime=("c",)))
    assert node.steps == (Step(WORKER, ("b", "a")), Step(RUNTIME, ("c",)))


def test_what_is_unknown_and_what_differs_goes_along() -> None:
    diff = ({"before": "x", "after": "y"},)
    answer = dataclasses.replace(joined(), unknown=("Node a: nobody answers",), diff=diff)
    node = only(answer)
    assert (node.state, node.unknown, node.diff) == ("unchanged", answer.unknown, diff)


def test_nodes_in_the_inventorys_order_with_their_roles() -> None:
    plan = decide(
        {"b": host("control_plane"), "a": host("worker"), "c": host("worker", known=False)},
        {"a": joined(), "b": joined()},
    )
    assert [(node.name, node.role, node.state) for node in plan.nodes] == [
        ("b", "control_plane", "unchanged"),
        ("a", "worker", "unchanged"),
        ("c", "worker", "missing"),
    ]


CONTROL_PLANES = {name: host("control_plane") for name in ("cp-1", "cp-2", "cp-3")}


def test_objects_of_the_cluster_are_no_step_of_a_node() -> None:
    plan = decide(CONTROL_PLANES, {name: serving(cni=GONE) for name in CONTROL_PLANES})
    assert {node.state for node in plan.nodes} == {"unchanged"}
    assert plan.cluster_steps == (Step(CNI, GONE),)
    assert plan.changes


@pytest.mark.parametrize(
    ("answers", "expected"),
    [
        ({"cp-1": serving(), "cp-2": joined(cni=GONE)}, ()),
        ({"cp-1": joined(cni=("older",)), "cp-2": serving(cni=GONE)}, (Step(CNI, GONE),)),
        ({"cp-2": serving(), "cp-1": serving(cni=GONE)}, (Step(CNI, GONE),)),
        ({"cp-1": joined(container_runtime=("why",)), "cp-2": joined()}, ()),
        ({"cp-1": joined(), "cp-2": Answer({CNI: GONE})}, (Step(CNI, GONE),)),
        ({}, ()),
    ],
    ids=["who serves knows", "serves later", "first by name", "no drift", "nobody", "no answer"],
)
def test_who_is_believed_about_the_cluster(
    answers: dict[str, Answer], expected: tuple[Step, ...]
) -> None:
    assert decide(CONTROL_PLANES, answers).cluster_steps == expected


def test_a_new_cluster() -> None:
    new = Answer({RUNTIME: ("x is missing",), CNI: ("the cluster does not exist yet",)})
    plan = decide(CONTROL_PLANES, dict.fromkeys(CONTROL_PLANES, new))
    assert {node.state for node in plan.nodes} == {"new"}
    assert [step.role for node in plan.nodes for step in node.steps] == [RUNTIME] * 3
    assert plan.cluster_steps == (Step(CNI, ("the cluster does not exist yet",)),)


def test_nodes_that_do_not_answer_are_no_change() -> None:
    plan = decide(CONTROL_PLANES, {"cp-1": serving()})
    assert [node.state for node in plan.nodes] == ["unchanged", "unreachable", "unreachable"]
    assert not plan.changes


def test_as_plain_data() -> None:
    diff = {"before_header": "/a", "after_header": "/a", "before": "x", "after": "y"}
    node = NodePlan(
        "a", "worker", "drifted", (Step(RUNTIME, ("why",)),), ("Node a: no answer",), (diff,)
    )
    assert Plan((node,), (Step(CNI, GONE),), (("a", "b"), ("c",))).as_dict() == {
        "changes": True,
        "nodes": [
            {
                "name": "a",
                "role": "worker",
                "state": "drifted",
                "steps": [{"role": RUNTIME, "reasons": ["why"]}],
                "unknown": ["Node a: no answer"],
                "diff": [diff],
                "reason": "",
            }
        ],
        "cluster_steps": [{"role": CNI, "reasons": list(GONE)}],
        "waves": [["a", "b"], ["c"]],
    }
    nothing = {"changes": False, "nodes": [], "cluster_steps": [], "waves": []}
    assert Plan((), ()).as_dict() == nothing


def test_who_does_not_answer_has_a_reason() -> None:
    hosts = {
        "refused": {"kubewright_role": "worker", "kubewright_machine": {"power": "on"}},
        "off": {"kubewright_role": "worker", "kubewright_machine": {"power": "off"}},
        "odd": {"kubewright_role": "worker", "kubewright_machine": {"power": "on"}},
    }
    decided = decide(hosts, {}, {"refused": "Connection refused"})
    assert [node.reason for node in decided.nodes] == [
        "Connection refused",
        "its machine is off; apply powers it on",
        "",
    ]
    assert decided.as_dict()["nodes"][0]["reason"] == "Connection refused"
