# SPDX-License-Identifier: Apache-2.0
"""A plain run's epoch: its lease is renewed as long as it runs, and Ansible itself takes it."""

from __future__ import annotations

import dataclasses
import json
import os
import re
import signal
import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from ansible_collections.kubewright.cluster.plugins.module_utils._cluster import epoch as epochs
from ansible_collections.kubewright.cluster.plugins.module_utils._cluster import lease
from ansible_collections.kubewright.cluster.plugins.plugin_utils import _lease_keeper
from real_ansible import PLAYBOOK, Ansible


def take(place: epochs.Place, pid: int) -> int:
    return epochs.take(place, pid, [], check_mode=False).epoch


def entry(place: epochs.Place) -> lease.Lease:
    found = lease.Lease.parse(place.lock.read_bytes())
    assert found is not None
    return found


def change(place: epochs.Place, **values: object) -> None:
    place.lock.write_text(json.dumps({**dataclasses.asdict(entry(place)), **values}))


# The lease of a run of its own is renewed


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lease, "TTL_SECONDS", 0.8)


def wait(condition: Callable[[], bool], seconds: float = 20) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "it did not come about"
        time.sleep(0.02)


@pytest.mark.usefixtures("quick")
def test_a_lease_is_renewed_as_long_as_its_run_runs(place: epochs.Place) -> None:
    with subprocess.Popen(["sleep", "600"]) as run:
        take(place, run.pid)
        _lease_keeper.in_background(place.lock, run.pid)
        first = entry(place)
        wait(lambda: entry(place).renewed > first.renewed + 2 * first.ttl)
        assert entry(place).is_held() and entry(place).since == first.since
        # It stands still, and what renews the lease does not speak for it.
        os.kill(run.pid, signal.SIGSTOP)
        wait(lambda: not entry(place).is_held())
        os.kill(run.pid, signal.SIGCONT)
        wait(lambda: entry(place).is_held())
        run.kill()
    assert not entry(place).is_held()


@pytest.mark.usefixtures("quick")
@pytest.mark.parametrize("ends", ["overtaken", "removed", "over"])
def test_what_renews_ends_with_the_lease(place: epochs.Place, ends: str) -> None:
    with subprocess.Popen(["sleep", "600"]) as run:
        take(place, run.pid)
        if ends == "overtaken":
            change(place, pid=os.getpid())
        elif ends == "removed":
            place.lock.unlink()
        else:
            run.kill()
        before = place.lock.exists() and place.lock.read_bytes()
        # In this process: that it comes back is what is tried.
        _lease_keeper.keep(place.lock, run.pid)
        assert (place.lock.exists() and place.lock.read_bytes()) == before
        run.kill()


# Ansible runs it

PLAY = """\
- hosts: all
  gather_facts: false
  tasks:
    - name: Take it
      kubewright.cluster.run_epoch:
        path: state/store.json
        epoch: "{{ epoch | default(omit) }}"
        seen: >-
          {{ groups.all | map('extract', hostvars) | selectattr('state.fence', 'defined')
             | map(attribute='state.fence') }}
      register: run
    - name: Tell it
      ansible.builtin.debug:
        msg: "number {{ run.epoch }} of {{ inventory_hostname }}, run {{ run.run }}"
    - name: Remember the lease
      when: waits | default(false) | bool
      ansible.builtin.command: cp -n state/lock state/first
      args: {chdir: "{{ playbook_dir }}"}
      connection: local
    - name: Wait until the lease was renewed
      when: waits | default(false) | bool
      ansible.builtin.assert:
        that: now.since == first.since and now.renewed > first.renewed
      vars:
        first: "{{ lookup('file', 'state/first') | from_json }}"
        now: "{{ lookup('file', 'state/lock') | from_json }}"
      register: seen
      until: seen is success
      retries: 60
      delay: 1
    - name: Keep what the lock says
      ansible.builtin.copy:
        src: state/lock
        dest: "{{ playbook_dir }}/held"
      connection: local
"""
INVENTORY = """\
all:
  vars: {ansible_python_interpreter: "{{ ansible_playbook_python }}", ansible_host: 192.0.2.1}
  hosts: {one: {state: {fence: {epoch: 6, run: a}}}, two: {state: {unreachable: true}}, three: {}}
"""


def play(ansible: Ansible, *words: str) -> tuple[int, int, str]:
    """Run it: exit code, process id, output."""
    (ansible.directory / "play.yml").write_text(PLAY)
    (ansible.directory / "inventory.yml").write_text(INVENTORY)
    process = subprocess.Popen(
        [PLAYBOOK, "-i", "inventory.yml", *words, "play.yml"],
        cwd=ansible.directory,
        env=ansible.environment(),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    shown = process.communicate()[0]
    return process.returncode, process.pid, shown


@pytest.mark.timeout(120)
def test_ansible_runs_it(tmp_path: Path, ansible: Ansible) -> None:
    code, pid, shown = play(ansible)
    assert code == 0, shown
    for name in ("one", "two", "three"):
        assert f"number 7 of {name}" in shown
    (run,) = set(re.findall(r"run (\d{8}T\d{6}-[0-9a-f]{8})\b", shown))
    assert epochs.read(tmp_path / "state" / "store.json").run == run
    held = lease.Lease.parse((tmp_path / "held").read_bytes())
    assert held is not None
    assert held.pid == pid, "the lock is that of ansible-playbook, not of its worker"
    assert not held.is_held(), "and ends with it"
    assert epochs.read(tmp_path / "state" / "store.json").number == 7


@pytest.mark.timeout(120)
def test_ansible_renews_it_and_nobody_waits_for_what_does(ansible: Ansible) -> None:
    """That the run's output ends is part of it: nothing that it started has it open."""
    code, _pid, shown = play(ansible, "-e", "waits=true")
    assert code == 0, shown


@pytest.mark.timeout(120)
@pytest.mark.parametrize(("job", "epoch"), [(42, 42), (3, 7)])
def test_the_later_of_two_jobs_of_awx_has_the_higher_epoch(
    ansible: Ansible, job: int, epoch: int
) -> None:
    """Without store.json the nodes' epochs count, and AWX's own numbers of jobs."""
    code, _pid, shown = play(ansible, "-e", f"awx_job_id={job}")
    assert code == 0, shown
    for name in ("one", "two", "three"):
        assert f"number {epoch} of {name}, run awx-{job}-" in shown


@pytest.mark.timeout(120)
def test_ansible_stops_beside_another_run(tmp_path: Path, ansible: Ansible, other: int) -> None:
    place = epochs.Place(tmp_path / "state" / "store.json", tmp_path / "state" / "lock")
    take(place, other)
    code, _pid, shown = play(ansible)
    assert code == 2, shown
    assert f"Another operation is running on this cluster: ansible-playbook (pid {other}" in shown
    code, _pid, shown = play(ansible, "-e", "epoch=0")
    assert code == 2, shown
    assert "This run has epoch 0, but" in shown
    assert epochs.read(place.store).number == 1


def test_the_module_itself_does_nothing(run_module: Callable[..., Any], tmp_path: Path) -> None:
    result = run_module("run_epoch", path=str(tmp_path / "store.json"))
    assert result["failed"]
    assert "only works through its action plugin" in result["msg"]
    assert list(tmp_path.iterdir()) == []
