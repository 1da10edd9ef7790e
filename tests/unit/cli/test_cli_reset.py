# SPDX-License-Identifier: Apache-2.0
"""reset, through a real ansible-playbook and a small collection."""

from __future__ import annotations

import json
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from kubewright.spec.machines import Machine

TELLING = """\
- name: Reset nodes
  hosts: "{{ kubewright_target }}"
  connection: local
  gather_facts: false
  tasks:
    - name: Tell
      ansible.builtin.debug:
        msg: "{{ inventory_hostname }} {{ kubewright_confirm_reset }} {{ kubewright_epoch }}"
"""


NODES = ("demo-cp-1", "demo-cp-2", "demo-cp-3", "demo-cp-4", "demo-cp-5", "demo-web-1")


@pytest.fixture
def machines(world: Any) -> None:
    """Their provider has told of all machines."""
    known = [
        Machine(f"x://{name}", name, "127.0.0.1", (), "local", "", "", "", "on").as_dict()
        for name in NODES
    ]
    world.paths.state.mkdir(parents=True)
    at = datetime.now(UTC).isoformat()
    told = {"schema": 1, "cluster": "demo", "written_at": at, "machines": known}
    world.paths.machines.write_text(json.dumps(told))


def test_nodes_without_a_machine_are_refused(world: Any, command: Callable[..., Any]) -> None:
    """Ansible asked DNS for their names, and told of ssh."""
    ended = command("reset", "--yes", "--node", "demo-web-1")
    assert ended.code == 2
    assert "demo-web-1 has no known machine: " in ended.err
    assert f"{world.paths.state} has no list of machines. Nothing was reset." in ended.err
    assert "set KUBEWRIGHT_STATE_DIR" in ended.err
    assert not world.paths.state.exists()


def test_one_that_its_provider_does_not_have_is_refused(
    world: Any, machines: None, command: Callable[..., Any]
) -> None:
    world.file.write_text(world.file.read_text().replace("size: 1", "size: 2"))
    ended = command("reset", "--yes")
    assert ended.code == 2
    assert "demo-web-2 has no known machine: the providers had none" in ended.err
    assert "--node" in ended.err


def test_the_nodes_that_are_named(world: Any, machines: None, command: Callable[..., Any]) -> None:
    world.playbook("reset", TELLING)
    ended = command("reset", "--yes", "-o", "json", "--node", "demo-web-1", "--node", "demo-cp-2")
    assert ended.code == 0, ended.err
    told = json.loads(ended.out)
    assert told["nodes"] == ["demo-cp-2", "demo-web-1"]
    log = Path(told["log"]).read_text()
    assert "demo-cp-2 demo 1" in log and "demo-web-1 demo 1" in log
    assert "demo-cp-1" not in log


def test_that_the_keys_go_with_the_last_node_is_said(
    world: Any, machines: None, recorded: Any, command: Callable[..., Any]
) -> None:
    nodes = [f"demo-cp-{number}" for number in range(1, 6)] + ["demo-web-1"]
    world.file.write_text(world.file.read_text().replace("size: 3", "size: 5"))
    files = "identity, ssh, kubeconfig, known_hosts, machines.json"
    keys = f"The cluster's keys are deleted too: {files} in "
    whole = command("reset", "--yes").err
    assert f"from {', '.join(nodes)} of demo" in whole
    assert f"{keys}{world.paths.state}" in whole
    assert keys in command("reset", "--yes", *(f"--node={node}" for node in nodes)).err
    some = command("reset", "--yes", *(f"--node={node}" for node in nodes[1:])).err
    assert f"from {', '.join(nodes[1:])} of demo" in some
    assert keys not in some


@pytest.mark.parametrize(
    ("words", "code", "said"),
    [
        (["--yes", "--node", "demo-web-9"], 2, "demo has no node demo-web-9"),
        ([], 4, "reset removes Kubernetes, with all pods"),
    ],
)
def test_what_is_refused_before_anything(
    world: Any, command: Callable[..., Any], words: list[str], code: int, said: str
) -> None:
    ended = command("reset", *words)
    assert ended.code == code
    assert said in ended.err
    assert not world.paths.state.exists()
