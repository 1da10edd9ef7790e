# SPDX-License-Identifier: Apache-2.0
"""apply: the plan before the question, and what the probe says. Runs are recorded ones."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest
from recorded_apply import (
    DRIFTED,
    HOSTS,
    LOOK,
    PROBE,
    SWAP,
    UNCHANGED,
    answer,
    play,
    raw,
    report,
    silent,
)


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """A terminal where somebody says yes; how often."""
    times: list[str] = []

    def answered() -> str:
        times.append("y")
        return "y"

    monkeypatch.setattr("sys.stdin.isatty", lambda: True, raising=False)
    monkeypatch.setattr("builtins.input", answered)
    return times


def ordered(recorded: Any) -> list[str]:
    return [order.playbook.rpartition(".")[2] for order in recorded.orders]


def test_without_yes_the_plan_is_shown_before_the_question(
    machines: None, recorded: Any, asked: list[str], command: Callable[..., Any]
) -> None:
    recorded.events = {"plan": [*DRIFTED, report()], "site": DRIFTED}
    ended = command("apply")
    assert ended.code == 0, ended.err
    assert ordered(recorded) == ["plan", "site"]
    assert recorded.orders[0].options == ("--check",)
    before, _, after = ended.err.partition("Apply these changes? [y/N]")
    assert "demo-web-1 would be changed" in before
    assert "kubelet is stopped" in before
    assert "1 node to change, 3 nodes unchanged." in before
    assert "demo-web-1" not in after, "it has been told"
    assert ended.out.startswith("demo matches cluster.yml")


@pytest.mark.parametrize("said", ["n", ""])
def test_without_a_yes_nothing_is_done(
    machines: None,
    recorded: Any,
    asked: list[str],
    command: Callable[..., Any],
    monkeypatch: pytest.MonkeyPatch,
    said: str,
) -> None:
    monkeypatch.setattr("builtins.input", lambda: said)
    recorded.events = {"plan": DRIFTED}
    assert command("apply").code == 4
    assert ordered(recorded) == ["plan"]


def test_before_there_are_machines_it_asks_too(
    world: Any, recorded: Any, asked: list[str], command: Callable[..., Any]
) -> None:
    missing = {**SWAP, "check": "machine", "text": "Its machine is not there."}
    recorded.events = {"plan": [report(missing)]}
    ended = command("apply")
    assert ended.code == 0, ended.err
    assert "4 nodes to create" in ended.err
    assert ordered(recorded) == ["plan", "site"]


def test_nothing_to_do_ends_at_once(
    machines: None, recorded: Any, asked: list[str], command: Callable[..., Any]
) -> None:
    wrote = raw("runner_on_ok", "localhost", "Record the machines", changed=True)
    recorded.events = {"plan": [wrote, *UNCHANGED]}
    ended = command("apply")
    assert (ended.code, asked) == (0, [])
    assert ended.out == "demo matches cluster.yml: nothing to do, 4 host-tasks, 1 s.\n"
    assert ordered(recorded) == ["plan"]
    told = json.loads(command("apply", "-o", "json").out)
    assert told["changed"] is False
    assert told["host_tasks"] == {"ok": 4, "changed": 0, "failed": 0, "unreachable": 0}
    assert (told["cluster"], told["status"], told["findings"]) == ("demo", "successful", [])


@pytest.mark.parametrize("what", ["kubeconfig", "identity/cluster.json", "node", "traffic"])
def test_what_an_apply_would_still_finish_is_asked_for(
    world: Any,
    machines: None,
    recorded: Any,
    asked: list[str],
    command: Callable[..., Any],
    what: str,
) -> None:
    recorded.events = {"plan": [*UNCHANGED[1:], answer(HOSTS[0], ready=what != "node")]}
    if what == "traffic":
        lost = {"host": HOSTS[0], "check": "traffic", "severity": "warning", "text": "x"}
        recorded.events["plan"].append(report({**lost, "remedy": "y"}))
    elif what != "node":
        (world.paths.state / what).unlink()
    assert command("apply").code == 0
    assert ordered(recorded) == ["plan", "site"]
    assert asked == ["y"]


def test_with_yes_there_is_one_run_and_its_probe_is_told(
    machines: None, recorded: Any, command: Callable[..., Any]
) -> None:
    warning = {**SWAP, "severity": "warning"}
    later = play("Prepare the nodes")
    recorded.events = {"site": [*DRIFTED[1:], silent(HOSTS[0]), report(warning), later]}
    ended = command("apply", "--yes")
    assert ordered(recorded) == ["site"]
    lines = [line.strip() for line in ended.err.splitlines()]
    assert "demo-cp-1   does not answer: connect: Connection refused" in lines
    assert "demo-cp-2   unchanged" in lines
    assert lines.count("demo-web-1  to change: worker") == 1
    assert [line.split()[:3] for line in lines if "swapoff -a" in line] == [
        ["demo-web-1", "swap", "(warning)"]
    ]


def test_findings_are_in_the_document(
    machines: None, recorded: Any, command: Callable[..., Any]
) -> None:
    recorded.events = {"plan": [*DRIFTED, report(SWAP)], "site": [*DRIFTED, report(SWAP)]}
    told = json.loads(command("apply", "--yes", "-o", "json").out)
    assert told["findings"] == [SWAP]
    ended = command("plan", "-o", "json")
    assert (ended.code, json.loads(ended.out)["findings"]) == (0, [SWAP])
    ended = command("plan")
    assert "swap (fatal)" in ended.out
    assert ended.out.splitlines()[-1] == "1 node to change, 3 nodes unchanged, 1 fatal finding."


def test_a_fatal_finding_ends_it_before_the_question(
    machines: None, recorded: Any, asked: list[str], command: Callable[..., Any]
) -> None:
    recorded.events = {"plan": [*DRIFTED, report(SWAP)]}
    ended = command("apply", "-o", "json")
    assert (ended.code, asked, ordered(recorded)) == (1, [], ["plan"])
    told = json.loads(ended.out)
    assert told["findings"] == [SWAP]
    assert "demo-web-1" in told["error"]["message"]
    assert "swapoff -a" in ended.err


def test_the_question_names_who_does_not_answer(
    machines: None, recorded: Any, asked: list[str], command: Callable[..., Any]
) -> None:
    lost = {**SWAP, "check": "unreachable"}
    recorded.events = {"plan": [*DRIFTED[:3], silent(HOSTS[3]), report(lost)]}
    ended = command("apply")
    assert ended.code == 0, ended.err
    assert "demo-web-1 does not answer: connect: Connection refused" in ended.err
    assert "demo-web-1 does not answer. Continue without? [y/N]" in ended.err
    assert recorded.orders[1].extra_vars["kubewright_skip_unreachable"] is True


def test_a_file_that_changes_before_the_yes(
    world: Any, machines: None, recorded: Any, command: Callable[..., Any], monkeypatch: Any
) -> None:
    def changed() -> str:
        world.file.write_text(world.file.read_text().replace("size: 1", "size: 2"))
        return "y"

    monkeypatch.setattr("sys.stdin.isatty", lambda: True, raising=False)
    monkeypatch.setattr("builtins.input", changed)
    recorded.events = {"plan": DRIFTED}
    ended = command("apply", "-o", "json")
    assert (ended.code, ordered(recorded)) == (4, ["plan"])
    error = json.loads(ended.out)["error"]
    assert error["message"] == "cluster.yml has changed since the plan was made; nothing was done"
    assert error["remedy"] == "Run the command again."
    assert not world.paths.store.exists(), "no epoch was taken"


def test_a_file_that_changes_while_images_are_built(
    world: Any, machines: None, recorded: Any, asked: list[str], command: Any, monkeypatch: Any
) -> None:
    text = world.file.read_text().replace("size: 1", "size: 2")
    monkeypatch.setattr("kubewright.operate.converge.build", lambda *_: world.file.write_text(text))
    recorded.events = {"plan": DRIFTED}
    assert command("apply").code == 4
    assert ordered(recorded) == ["plan"]


def test_another_operation_before_the_yes(
    machines: None, recorded: Any, command: Callable[..., Any], monkeypatch: Any
) -> None:
    def other() -> str:
        assert command("reset", "--yes", "--node", HOSTS[3]).code == 0
        return "y"

    monkeypatch.setattr("sys.stdin.isatty", lambda: True, raising=False)
    monkeypatch.setattr("builtins.input", other)
    recorded.events = {"plan": DRIFTED}
    ended = command("apply")
    assert (ended.code, ordered(recorded)) == (4, ["plan", "reset"])
    assert "another operation has run since the plan was made; nothing was done" in ended.err


def test_a_yes_covers_only_those_that_were_named(
    machines: None, recorded: Any, asked: list[str], command: Callable[..., Any]
) -> None:
    both = [*DRIFTED[:2], silent(HOSTS[2]), silent(HOSTS[3])]
    recorded.events = {"plan": [*DRIFTED[:3], silent(HOSTS[3])], "site": both}
    ended = command("apply", "-o", "json")
    told = json.loads(ended.out)
    assert (ended.code, told["status"], told["epoch"]) == (3, "successful", 1)
    assert told["error"]["message"] == "demo-cp-3 was left out too: it stopped answering"
    assert told["error"]["remedy"] == "Run the command again when it answers."
    assert command("apply", "--skip-unreachable").code == 0


def test_who_has_said_it_before_is_not_asked_for_it(
    machines: None, recorded: Any, asked: list[str], command: Callable[..., Any]
) -> None:
    recorded.events = {"plan": [*DRIFTED[:3], silent(HOSTS[3])]}
    ended = command("apply", "--skip-unreachable")
    assert "Apply these changes? [y/N]" in ended.err
    assert [one.extra_vars["kubewright_skip_unreachable"] for one in recorded.orders] == [True] * 2
    recorded.orders.clear()
    command("apply", "--yes")
    assert "kubewright_skip_unreachable" not in recorded.orders[0].extra_vars


def test_a_plan_that_fails_shows_what_the_preflight_found(
    machines: None, recorded: Any, command: Callable[..., Any]
) -> None:
    broken = raw("runner_on_failed", HOSTS[3], LOOK, PROBE, msg="Ansible is not root")
    recorded.events = {"plan": [*UNCHANGED[:3], broken, report(SWAP)]}
    recorded.failed = {"plan"}
    ended = command("plan")
    assert (ended.code, ended.out) == (1, "")
    assert "swapoff -a" in ended.err
    assert "Ansible is not root" in ended.err


def test_a_difference_that_nobody_would_see(world: Any, command: Callable[..., Any]) -> None:
    ended = command("apply", "--yes", "--diff")
    assert ended.code == 2
    assert "Add --check" in ended.err


def test_failures_have_their_remedy_once_and_are_not_endless(
    machines: None, recorded: Any, command: Callable[..., Any]
) -> None:
    recorded.events = {"site": [silent(f"host-{number:03}") for number in range(200)]}
    recorded.failed = {"site"}
    ended = command("apply", "--yes")
    assert ended.code == 3
    told = ended.err.rpartition("Error: ")[2]
    assert len(told.splitlines()) < 25
    assert "and 180 failures more" in told
    hosts = "host-000, host-001, host-002, host-003, host-004 and 195 more"
    assert f"{hosts}: The machine is up, but nothing listens" in told


def test_images_of_another_release_are_not_built_for_a_cluster_that_is_there(
    world: Any,
    machines: None,
    recorded: Any,
    command: Callable[..., Any],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The run refuses it as well, and would do so after many minutes of building alone."""
    begun = {"begun": True, "initial_node": "demo-cp-1", "fixed": {"version": "1.37.2"}}
    (world.paths.identity / "cluster.json").write_text(json.dumps(begun))
    world.file.write_text(world.file.read_text().replace("1.37", "1.36"))

    def build(*_: Any) -> None:
        raise AssertionError("built")

    monkeypatch.setattr("kubewright.operate.converge.build", build)
    ended = command("apply", "--yes")
    assert ended.code == 4
    assert "demo runs 1.37.2" in ended.err
    assert "Set the version back to 1.37.2" in ended.err
    assert ordered(recorded) == []
