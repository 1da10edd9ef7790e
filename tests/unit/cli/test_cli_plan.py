# SPDX-License-Identifier: Apache-2.0
"""plan, of nodes that say what the test has written down: to a real ansible-playbook, or recorded.

What the recorded runs have is what the real ones here and in test_act_run.py give.
"""

from __future__ import annotations

import io
import json
import os
from collections.abc import Callable, Mapping
from dataclasses import asdict
from datetime import UTC, datetime
from typing import Any

import pytest
from rich.console import Console

from kubewright.act import Finding
from kubewright.cli.plan import picture
from kubewright.plan import NodePlan, Plan, Step
from kubewright.spec.machines import Machine
from kubewright.store import Lock

pytestmark = pytest.mark.timeout(120)

#: In the place of the real one; a diff only where Ansible wants it, as from a module.
NODE_STATE = """\
import json
from pathlib import Path

from ansible.plugins.action import ActionBase


class ActionModule(ActionBase):
    def run(self, tmp=None, task_vars=None):
        host = task_vars["inventory_hostname"]
        told = json.loads(Path(self._task.args["answers"]).read_text())[host]
        if not self._task.diff:
            told.pop("diff", None)
        return {"changed": False, **told}
"""
#: Whoever has no machine yet is left out, as by the real one. A command is skipped in check mode.
PLAYBOOK = """\
- name: Probe the nodes
  hosts: "{{{{ groups.kubewright | select('in', {hosts}) }}}}"
  gather_facts: false
  vars: {{ansible_port: 1}}
  tasks:
    - name: Change something
      ansible.builtin.command: touch {directory}/changed
      delegate_to: localhost
    - name: Reach it
      ansible.builtin.raw: "true"
      check_mode: false
      when: inventory_hostname in {dead}
    - name: Compare the node with its desired state
      kubewright.cluster.node_state:
        answers: {directory}/answers.json
"""
DIFF = {"before_header": "/etc/x", "after_header": "/etc/x", "before": "a\nb\n", "after": "a\nc\n"}
CP_1, CP_2, CP_3, WEB = "demo-cp-1", "demo-cp-2", "demo-cp-3", "demo-web-1"
ALL = (CP_1, CP_2, CP_3, WEB)
LOOK = "Compare the node with its desired state"


def answer(phase: str = "joined", **drift: list[str]) -> dict[str, Any]:
    return {"drift": drift, "membership": {"phase": phase}, "unknown": [], "api_ready": False}


def machines(world: Any, *names: str) -> None:
    """Let the world know that these machines have been made."""
    known = [
        asdict(Machine(f"local://{name}", name, "127.0.0.1", (), "local", "", "", "", "on"))
        for name in names
    ]
    written = {
        "schema": 1,
        "cluster": "demo",
        "written_at": datetime(2026, 1, 1, tzinfo=UTC).isoformat(),
        "machines": known,
    }
    world.paths.state.mkdir(parents=True)
    world.paths.machines.write_text(json.dumps(written))


def prepare(
    world: Any, answers: Mapping[str, Any], dead: tuple[str, ...] = (), names: tuple[str, ...] = ALL
) -> None:
    """Give the world the machines that are named, and what each will say to a real run."""
    action = world.collection / "plugins" / "action" / "node_state.py"
    action.parent.mkdir(exist_ok=True)
    action.write_text(NODE_STATE)
    (world.directory / "answers.json").write_text(json.dumps(answers))
    machines(world, *names)
    text = PLAYBOOK.format(hosts=list(names), dead=list(dead), directory=world.directory)
    world.playbook("plan", text)


@pytest.fixture
def nodes(world: Any, recorded: Any) -> Callable[..., None]:
    """Let nodes say something in a recorded run, all of which have been made."""
    machines(world, *ALL)

    def say(*names: str, kind: str = "ok", **result: Any) -> None:
        recorded.ended(
            "plan", LOOK, *names, kind=kind, action="kubewright.cluster.node_state", **result
        )

    return say


MIXED = {
    CP_1: {**answer(cni=["Namespace kube-flannel is missing"]), "api_ready": True},
    CP_2: {**answer(container_runtime=["/etc/x has other content"]), "diff": [DIFF]},
    CP_3: answer("none", container_runtime=["/etc/x is missing"], control_plane=["not in it"]),
}


