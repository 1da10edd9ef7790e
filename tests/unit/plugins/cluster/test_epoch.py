# SPDX-License-Identifier: Apache-2.0
"""The run's epoch and the cluster's lock: who may go on, and with which number."""

from __future__ import annotations

import dataclasses
import json
import os
import re
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from ansible_collections.kubewright.cluster.plugins.module_utils._base.errors import KubewrightError
from ansible_collections.kubewright.cluster.plugins.module_utils._cluster import claims, lease
from ansible_collections.kubewright.cluster.plugins.module_utils._cluster import epoch as epochs
from ansible_collections.kubewright.cluster.plugins.module_utils._cluster.claims import Claim

from kubewright.store import Lock, Locked, next_epoch

EveryKill = Callable[[Callable[[], object]], Iterator[int]]


def taken(place: epochs.Place, pid: int | None, *seen: Claim, check: bool = False) -> Claim:
    return epochs.take(place, pid or os.getpid(), seen, check_mode=check)


def take(place: epochs.Place, pid: int | None = None, *seen: int, check: bool = False) -> int:
    """What nodes have seen of this very run."""
    run = epochs.read(place.store).run if place.store.exists() else ""
    told = [Claim(one, run) for one in seen]
    return taken(place, pid, *told, check=check).epoch


def check(place: epochs.Place, epoch: int, *seen: int, check_mode: bool = False) -> int:
    told = [Claim(one, "mine") for one in seen]
    return epochs.check(place, Claim(epoch, "mine"), told, check_mode=check_mode).epoch


def entry(place: epochs.Place) -> lease.Lease:
    found = lease.Lease.parse(place.lock.read_bytes())
    assert found is not None
    return found


def change(place: epochs.Place, **values: object) -> None:
    place.lock.write_text(json.dumps({**dataclasses.asdict(entry(place)), **values}))


def store(place: epochs.Place, number: int) -> None:
    place.store.parent.mkdir(exist_ok=True)
    place.store.write_text(json.dumps({"schema": 1, "epoch": number}))


def number(path: Path) -> int:
    return epochs.read(path).number


# A run of its own


def test_a_run_takes_number_and_lock(place: epochs.Place, other: int) -> None:
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
    place: epochs.Place, stored: int, seen: list[int], number: int
) -> None:
    store(place, stored)
    assert take(place, None, *seen) == number
    assert epochs.read(place.store).number == number


def test_the_same_run_asks_again(place: epochs.Place) -> None:
    assert take(place) == 1
    change(place, since="2026-01-02T03:04:05+00:00", renewed=entry(place).renewed - 29)
    before = entry(place)
    assert take(place, None, 0, 1) == 1, "1 is what this run has written to a node"
    assert entry(place).since == before.since
    assert entry(place).renewed > before.renewed + 20
    assert take(place, None, 1, 5) == 6
    assert take(place, None, 6) == 6


def test_each_run_has_an_id_of_its_own_and_keeps_it(place: epochs.Place, other: int) -> None:
    first = taken(place, other)
    assert taken(place, other, first) == first
    # A node that another controller's run has claimed with the same number.
    again = taken(place, other, first, Claim(first.epoch, "strangers"))
    assert again == Claim(first.epoch + 1, first.run)
    change(place, ttl=0)
    second = taken(place, None, again)
    assert second.epoch == again.epoch + 1 and second.run != first.run
    assert claims.new_run_id(job=42).startswith("awx-42-")


def test_the_number_of_a_version_before_runs_is_anothers(place: epochs.Place) -> None:
    store(place, 4)
    assert epochs.check(place, Claim(4, "mine"), [Claim(4)], check_mode=False).epoch == 5


def test_a_living_run_is_not_overtaken(place: epochs.Place, other: int) -> None:
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
    place: epochs.Place, other: int, values: dict[str, object]
) -> None:
    take(place, other)
    change(place, **values)
    assert take(place) == 2
    assert entry(place).pid == os.getpid()


@pytest.mark.parametrize("text", [b"", b"{", b"[]", b'{"pid": 1}', b"\xff\xfe", b"7"])
def test_a_lock_that_says_nothing_holds_nobody_off(place: epochs.Place, text: bytes) -> None:
    store(place, 3)
    place.lock.write_bytes(text)
    assert lease.Lease.parse(text) is None
    assert take(place) == 4


