# SPDX-License-Identifier: Apache-2.0
"""apply and destroy of a small collection: by a real ansible-playbook, or recorded."""

from __future__ import annotations

import dataclasses
import json
import os
import signal
import subprocess
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from kubewright.act.remedies import remedy
from kubewright.agreed import lease
from kubewright.store import Lock

pytestmark = pytest.mark.timeout(120)

HOSTS = ("demo-cp-1", "demo-cp-2", "demo-cp-3", "demo-web-1")


def test_apply(world: Any, command: Callable[..., Any]) -> None:
    ended = command("apply", "--yes", "-o", "json")
    assert ended.code == 0, ended.err
    told = json.loads(ended.out)
    assert told["changed"] is True
    assert told["host_tasks"] == {"ok": 0, "changed": 4, "failed": 0, "unreachable": 0}
    assert (told["cluster"], told["status"], told["epoch"]) == ("demo", "successful", 1)
    assert [phase["name"] for phase in told["phases"]] == ["Create the machines", "Look"]
    assert "epoch 1 of demo" in Path(told["log"]).read_text()
    assert "Create the machines: " in ended.err
    assert "4 hosts, 4 changed" in ended.err
    assert "Nobody is here" not in ended.err
    assert "\x1b[" not in ended.err


def test_each_apply_has_the_next_epoch(recorded: Any, command: Callable[..., Any]) -> None:
    told = [json.loads(command("apply", "--yes", "-o", "json").out) for _ in range(2)]
    assert [result["epoch"] for result in told] == [1, 2]
    assert [order.extra_vars["kubewright_epoch"] for order in recorded.orders] == [1, 2]


def test_apply_tells_a_person_on_stdout_only_the_result(
    recorded: Any, command: Callable[..., Any]
) -> None:
    recorded.ended("site", "Make one", *HOSTS, changed=True)
    ended = command("apply", "--yes")
    assert ended.code == 0
    assert ended.out.splitlines()[0].startswith("demo matches cluster.yml: 4 changes, ")
    assert "apply makes 4 machines (demo-cp-1, demo-cp-2, demo-cp-3, demo-web-1)" in ended.err


def test_apply_without_a_terminal_wants_yes(world: Any, command: Callable[..., Any]) -> None:
    ended = command("apply")
    assert ended.code == 4
    assert "--yes" in ended.err
    assert ended.out == ""
    assert not world.paths.state.exists(), "nothing was done"


FAILING = """\
- name: Prepare the nodes
  hosts: kubewright
  connection: local
  gather_facts: false
  tasks:
    - name: Look at the disk
      ansible.builtin.fail: {msg: "the disk is full"}
      when: inventory_hostname == "demo-web-1"
"""


def test_a_failed_apply(world: Any, command: Callable[..., Any]) -> None:
    world.playbook("site", FAILING)
    ended = command("apply", "--yes", "-o", "json")
    assert ended.code == 1
    assert "demo-web-1: Look at the disk: the disk is full" in ended.err
    log = ended.err.rpartition("The full log is ")[2].strip()
    assert "the disk is full" in Path(log).read_text()
    told = json.loads(ended.out)
    assert told["changed"] is False
    assert told["host_tasks"]["failed"] == 1
    assert told["error"]["exit_code"] == 1
    assert told["failures"] == [
        {
            "host": "demo-web-1",
            "task": "Look at the disk",
            "message": "the disk is full",
            "remedy": remedy("the disk is full"),
        }
    ]
    assert f"demo-web-1: {remedy('the disk is full')}" in ended.err


def test_machines_that_cannot_be_reached(recorded: Any, command: Callable[..., Any]) -> None:
    recorded.ended("site", "Try", HOSTS[0], kind="unreachable", msg="Connection refused")
    recorded.failed = {"site"}
    ended = command("apply", "--yes", "-o", "json")
    assert ended.code == 3
    assert json.loads(ended.out)["host_tasks"]["unreachable"] == 1


def test_an_interrupted_apply(world: Any, command: Callable[..., Any]) -> None:
    world.playbook(
        "site",
        "- name: Wait\n  hosts: localhost\n  gather_facts: false\n"
        "  tasks: [{name: Wait, ansible.builtin.command: sleep 600}]\n",
    )

    def interrupt() -> None:
        deadline = time.monotonic() + 60
        while time.monotonic() < deadline:
            logs = list(world.paths.runs.glob("*/log.txt")) if world.paths.runs.exists() else []
            if any("TASK [Wait]" in log.read_text() for log in logs):
                os.kill(os.getpid(), signal.SIGINT)
                return
            time.sleep(0.1)

    # A shell that starts us in the background has SIGINT ignored.
    before = signal.getsignal(signal.SIGINT)
    thread = threading.Thread(target=interrupt)
    thread.start()
    begun = time.monotonic()
    ended = command("apply", "--yes", "-o", "json")
    thread.join()
    assert ended.code == 130
    assert json.loads(ended.out)["status"] == "canceled"
    assert "interrupted" in ended.err
    assert time.monotonic() - begun < 60
    assert signal.getsignal(signal.SIGINT) is before