def test_json_tells_every_node_and_nothing_is_changed(
    world: Any, command: Callable[..., Any]
) -> None:
    prepare(world, MIXED, dead=(WEB,))
    ended = command("plan", "-o", "json")
    assert ended.code == 0, "a node that does not answer is part of the plan"
    told = json.loads(ended.out)
    nodes = {node["name"]: node for node in told["nodes"]}
    assert list(nodes) == [CP_1, CP_2, CP_3, WEB]
    states = [node["state"] for node in told["nodes"]]
    assert states == ["unchanged", "drifted", "new", "unreachable"]
    assert [node["role"] for node in told["nodes"]] == [*["control_plane"] * 3, "worker"]
    assert nodes[CP_3]["steps"] == [
        {"role": "container_runtime", "reasons": ["/etc/x is missing"]},
        {"role": "control_plane", "reasons": ["not in it"]},
    ]
    assert (told["cluster"], told["kubernetes"], told["changes"]) == ("demo", "1.37.2", True)
    assert told["cluster_steps"] == [
        {"role": "cni", "reasons": ["Namespace kube-flannel is missing"]}
    ]
    assert nodes[CP_2]["diff"] == [], "it was not asked for"
    assert nodes[WEB]["reason"].endswith("port 1: Connection refused")
    assert told["findings"] == []
    assert not (world.directory / "changed").exists()


def test_diff(world: Any, command: Callable[..., Any]) -> None:
    prepare(world, MIXED, names=(CP_1, CP_2, CP_3))
    ended = command("plan", "--diff")
    assert ended.code == 0, ended.err
    diff = "demo-cp-2: /etc/x\n--- is\n+++ should be\n@@ -1,2 +1,2 @@\n a\n-b\n+c\n"
    assert f"\n{diff}" in ended.out
    assert ended.out.splitlines()[0] == "demo"
    assert ended.out.splitlines()[-1] == (
        "1 node to create, 1 node to join, 1 node to change, 1 node unchanged, "
        "the cluster itself to change."
    )
    assert "Probe the nodes" in ended.err
    assert not (world.directory / "changed").exists()


def test_nothing_to_do(nodes: Callable[..., None], command: Callable[..., Any]) -> None:
    nodes(*ALL, **answer())
    ended = command("plan")
    assert ended.code == 0, ended.err
    assert ended.out.splitlines()[-1] == "Nothing to do."


def test_when_nobody_answers_there_is_no_plan(
    nodes: Callable[..., None], recorded: Any, command: Callable[..., Any]
) -> None:
    nodes(*ALL, kind="unreachable", msg="Connection refused")
    recorded.failed = {"plan"}
    ended = command("plan", "-o", "json")
    assert ended.code == 3
    told = json.loads(ended.out)
    assert told["error"]["exit_code"] == 3
    assert [node["state"] for node in told["nodes"]] == ["unreachable"] * 4
    assert f"{WEB}: {LOOK}: " in ended.err


def test_a_node_that_cannot_say_what_it_is_fails_the_plan(
    nodes: Callable[..., None], recorded: Any, command: Callable[..., Any]
) -> None:
    nodes(CP_1, kind="failed", msg="another cluster's kubelet runs here")
    nodes(CP_2, CP_3, WEB, **answer())
    recorded.failed = {"plan"}
    ended = command("plan")
    assert (ended.code, ended.out) == (1, "")
    assert f"{CP_1}: {LOOK}: another cluster's kubelet runs here" in ended.err
    (order,) = recorded.orders
    assert ended.err.rpartition("The full log is ")[2].strip() == f"{order.directory}/log.txt"


def test_what_fails_here_after_the_nodes_have_answered_fails_the_plan(
    nodes: Callable[..., None], recorded: Any, command: Callable[..., Any]
) -> None:
    nodes(*ALL, **answer())
    recorded.ended("plan", "Decide", "localhost", kind="failed", msg="no API server is ready")
    recorded.failed = {"plan"}
    ended = command("plan")
    assert (ended.code, ended.out) == (1, "")
    assert "Decide: no API server is ready" in ended.err


def test_a_plan_before_there_are_machines(world: Any, command: Callable[..., Any]) -> None:
    prepare(world, {}, names=())
    ended = command("plan", "-o", "json")
    assert ended.code == 0, ended.err
    told = json.loads(ended.out)
    assert [node["state"] for node in told["nodes"]] == ["missing"] * 4
    assert told["changes"] is True


def test_a_plan_while_something_else_is_at_work(world: Any, command: Callable[..., Any]) -> None:
    prepare(world, {})
    with Lock(world.paths.lock, "apply"):
        ended = command("plan", "-o", "json")
    assert ended.code == 5
    assert f"apply (pid {os.getpid()}, since " in ended.err
    assert json.loads(ended.out)["error"]["exit_code"] == 5


