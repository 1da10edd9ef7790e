# SPDX-License-Identifier: Apache-2.0
"""The run's epoch and the cluster's lock: rules, files shared with the command, Ansible itself."""

from __future__ import annotations

import dataclasses
import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from ansible_collections.kubewright.cluster.plugins.module_utils._base.errors import KubewrightError
from ansible_collections.kubewright.cluster.plugins.module_utils._cluster import claims, lease
from ansible_collections.kubewright.cluster.plugins.module_utils._cluster.claims import Claim
from ansible_collections.kubewright.cluster.plugins.plugin_utils import _lease_keeper
from real_ansible import PLAYBOOK, Ansible

from kubewright.store import Lease, Lock, Locked, next_epoch
from kubewright.store.epoch import current_epoch

EveryKill = Callable[[Callable[[], object]], Iterator[int]]


@pytest.fixture
def place(tmp_path: Path) -> lease.Place:
    return lease.Place(tmp_path / "demo" / "store.json", tmp_path / "demo" / "lock")


@pytest.fixture
def other() -> Iterator[int]:
    """The process id of a run that is not this one."""
    process = subprocess.Popen(["sleep", "600"])
    yield process.pid
    process.kill()
    process.wait()


def taken(place: lease.Place, pid: int | None, *seen: Claim, check: bool = False) -> Claim:
    return lease.take_epoch(place, pid or os.getpid(), seen, check_mode=check)


def take(place: lease.Place, pid: int | None = None, *seen: int, check: bool = False) -> int:
    """What nodes have seen of this very run."""
    run = lease.read_epoch(place.store).run if place.store.exists() else ""
    told = [Claim(one, run) for one in seen]
    return taken(place, pid, *told, check=check).epoch


def check(place: lease.Place, epoch: int, *seen: int, check_mode: bool = False) -> int:
    told = [Claim(one, "mine") for one in seen]
    return lease.check_epoch(place, Claim(epoch, "mine"), told, check_mode=check_mode).epoch


def entry(place: lease.Place) -> lease.Lease:
    found = lease.parse(place.lock.read_bytes())
    assert found is not None
    return found


def change(place: lease.Place, **values: object) -> None:
    place.lock.write_text(json.dumps({**dataclasses.asdict(entry(place)), **values}))


def store(place: lease.Place, number: int) -> None:
    place.store.parent.mkdir(exist_ok=True)
    place.store.write_text(json.dumps({"schema": 1, "epoch": number}))


# A run of its own


def test_a_run_takes_number_and_lock(place: lease.Place, other: int) -> None:
    assert take(place, other) == 1
    stored = json.loads(place.store.read_text())
    assert (stored["schema"], stored["epoch"]) == (1, 1)
    assert re.fullmatch(r"\d{8}T\d{6}-[0-9a-f]{8}", stored["run"])
    found = entry(place)
    assert (found.pid, found.operation, found.ttl) == (other, "ansible-playbook", 30)
    assert [path.stat().st_mode & 0o777 for path in (place.store, place.lock)] == [0o600, 0o600]
    assert place.store.parent.stat().st_mode & 0o777 == 0o700


@pytest.mark.parametrize(
    ("stored", "seen", "number"), [(4, [], 5), (4, [2, 4], 5), (4, [9, 0], 10)]
)
def test_its_number_is_above_all_that_are_known(
    place: lease.Place, stored: int, seen: list[int], number: int
) -> None:
    store(place, stored)
    assert take(place, None, *seen) == number
    assert lease.read_epoch(place.store).number == number


def test_the_same_run_asks_again(place: lease.Place) -> None:
    assert take(place) == 1
    change(place, since="2026-01-02T03:04:05+00:00", renewed=entry(place).renewed - 29)
    before = entry(place)
    assert take(place, None, 0, 1) == 1, "1 is what this run has written to a node"
    assert entry(place).since == before.since
    assert entry(place).renewed > before.renewed + 20
    assert take(place, None, 1, 5) == 6
    assert take(place, None, 6) == 6


