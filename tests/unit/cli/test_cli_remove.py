# SPDX-License-Identifier: Apache-2.0
"""node remove, through a real ansible-playbook and a small collection."""

from __future__ import annotations

import json
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from kubewright.spec.machines import Machine

TELLING = """\
- name: Remove nodes
  hosts: "{{ kubewright_target }}"
  connection: local
  gather_facts: false
  tasks:
    - name: Tell
      ansible.builtin.debug:
        msg: >-
          {{ inventory_hostname }} in {{ group_names | join(',') }},
          {{ kubewright_confirm_remove }}, skips {{ kubewright_skip_unreachable }},
          {{ node_drain_on_timeout | default('-') }}
"""
MACHINES = ("demo-cp-1", "demo-cp-2", "demo-cp-3", "demo-web-1", "demo-web-2", "demo-web-3")


@pytest.fixture(autouse=True)
def _three_workers(world: Any) -> None:
    """There are three; the file has a place for one."""
    known = [
        Machine(f"x://{name}", name, "127.0.0.1", (), "local", "", "", "", "on").as_dict()
        for name in MACHINES
    ]
    world.paths.state.mkdir(parents=True)
    at = datetime.now(UTC).isoformat()
    told = {"schema": 1, "cluster": "demo", "written_at": at, "machines": known}
    world.paths.machines.write_text(json.dumps(told))
    world.playbook("node_remove", TELLING)


def told(ended: Any) -> str:
    assert ended.code == 0, ended.err
    return Path(json.loads(ended.out)["log"]).read_text()


def test_those_that_the_file_has_no_place_for(command: Callable[..., Any]) -> None:
    words = ("--on-timeout", "force", "--skip-unreachable")
    ended = command("node", "remove", "demo-web-3", "demo-web-2", "--yes", "-o", "json", *words)
    log = told(ended)
    for name in ("demo-web-2", "demo-web-3"):
        assert f"{name} in leaving, demo-web-2,demo-web-3, skips True, force" in log
        assert f"{name}: the machine is deleted at the provider local" in ended.err
    assert json.loads(ended.out)["nodes"] == ["demo-web-2", "demo-web-3"]


def test_any_of_a_pool_that_has_too_many(world: Any, command: Callable[..., Any]) -> None:
    log = told(command("node", "remove", "demo-web-1", "--yes", "-o", "json"))
    assert "demo-web-1 in leaving, demo-web-1, skips False, -" in log
    kept = json.loads((world.paths.state / "roster.json").read_text())
    assert kept["named"] == ["demo-web-1"]


@pytest.mark.parametrize("name", ["demo-cp-1", "demo-web-1"])
def test_those_that_the_file_wants_stay(world: Any, command: Callable[..., Any], name: str) -> None:
    world.file.write_text(world.file.read_text().replace("size: 1", "size: 3"))
    ended = command("node", "remove", name, "--yes")
    assert ended.code == 4
    assert f"still has a place for {name}; nothing was removed" in ended.err
    assert "Lower the size of its pool" in ended.err
    assert not (world.paths.state / "roster.json").exists()


def test_more_than_there_are_too_many(command: Callable[..., Any]) -> None:
    ended = command("node", "remove", "demo-web-1", "demo-web-2", "demo-web-3", "--yes")
    assert ended.code == 4
    assert "still has a place for demo-web-1; nothing was removed" in ended.err


def test_nobody_of_that_name(command: Callable[..., Any]) -> None:
    ended = command("node", "remove", "demo-web-9", "--yes")
    assert ended.code == 2
    assert "demo has no node demo-web-9" in ended.err


def test_without_a_yes_nothing_is_done(world: Any, command: Callable[..., Any]) -> None:
    ended = command("node", "remove", "demo-web-1")
    assert ended.code == 4
    assert not (world.paths.state / "roster.json").exists()