def test_a_bad_file(world: Any, command: Callable[..., Any]) -> None:
    ended = command("plan", "-f", "nothing.yml")
    assert (ended.code, ended.out) == (2, "")
    assert "nothing.yml: there is no such file" in ended.err


def drawn(
    *nodes: NodePlan, cluster: tuple[Step, ...] = (), found: tuple[Finding, ...] = ()
) -> list[str]:
    """The picture's lines without the lines of the tree."""
    shown = io.StringIO()
    Console(file=shown, width=200).print(picture(Plan(nodes, cluster), "demo", found))
    lines = shown.getvalue().splitlines()
    assert lines[0] == "demo"
    return [line.lstrip("│├└─ ") for line in lines[1:]]


def test_each_state_in_words() -> None:
    assert drawn(
        NodePlan("a", "worker", "missing"),
        NodePlan("b", "worker", "new"),
        NodePlan("c", "worker", "drifted"),
        NodePlan("d", "worker", "unchanged"),
        NodePlan("e", "worker", "unreachable"),
        NodePlan("f", "worker", "unreachable", reason="Connection refused"),
    ) == [
        "a would be created, prepared and joined",
        "b would be prepared and joined",
        "c would be changed",
        "d up to date",
        "e does not answer: nothing is known about it",
        "f does not answer: Connection refused",
        "1 node to create, 1 node to join, 1 node to change, 1 node unchanged, "
        "2 nodes not reached.",
    ]


def test_steps_with_their_reasons_and_what_is_not_known() -> None:
    steps = (Step("container_runtime", ("[x] is missing", "y")), Step("worker", ("z",)))
    assert drawn(
        NodePlan("a", "worker", "drifted", steps, ("Node a: [1] no answer",)),
        cluster=(Step("cni", ("w",)),),
    ) == [
        "a would be changed",
        "container_runtime",
        "[x] is missing",
        "y",
        "worker",
        "z",
        "not known: Node a: [1] no answer",
        "the cluster as a whole",
        "cni",
        "w",
        "1 node to change, the cluster itself to change.",
    ]


@pytest.mark.parametrize(
    ("nodes", "last"),
    [
        ((NodePlan("a", "worker", "unchanged"),), "Nothing to do."),
        ((NodePlan("a", "worker", "unreachable"),), "1 node not reached."),
    ],
)
def test_who_was_not_reached_is_not_nothing_to_do(nodes: tuple[NodePlan, ...], last: str) -> None:
    assert drawn(*nodes)[-1] == last
    assert drawn(*nodes, cluster=(Step("cni", ("w",)),))[-1] != "Nothing to do."


def test_traffic_that_does_not_flow_is_not_nothing_to_do() -> None:
    """An apply would change no node, and end red."""
    nodes = tuple(NodePlan(name, "worker", "unchanged") for name in "abc")
    found = (
        Finding("b", "traffic", "warning", "DNS does not answer here.", "Look at it."),
        Finding("b", "traffic", "warning", "Services don't work here.", "Look at it."),
        Finding("c", "traffic", "warning", "DNS does not answer here.", "Look at it."),
        Finding("a", "machine", "warning", "It is in no pool.", "Put its pool back."),
    )
    assert drawn(*nodes, found=found)[-1] == (
        "Traffic does not pass through 2 nodes, and apply has nothing to change, 4 warnings."
    )
    assert drawn(*nodes, found=found[3:])[-1] == "Nothing to do, 1 warning."


def test_the_order_of_nodes_that_run_is_shown_before_it_is_gone(
    nodes: Callable[..., None], recorded: Any, command: Callable[..., Any]
) -> None:
    nodes(*ALL, **answer(container_runtime=["/etc/x has other content"]))
    waves = [[CP_2], [CP_3], [CP_1], [WEB]]
    action = "kubewright.cluster.cluster_decision"
    recorded.ended("plan", "Decide", "localhost", action=action, waves=waves)
    assert json.loads(command("plan", "-o", "json").out)["waves"] == waves
    said = f"changed in this order: {CP_2}; then {CP_3}; then {CP_1}; then {WEB}."
    assert said in command("plan").out
    recorded.events["plan"].pop()
    recorded.ended("plan", "Decide", "localhost", action=action, waves=waves[:1])
    assert "in turn" not in command("plan").out