def test_each_run_has_an_id_of_its_own_and_keeps_it(place: lease.Place, other: int) -> None:
    first = taken(place, other)
    assert taken(place, other, first) == first
    # A node that another controller's run has claimed with the same number.
    again = taken(place, other, first, Claim(first.epoch, "strangers"))
    assert again == Claim(first.epoch + 1, first.run)
    change(place, ttl=0)
    second = taken(place, None, again)
    assert second.epoch == again.epoch + 1 and second.run != first.run
    assert lease.new_run_id(42).startswith("awx-42-")


def test_the_number_of_a_version_before_runs_is_anothers(place: lease.Place) -> None:
    store(place, 4)
    assert lease.check_epoch(place, Claim(4, "mine"), [Claim(4)], check_mode=False).epoch == 5


def test_a_living_run_is_not_overtaken(place: lease.Place, other: int) -> None:
    take(place, other)
    before = place.lock.read_bytes(), place.store.read_bytes()
    with pytest.raises(KubewrightError, match=rf"ansible-playbook \(pid {other}, since 20"):
        take(place)
    assert (place.lock.read_bytes(), place.store.read_bytes()) == before


@pytest.mark.parametrize(
    "values",
    [{"pid_started": 1}, {"boot_id": "another-boot"}, {"ttl": 0}, {"renewed": -1e6}, {"pid": "7"}],
)
def test_a_run_that_is_over_is_followed_by_the_next(
    place: lease.Place, other: int, values: dict[str, object]
) -> None:
    take(place, other)
    change(place, **values)
    assert take(place) == 2
    assert entry(place).pid == os.getpid()


@pytest.mark.parametrize("text", [b"", b"{", b"[]", b'{"pid": 1}', b"\xff\xfe", b"7"])
def test_a_lock_that_says_nothing_holds_nobody_off(place: lease.Place, text: bytes) -> None:
    store(place, 3)
    place.lock.write_bytes(text)
    assert lease.parse(text) is None
    assert take(place) == 4


def test_a_lock_that_is_kept_is_a_fault(
    place: lease.Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lease, "FILE_SECONDS", 0.1)
    take(place)
    with (
        lease._exclusive(place.lock, False),
        pytest.raises(KubewrightError, match="was kept locked by another process"),
    ):
        take(place)


def test_a_run_that_is_killed_leaves_both_files_whole(
    place: lease.Place, every_kill: EveryKill
) -> None:
    store(place, 1)
    last = 1
    for _ in every_kill(lambda: take(place)):
        number = take(place)
        assert number > last
        last = number
        place.lock.unlink()


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
def test_a_lease_is_renewed_as_long_as_its_run_runs(place: lease.Place) -> None:
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
def test_what_renews_ends_with_the_lease(place: lease.Place, ends: str) -> None:
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


# A run of the command


def test_the_commands_number_is_confirmed(place: lease.Place) -> None:
    store(place, 4)
    assert check(place, 4, 3, 4) == 4
    assert json.loads(place.store.read_text()) == {"schema": 1, "epoch": 4, "run": "mine"}


def test_a_number_that_nodes_have_of_another_run_is_left_to_it(place: lease.Place) -> None:
    store(place, 4)
    seen = [Claim(3, "old"), Claim(4, "strangers")]
    assert lease.check_epoch(place, Claim(4, "mine"), seen, check_mode=False) == Claim(5, "mine")
    assert current_epoch(place.store) == 5


def test_a_run_that_was_overtaken_is_refused_and_told_by_whom(
    place: lease.Place, other: int
) -> None:
    store(place, 4)
    take(place, other)
    for check_mode in (False, True):
        with pytest.raises(KubewrightError, match=rf"has epoch 5 by now: .*\(pid {other}, since"):
            check(place, 4, check_mode=check_mode)
    place.lock.unlink()
    with pytest.raises(KubewrightError, match="another run has taken over"):
        check(place, 4)


def test_a_store_that_is_older_than_the_nodes_is_brought_up(place: lease.Place) -> None:
    store(place, 2)
    assert check(place, 2, 9, 1) == 10
    for epoch in (2, 10):  # the run has the old number in its variables, and the new one
        assert check(place, epoch, 9, 10) == 10
    assert lease.read_epoch(place.store) == lease.Epoch(10, 2, "mine")
    with pytest.raises(KubewrightError):
        check(place, 9)
    assert current_epoch(place.store) == 10
    assert place.store.stat().st_mode & 0o777 == 0o600
    next_epoch(place.store)
    for epoch in (2, 10):
        with pytest.raises(KubewrightError):
            check(place, epoch)


