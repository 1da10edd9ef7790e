# SPDX-License-Identifier: Apache-2.0
"""Runs of ansible-playbook on localhost: results, logs, secrets, failures."""

from __future__ import annotations

import sys
import threading
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from kubewright.act import HostResult, PhaseStarted, Result, Session, Trace
from kubewright.locations import ClusterPaths
from kubewright.store import Journal
from kubewright.store.runs import new_directory

pytestmark = [
    pytest.mark.timeout(120),
    pytest.mark.skipif(
        not (Path(sys.prefix) / "bin" / "ansible-playbook").exists(), reason="needs ansible-core"
    ),
]


GOOD = """\
- name: Look
  hosts: all
  gather_facts: false
  tasks:
    - name: Change something
      ansible.builtin.command: "true"
    - name: Change nothing
      ansible.builtin.command: "true"
      changed_when: false
    - name: Skip this
      ansible.builtin.command: "true"
      when: false
- name: Rescue
  hosts: one
  gather_facts: false
  tasks:
    - name: Try
      block:
        - name: Fail
          ansible.builtin.fail: {msg: "x"}
      rescue:
        - name: Go on
          ansible.builtin.debug: {msg: "well"}
- name: Go
  hosts: all
  gather_facts: false
  strategy: free
  tasks:
    - name: Sleep on one
      ansible.builtin.command: sleep {{ 2 if inventory_hostname == "one" else 0 }}
    - name: Let the other do it
      ansible.builtin.command: "true"
      delegate_to: two
      changed_when: false
      no_log: true
      when: inventory_hostname == "one"
    - name: Let the controller do it twice
      ansible.builtin.command: "true"
      delegate_to: localhost
      loop: [1, 2]
      when: inventory_hostname == "one"
- name: Use secrets
  hosts: localhost
  gather_facts: false
  tasks:
    - name: Use one
      ansible.builtin.command: echo battery-staple
      no_log: true
    - name: Say something
      ansible.builtin.command: echo a-result
    - name: Look into the run's directory
      ansible.builtin.shell: grep -rl -e correct-horse -e '"a-result"' {{ runs }} || true
      register: found
- name: Think
  hosts: localhost
  gather_facts: false
  tasks:
    - name: Tell the number
      ansible.builtin.debug: {msg: "epoch {{ kubewright_epoch }}, found [{{ found.stdout }}]"}
"""


@dataclass(frozen=True)
class Good:
    """A run that ended well, and what it has left."""

    result: Result
    seen: list[object]
    paths: ClusterPaths
    log: str


@pytest.fixture(scope="module")
def good(inventory: Path, tmp_path_factory: pytest.TempPathFactory) -> Good:
    """One run for all who only look at what came of it: a start takes a second."""
    directory = tmp_path_factory.mktemp("good")
    playbook = directory / "playbook.yml"
    playbook.write_text(GOOD)
    paths = ClusterPaths(directory / "demo")
    seen: list[object] = []
    with pytest.MonkeyPatch.context() as patch, Session(paths, "apply") as session:
        patch.setenv("CLOUD_PASSWORD", "correct-horse")
        result = session.run(
            str(playbook),
            inventory=inventory,
            extra_vars={"kubewright_epoch": 7, "runs": str(paths.runs)},
            on_event=seen.append,
        )
    return Good(result, seen, paths, result.log.read_text())


def test_what_comes_of_a_run(good: Good) -> None:
    result = good.result
    assert result.ok, good.log
    assert result.log_error == ""
    assert result.changed
    tasks = result.host_tasks
    assert (tasks.changed, tasks.ok, tasks.failed, tasks.unreachable) == (5, 4, 1, 0)
    assert tasks.total == 10
    assert result.host_task_counts == {"one": 7, "two": 3}
    plays = ["Look", "Rescue", "Go", "Use secrets", "Think"]
    assert [phase.name for phase in result.phases] == plays
    assert 0 < sum(phase.seconds for phase in result.phases) <= result.seconds
    assert [event.name for event in good.seen if isinstance(event, PhaseStarted)] == plays
    assert HostResult("Look", "Change something", "one", "changed") in good.seen
    assert "TASK [Change something]" in good.log
    assert "epoch 7" in good.log
    assert "\x1b[" not in good.log


