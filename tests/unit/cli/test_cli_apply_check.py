# SPDX-License-Identifier: Apache-2.0
"""apply --check: what would be done, and what can't be said. Runs are recorded ones."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

from recorded_apply import DRIFTED, HOSTS, UNCHANGED, raw, silent


def test_a_check_says_what_would_be_done(
    world: Any, machines: None, recorded: Any, command: Callable[..., Any]
) -> None:
    diff = {"before_header": "/etc/x", "before": "a\n", "after": "b\n"}
    changes = [
        raw("runner_on_ok", "localhost", "Record the machines", changed=True, diff=[diff]),
        raw("runner_on_ok", HOSTS[3], "Write the files", changed=True, diff=[diff]),
        raw("runner_on_ok", HOSTS[0], "Start the kubelet", changed=True),
    ]
    recorded.events = {"site": [*DRIFTED, *changes]}
    ended = command("apply", "--check", "--diff")
    assert ended.code == 0, ended.err
    assert recorded.orders[0].options == ("--check", "--diff")
    assert dict(recorded.orders[0].extra_vars) == {}, "no epoch is taken"
    assert not world.paths.store.exists()
    lines = [line.lstrip("│├└─ ") for line in ended.out.splitlines()]
    assert lines == [
        "demo",
        HOSTS[0],
        "Start the kubelet",
        HOSTS[3],
        "Write the files",
        "",
        "demo-web-1: /etc/x",
        "--- is",
        "+++ should be",
        "@@ -1 +1 @@",
        "-a",
        "+b",
        "2 tasks would change 2 hosts.",
    ]
    told = json.loads(command("apply", "--check", "-o", "json").out)
    assert told["would_change"] == [
        {"host": HOSTS[0], "task": "Start the kubelet", "diff": []},
        {"host": HOSTS[3], "task": "Write the files", "diff": [diff]},
    ]


def test_a_check_names_nodes_without_a_machine(
    world: Any, recorded: Any, command: Callable[..., Any]
) -> None:
    ended = command("apply", "--check")
    assert "demo-cp-1 would be created, prepared and joined" in ended.out
    assert ended.out.splitlines()[-1] == "4 nodes to create."


def test_a_check_of_what_is_as_it_should_be(
    machines: None, recorded: Any, command: Callable[..., Any]
) -> None:
    recorded.events = {"site": UNCHANGED}
    assert command("apply", "--check").out == "Nothing would be changed.\n"


def test_a_check_tells_who_did_not_answer_and_what_of_the_others(
    machines: None, recorded: Any, command: Callable[..., Any]
) -> None:
    change = raw("runner_on_ok", HOSTS[0], "Start the kubelet", changed=True)
    recorded.events = {"site": [*DRIFTED[:3], silent(HOSTS[3]), change]}
    recorded.failed = {"site"}
    ended = command("apply", "--check")
    assert ended.code == 0, ended.err
    assert "demo-web-1 does not answer: connect: Connection refused" in ended.out
    assert ended.out.splitlines()[-1] == "1 task would change 1 host, 1 node not reached."
    broken = raw("runner_on_failed", HOSTS[1], "Join", msg="no token")
    recorded.events["site"].append(broken)
    ended = command("apply", "--check", "-o", "json")
    assert ended.code == 1
    assert len(json.loads(ended.out)["would_change"]) == 1