@pytest.mark.parametrize("text", ["", "{", "[]", '{"schema": 2, "epoch": 1}', '{"schema": 1}'])
def test_a_damaged_store_is_not_replaced(place: lease.Place, text: str) -> None:
    store(place, 1)
    place.store.write_text(text)
    for ask in (lambda: take(place), lambda: check(place, 1)):
        with pytest.raises(KubewrightError, match=f"largest number in {claims.EPOCH_PATH}"):
            ask()
    with pytest.raises(KubewrightError, match=r"that this run has asked: 7\), then run"):
        taken(place, None, Claim(2), Claim(7))
    assert place.store.read_text() == text


def test_check_mode_writes_nothing(place: lease.Place, other: int) -> None:
    assert take(place, None, 4, check=True) == 5
    assert not place.store.parent.exists()
    take(place, other)
    before = place.lock.read_bytes(), place.store.read_bytes()
    assert take(place, check=True) == 2, "also beside a run that is at work"
    assert check(place, 1, 5, check_mode=True) == 6
    assert (place.lock.read_bytes(), place.store.read_bytes()) == before


# The command's files are ours


def test_the_command_is_seen(place: lease.Place) -> None:
    place.lock.parent.mkdir()
    with subprocess.Popen(
        [sys.executable, "-c", HOLD, str(place.lock)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"1\n"
        mine = Lease.parse(place.lock.read_bytes())
        assert mine is not None
        assert dataclasses.asdict(mine) == dataclasses.asdict(entry(place))
        assert str(mine.holder) == str(entry(place))
        assert check(place, 1) == 1
        with pytest.raises(KubewrightError, match=rf"apply \(pid {process.pid}, since 20"):
            take(place)
        process.communicate()
    assert not entry(place).is_held()
    assert take(place) == 2


HOLD = """\
import sys
from pathlib import Path
from kubewright.store import Lock, next_epoch
with Lock(Path(sys.argv[1]), "apply"):
    print(next_epoch(Path(sys.argv[1]).with_name("store.json")), flush=True)
    sys.stdin.read()
"""


def test_the_command_sees_us(place: lease.Place, other: int) -> None:
    assert take(place, other) == 1
    found = Lease.parse(place.lock.read_bytes())
    assert found is not None
    assert dataclasses.asdict(found) == dataclasses.asdict(entry(place))
    assert found.is_held()
    with pytest.raises(Locked) as locked, Lock(place.lock, "apply"):
        pass
    assert (locked.value.holder.pid, locked.value.holder.operation) == (other, "ansible-playbook")
    assert check(place, 1, 8) == 9
    assert current_epoch(place.store) == 9
    change(place, renewed=-1e6)
    with Lock(place.lock, "apply"):
        assert next_epoch(place.store) == 10


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
    assert lease.read_epoch(tmp_path / "state" / "store.json").run == run
    held = lease.parse((tmp_path / "held").read_bytes())
    assert held is not None
    assert held.pid == pid, "the lock is that of ansible-playbook, not of its worker"
    assert not held.is_held(), "and ends with it"
    assert current_epoch(tmp_path / "state" / "store.json") == 7


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
    place = lease.Place(tmp_path / "state" / "store.json", tmp_path / "state" / "lock")
    take(place, other)
    code, _pid, shown = play(ansible)
    assert code == 2, shown
    assert f"Another operation runs on this cluster: ansible-playbook (pid {other}" in shown
    code, _pid, shown = play(ansible, "-e", "epoch=0")
    assert code == 2, shown
    assert "This run has epoch 0, but" in shown
    assert current_epoch(place.store) == 1


def test_the_module_itself_does_nothing(run_module: Callable[..., Any], tmp_path: Path) -> None:
    result = run_module("run_epoch", path=str(tmp_path / "store.json"))
    assert result["failed"]
    assert "works in its action plugin alone" in result["msg"]
    assert list(tmp_path.iterdir()) == []