def test_a_run_leaves_private_records_and_nothing_else(good: Good) -> None:
    left = sorted(good.result.log.parent.iterdir())
    assert [entry.name for entry in left] == ["failures.jsonl", "log.txt", "trace.json"]
    assert {entry.stat().st_mode & 0o777 for entry in left} == {0o600}
    assert good.paths.state.stat().st_mode & 0o777 == 0o700
    assert good.result.log.parent.stat().st_mode & 0o777 == 0o700
    for file in (entry for entry in good.paths.state.rglob("*") if entry.is_file()):
        assert "correct-horse" not in file.read_text(), file
        assert "battery-staple" not in file.read_text(), file


def test_while_it_runs_no_file_holds_the_environment_or_results(good: Good) -> None:
    assert "Look into the run's directory" in good.log
    assert "found []" in good.log


def test_rescued_failures_of_a_good_run_are_not_told(good: Good) -> None:
    assert HostResult("Rescue", "Fail", "one", "failed", "x") in good.seen
    assert good.result.failures == ()


def test_the_trace_of_a_run(good: Good) -> None:
    result = good.result
    trace = Trace.parse((result.log.parent / "trace.json").read_bytes())
    assert (trace.run, trace.playbook) == (result.run, result.playbook)
    assert trace.seconds == pytest.approx(result.seconds, abs=0.01)
    assert [phase.name for phase in trace.phases] == [phase.name for phase in result.phases]
    assert (trace.changed, trace.host_tasks) == (result.host_tasks.changed, result.host_tasks.total)
    found = {(one.host, one.task): one for one in trace.tasks if one.phase == "Go"}
    slow, quick = found["one", "Sleep on one"], found["two", "Sleep on one"]
    assert 2 <= slow.seconds < trace.seconds
    assert quick.ended < slow.ended <= found["one", "Let the other do it"].began
    assert slow.action == "ansible.builtin.command"
    delegated = {task: one.delegated for (host, task), one in found.items() if host == "one"}
    assert delegated == {
        "Sleep on one": None,
        "Let the other do it": "two",
        "Let the controller do it twice": "localhost",
    }


@pytest.fixture
def fed(monkeypatch: pytest.MonkeyPatch) -> Callable[[str], None]:
    """In the place of Ansible: a task ends on one host, as ``ok`` or ``failed``."""

    def feed(outcome: str) -> None:
        def ansible(_: object, recorder: Any) -> str:
            play = {"event": "playbook_on_play_start", "event_data": {"name": "Go"}}
            data = {"host": "one", "task": "Work", "task_action": "x.y.z", "task_uuid": "1"}
            end = {"event": f"runner_on_{outcome}", "stdout": "[one]", "event_data": data}
            for raw in (play, end):
                recorder.take({"created": "2026-01-01T00:00:01+00:00", **raw})
            return "successful" if outcome == "ok" else "failed"

        monkeypatch.setattr("kubewright.act.playbook._ansible", ansible)

    return feed