def test_a_lock_that_is_kept_is_a_fault(
    place: epochs.Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lease, "FILE_SECONDS", 0.1)
    take(place)
    with (
        epochs._exclusive(place.lock, False),
        pytest.raises(KubewrightError, match="was kept locked by another process"),
    ):
        take(place)


def test_a_run_that_is_killed_leaves_both_files_whole(
    place: epochs.Place, every_kill: EveryKill
) -> None:
    store(place, 1)
    last = 1
    for _ in every_kill(lambda: take(place)):
        number = take(place)
        assert number > last
        last = number
        place.lock.unlink()


# A run of the command


def test_the_commands_number_is_confirmed(place: epochs.Place) -> None:
    store(place, 4)
    assert check(place, 4, 3, 4) == 4
    assert json.loads(place.store.read_text()) == {"schema": 1, "epoch": 4, "run": "mine"}


def test_a_number_that_nodes_have_of_another_run_is_left_to_it(place: epochs.Place) -> None:
    store(place, 4)
    seen = [Claim(3, "old"), Claim(4, "strangers")]
    assert epochs.check(place, Claim(4, "mine"), seen, check_mode=False) == Claim(5, "mine")
    assert number(place.store) == 5


def test_a_run_that_was_overtaken_is_refused_and_told_by_whom(
    place: epochs.Place, other: int
) -> None:
    store(place, 4)
    take(place, other)
    for check_mode in (False, True):
        with pytest.raises(KubewrightError, match=rf"has epoch 5 now: .*\(pid {other}, since"):
            check(place, 4, check_mode=check_mode)
    place.lock.unlink()
    with pytest.raises(KubewrightError, match="another run has taken over"):
        check(place, 4)


def test_a_store_that_is_older_than_the_nodes_is_brought_up(place: epochs.Place) -> None:
    store(place, 2)
    assert check(place, 2, 9, 1) == 10
    for epoch in (2, 10):  # the run has the old number in its variables, and the new one
        assert check(place, epoch, 9, 10) == 10
    assert epochs.read(place.store) == epochs.Epoch(10, 2, "mine")
    with pytest.raises(KubewrightError):
        check(place, 9)
    assert number(place.store) == 10
    assert place.store.stat().st_mode & 0o777 == 0o600
    next_epoch(place.store)
    for epoch in (2, 10):
        with pytest.raises(KubewrightError):
            check(place, epoch)


@pytest.mark.parametrize("text", ["", "{", "[]", '{"schema": 2, "epoch": 1}', '{"schema": 1}'])
def test_a_damaged_store_is_not_replaced(place: epochs.Place, text: str) -> None:
    store(place, 1)
    place.store.write_text(text)
    for ask in (lambda: take(place), lambda: check(place, 1)):
        with pytest.raises(KubewrightError, match=f"largest number in {claims.EPOCH_PATH}"):
            ask()
    with pytest.raises(KubewrightError, match=r"of those this run has queried: 7\), then run"):
        taken(place, None, Claim(2), Claim(7))
    assert place.store.read_text() == text


def test_check_mode_writes_nothing(place: epochs.Place, other: int) -> None:
    assert take(place, None, 4, check=True) == 5
    assert not place.store.parent.exists()
    take(place, other)
    before = place.lock.read_bytes(), place.store.read_bytes()
    assert take(place, check=True) == 2, "also beside a run that is at work"
    assert check(place, 1, 5, check_mode=True) == 6
    assert (place.lock.read_bytes(), place.store.read_bytes()) == before


# The command and a plain run


HOLD = """\
import sys
from pathlib import Path
from kubewright.store import Lock, next_epoch
with Lock(Path(sys.argv[1]), "apply"):
    print(next_epoch(Path(sys.argv[1]).with_name("store.json")), flush=True)
    sys.stdin.read()
"""


def test_a_plain_run_and_the_command_hold_each_other_off(place: epochs.Place, other: int) -> None:
    place.lock.parent.mkdir()
    with subprocess.Popen(
        [sys.executable, "-c", HOLD, str(place.lock)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"1\n"
        assert check(place, 1) == 1
        with pytest.raises(KubewrightError, match=rf"apply \(pid {process.pid}, since 20"):
            take(place)
        process.communicate()
    assert not entry(place).is_held()
    assert take(place, other) == 2
    with pytest.raises(Locked) as locked, Lock(place.lock, "apply"):
        pass
    assert (locked.value.holder.pid, locked.value.holder.operation) == (other, "ansible-playbook")
    change(place, renewed=-1e6)
    with Lock(place.lock, "apply"):
        assert next_epoch(place.store) == 3
