# SPDX-License-Identifier: Apache-2.0
"""Orders to try a system image: cut anywhere, one after another, or while one is carried out."""

from __future__ import annotations

import dataclasses
import fcntl
import hashlib
import json
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, TextIO

import pytest
from ansible_collections.kubewright.cluster.plugins.module_utils._image import images
from ansible_collections.kubewright.cluster.plugins.module_utils._onnode import trial
from system_images import DIGEST, OTHER, OTHER_DIGEST, bring
from trials import ILL, Patient, active, attempt, switched

RunModule = Callable[..., dict[str, Any]]
EveryKill = Callable[[Callable[[], object]], Iterator[int]]
THIRD = b"a third one"
THIRD_DIGEST = hashlib.sha256(THIRD).hexdigest()


@pytest.fixture
def place(volume: Path, run_module: RunModule) -> Path:
    """A volume on which a second image was made active."""
    return switched(volume, run_module)


def test_an_order_without_its_switch_is_nothing(place: Path) -> None:
    trial.write_order(place.parent, trial.Order(3, 2))
    tried = attempt(place, "")
    assert tried.run() == "nothing"
    assert tried.clock() == trial.LIMIT, "nobody waits for who was cut"
    assert active(place)[0] == OTHER_DIGEST
    assert trial.read_order(place.parent) is None


def test_a_newer_order_takes_its_place(place: Path, run_module: RunModule) -> None:
    class Interrupted(Patient):
        def trouble(self, volume: Path, generation: int) -> str:
            if generation == 2:
                bring(run_module, place, THIRD)
            return ""

    tried = attempt(place, "")
    tried.node = Interrupted("")
    assert tried.run() == "kept"
    assert active(place)[0] == THIRD_DIGEST


@pytest.mark.parametrize("content", [THIRD, OTHER], ids=["another", "the same, being damaged"])
def test_from_one_after_another_it_goes_back_to_the_proven_one(
    place: Path, run_module: RunModule, content: bytes
) -> None:
    ordered = trial.read_order(place.parent)
    assert ordered is not None
    (place.parent / "manifests").mkdir()
    proven = {"etcd.yaml": "as it was before the first switch"}
    trial.write_order(place.parent, dataclasses.replace(ordered, manifests=proven))
    if content == OTHER:
        images.Store(place).activate(OTHER_DIGEST)
    else:
        bring(run_module, place, content)
    assert trial.read_order(place.parent) == trial.Order(3, 1, proven)
    assert images.Store(place).previous() == images.Active(1, DIGEST), "a collection leaves it"
    trial.write_order(place.parent, trial.Order(3, 1))
    assert attempt(place, ILL).run() == "went back"
    assert active(place) == (DIGEST, "old")


def test_an_activation_killed_anywhere_leaves_nothing_untried(
    place: Path, run_module: RunModule, every_kill: EveryKill
) -> None:
    """The third image comes while the second one is tried; both are bad."""
    store = images.Store(place)
    bring(run_module, place, THIRD, state="present")
    kept = (place.parent / trial.ORDER).read_bytes()
    left = set()
    for _ in every_kill(lambda: store.activate(THIRD_DIGEST)):
        left.add(active(place)[0])
        assert attempt(place, ILL).run() == "went back"
        assert active(place)[0] == DIGEST
        store.clean()
        for number in store.numbers()[2:]:
            shutil.rmtree(store.generations / str(number))
        reset(place, kept)
    assert left == {OTHER_DIGEST, THIRD_DIGEST}


def test_one_that_is_activated_as_time_is_over_is_tried(place: Path, run_module: RunModule) -> None:
    class Late(Patient):
        def trouble(self, volume: Path, generation: int) -> str:
            return ILL if generation == 2 else ""

    tried = attempt(place, "")
    tried.node = late = Late("")
    late.before_the_switch = lambda: bring(run_module, place, THIRD)
    assert tried.run() == "kept"
    assert active(place)[0] == THIRD_DIGEST
    store = images.Store(place)
    assert "rolled_back" not in store.record(2) and store.condemned(OTHER_DIGEST) == ""


@pytest.mark.parametrize("trouble", ["", ILL])
def test_the_order_of_who_holds_the_lock_is_not_removed(
    place: Path, run_module: RunModule, trouble: str
) -> None:
    """Whoever activates holds it already when the trial of the image before has ended."""
    lock = place.parent / "run/node.lock"
    held: list[TextIO] = []

    def tell(line: str) -> None:
        if not held and ("runs well" in line or "active again" in line):
            held.append(lock.open("w"))
            fcntl.flock(held[0], fcntl.LOCK_EX)
        elif "waits for another process" in line:
            bring(run_module, place, THIRD)
            held[0].close()

    class Second(Patient):
        def trouble(self, volume: Path, generation: int) -> str:
            return trouble if generation == 2 else ""

    tried = attempt(place, "", tell=tell)
    tried.node = Second("")
    assert tried.run() == "kept"
    assert held[0].closed and active(place)[0] == THIRD_DIGEST
    assert trial.read_order(place.parent) is None, "it was tried as well"


def reset(place: Path, order: bytes) -> None:
    """Make the second generation active and ordered to be tried again, as if nothing had been."""
    record = place / "generations/2" / trial.RECORD
    known = json.loads(record.read_bytes())
    marks = ("condemned", "rolled_back")
    record.write_text(json.dumps({key: known[key] for key in known if key not in marks}))
    (place / "active").unlink()
    (place / "active").symlink_to("generations/2")
    (place.parent / trial.ORDER).write_bytes(order)


def test_killed_at_any_moment_the_next_one_goes_back(place: Path, every_kill: EveryKill) -> None:
    """And runs everything from there, where that has not been done."""
    kept = (place.parent / trial.ORDER).read_bytes()
    restarted = place.parent / "restarted"

    class Restarts(Patient):
        def restart(self) -> str:
            restarted.mkdir(exist_ok=True)
            return ""

    def run() -> str:
        tried = attempt(place, ILL)
        tried.node = Restarts(ILL)
        return tried.run()

    cut = set()
    for _ in every_kill(run):
        there = trial.read_order(place.parent) is not None
        cut.add((active(place)[0], restarted.exists(), there))
        if there:
            assert run() == "went back"
        assert active(place)[0] == DIGEST and restarted.exists()
        assert trial.read_order(place.parent) is None
        restarted.rmdir()
        reset(place, kept)
    switched = {(DIGEST, False, True), (DIGEST, True, True), (DIGEST, True, False)}
    assert cut == {(OTHER_DIGEST, False, True)} | switched