def test_a_second_operation_is_told_who_holds_the_cluster(
    world: Any, command: Callable[..., Any]
) -> None:
    world.paths.state.mkdir(parents=True)
    with Lock(world.paths.lock, "apply"):
        ended = command("destroy", "--yes", "-o", "json")
    assert ended.code == 5
    assert f"apply (pid {os.getpid()}, since " in ended.err
    assert json.loads(ended.out)["error"]["exit_code"] == 5


def test_an_operation_that_was_overtaken_says_by_whom(
    world: Any, command: Callable[..., Any]
) -> None:
    process = subprocess.Popen(["sleep", "600"])
    try:
        other = lease.Lease.of(process.pid, "destroy", 600)
        (world.directory / "other").write_text(json.dumps(dataclasses.asdict(other)))
        world.playbook(
            "site",
            "- name: Overtake\n  hosts: localhost\n  gather_facts: false\n  tasks:\n"
            "    - name: Take the lock\n      ansible.builtin.copy:\n"
            f"        src: {world.directory}/other\n        dest: {world.paths.lock}\n",
        )
        ended = command("apply", "--yes", "-o", "json")
        assert world.paths.lock.read_bytes() == (world.directory / "other").read_bytes()
    finally:
        process.kill()
        process.wait()
    assert ended.code == 5
    assert f"destroy (pid {process.pid}, since " in ended.err
    assert "stood still for longer than 30 s" in ended.err
    assert json.loads(ended.out)["error"]["exit_code"] == 5


def test_destroy_of_nothing_and_twice(recorded: Any, command: Callable[..., Any]) -> None:
    for _ in range(2):
        ended = command("destroy", "--yes", "-o", "json")
        assert ended.code == 0, ended.err
        assert json.loads(ended.out)["cluster"] == "demo"
    assert [order.extra_vars["kubewright_epoch"] for order in recorded.orders] == [1, 2]


def test_destroy_does_not_need_what_is_known_of_the_cluster(
    world: Any, recorded: Any, command: Callable[..., Any]
) -> None:
    world.paths.state.mkdir(parents=True)
    world.paths.machines.write_text("half of it {")
    world.paths.store.write_text("half of it {")
    ended = command("destroy", "--yes", "-o", "json")
    assert ended.code == 0, ended.err
    told = {"kubewright_confirm_destroy": "demo"}
    assert [order.extra_vars for order in recorded.orders] == [told], "no epoch"
    assert not world.paths.machines.exists(), "or the inventory plugin would not go on"
    assert (world.paths.state / "machines.json.damaged").exists()


def test_a_fault_of_ours_is_a_sentence_and_a_file(
    world: Any, command: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*_: object) -> None:
        raise ZeroDivisionError("by zero")

    monkeypatch.setattr("kubewright.operate.converge.build", broken)
    ended = command("apply", "--yes", "-o", "json")
    assert ended.code == 1
    assert "Traceback" not in ended.err
    assert json.loads(ended.out)["error"]["message"].endswith("ZeroDivisionError('by zero')")
    (report,) = (world.directory / "state").glob("error-*.txt")
    assert "Traceback" in report.read_text()
    assert str(report) in ended.err
    assert report.stat().st_mode & 0o777 == 0o600


@pytest.mark.parametrize("site", ["good", "failing"])
def test_a_log_that_is_not_whole_is_told(
    recorded: Any, command: Callable[..., Any], site: str
) -> None:
    recorded.log_error = "No space left on device"
    if site == "failing":
        recorded.ended("site", "Look at the disk", HOSTS[3], kind="failed", msg="no")
        recorded.failed = {"site"}
    ended = command("apply", "--yes", "-o", "json")
    assert ended.code == (0 if site == "good" else 1)
    told = json.loads(ended.out)
    assert told["log_error"] == "No space left on device"
    assert f"the log {told['log']} is incomplete: No space left on device" in ended.err
    assert ("The incomplete log is" in ended.err) is (site == "failing")
    assert "The full log is" not in ended.err