def test_a_trace_that_can_not_be_written_does_not_fail_the_run(
    paths: ClusterPaths,
    fed: Callable[[str], None],
    inventory: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("kubewright.act.playbook.replace", full)
    fed("ok")
    with Session(paths, "apply") as session:
        result = session.run("a.b.c", inventory=inventory)
    assert result.ok, result.failures
    assert "trace.json was not written" in result.log.read_text()
    assert "No space left" in result.log.read_text()


def test_the_reason_of_a_failure(
    paths: ClusterPaths, inventory: Path, playbook: Callable[[str], str]
) -> None:
    name = playbook("""\
- name: Fail
  hosts: all
  gather_facts: false
  tasks:
    - name: Fail and be rescued
      block:
        - name: Be rescued
          ansible.builtin.fail: {msg: "of no importance"}
      rescue:
        - name: Go on
          ansible.builtin.debug: {msg: "well"}
    - name: Fail and be ignored
      ansible.builtin.fail: {msg: "nor this"}
      ignore_errors: true
    - name: Fail for good on one
      ansible.builtin.command: sh -c 'echo the disk is full >&2; exit 3'
      when: inventory_hostname == "one"
    - name: Fail in a loop
      ansible.builtin.fail: {msg: "item {{ item }}"}
      loop: [a, b]
      when: item == "b"
""")
    with Session(paths, "apply") as session:
        result = session.run(name, inventory=inventory)
    assert result.status == "failed"
    failures = {(item.host, item.task): item.message for item in result.failures}
    assert "the disk is full" in failures["one", "Fail for good on one"]
    assert "exit status 3" in failures["one", "Fail for good on one"]
    assert failures["two", "Fail in a loop"] == "item b"
    assert not any("nor this" in message for message in failures.values())


@pytest.mark.parametrize(
    ("name", "inventory_text", "words"),
    [
        ("kubewright.nowhere.site", "all: {hosts: {one: {}}}\n", "kubewright.nowhere.site"),
        (None, "plugin: kubewright.nowhere.spec\n", "kubewright.nowhere.spec"),
    ],
)
def test_a_run_that_ansible_refuses_says_why(
    paths: ClusterPaths,
    tmp_path: Path,
    playbook: Callable[[str], str],
    name: str | None,
    inventory_text: str,
    words: str,
) -> None:
    inventory = tmp_path / "inventory.yml"
    inventory.write_text(inventory_text)
    name = name or playbook("- hosts: all\n  gather_facts: false\n  tasks: []\n")
    with Session(paths, "apply") as session:
        result = session.run(name, inventory=inventory)
    assert not result.ok
    assert [failure.host for failure in result.failures] == [""]
    assert words in result.failures[0].message


def test_a_slow_or_broken_handler_does_not_hold_up_the_run(
    paths: ClusterPaths,
    fed: Callable[[str], None],
    inventory: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("kubewright.act.playbook.CATCH_UP", 0.1)
    fed("ok")
    entered, release = threading.Event(), threading.Event()

    def slow(_: object) -> None:
        entered.set()
        release.wait(60)

    def broken(_: object) -> None:
        entered.set()
        raise RuntimeError

    try:
        with Session(paths, "apply") as session:
            for handler in (slow, broken):
                entered.clear()
                assert session.run("a.b.c", inventory=inventory, on_event=handler).ok
                assert entered.wait(60)
                assert not release.is_set()
    finally:
        release.set()


@pytest.mark.parametrize(
    ("make", "words", "outcome"),
    [
        (lambda log: log.symlink_to("/dev/full"), "No space left on device", "ok"),
        (lambda log: log.mkdir(), "log.txt: Is a directory", "failed"),
    ],
    ids=["full", "not opened"],
)
def test_a_log_that_can_not_be_written_does_not_break_the_run(
    paths: ClusterPaths,
    fed: Callable[[str], None],
    inventory: Path,
    monkeypatch: pytest.MonkeyPatch,
    make: Callable[[Path], None],
    words: str,
    outcome: str,
) -> None:
    ended: list[str] = []

    def directory_with_a_bad_log(runs: Path, run: str) -> Path:
        directory = new_directory(runs, run)
        make(directory / "log.txt")
        return directory

    monkeypatch.setattr("kubewright.act.session.new_directory", directory_with_a_bad_log)
    monkeypatch.setattr("kubewright.act.playbook.leftovers.end", ended.append)
    fed(outcome)
    with Session(paths, "apply") as session:
        result = session.run("a.b.c", inventory=inventory)
    assert result.ok is (outcome == "ok")
    assert result.host_tasks.total == 1
    assert result.log_error.endswith(words)
    assert result.as_dict()["log_error"] == result.log_error
    assert ended == ([] if result.ok else [result.run])
    assert Journal(paths.journal).unfinished() == []
    assert (result.log.parent / "trace.json").exists()


def test_a_run_that_is_lost_to_a_full_disk_says_so_in_a_sentence(
    paths: ClusterPaths, inventory: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object) -> str:
        raise OSError(28, "No space left on device", "/state/env/settings")

    monkeypatch.setattr("kubewright.act.playbook._ansible", full)
    with Session(paths, "apply") as session:
        result = session.run("a.b.c", inventory=inventory)
    assert [failure.message for failure in result.failures] == [
        "the run failed unexpectedly: /state/env/settings: No space left on device"
    ]


UNTRUSTED = """\
- name: Look
  hosts: localhost
  gather_facts: false
  tasks:
    - name: Say it
      ansible.builtin.debug:
        msg: "{{ ['said', text, deep, number + 1, epoch_known] | to_json }}"
"""


def test_what_a_run_is_told_is_no_template(
    paths: ClusterPaths, inventory: Path, playbook: Callable[[str], str]
) -> None:
    """A name in it may come from a file, a node or a provider."""
    marker = paths.state.parent / "ran"
    text = "{{ lookup('ansible.builtin.pipe', 'touch " + str(marker) + "') }}"
    told = {"text": text, "deep": {"list": [text]}, "number": 6, "epoch_known": True}
    with Session(paths, "apply") as session:
        result = session.run(playbook(UNTRUSTED), inventory=inventory, extra_vars=told)
    log = result.log.read_text()
    assert result.status == "successful", log
    assert not marker.exists()
    assert log.count("lookup('ansible.builtin.pipe'") == 2
    assert ", 7, true]" in log
