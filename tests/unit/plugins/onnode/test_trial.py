# SPDX-License-Identifier: Apache-2.0
"""A node that tries a system image: what it keeps, what it goes back from, and what it marks."""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import subprocess
from collections.abc import Callable, Collection
from pathlib import Path
from typing import Any

import pytest
from ansible_collections.kubewright.cluster.plugins.module_utils._image import images
from ansible_collections.kubewright.cluster.plugins.module_utils._onnode import trial, trial_node
from system_images import DIGEST, OTHER, OTHER_DIGEST, bring
from trials import ILL, Patient, active, attempt, switched

RunModule = Callable[..., dict[str, Any]]


@pytest.fixture
def place(volume: Path, run_module: RunModule) -> Path:
    """A volume on which a second image was made active."""
    return switched(volume, run_module)


def test_one_that_runs_well_stays(place: Path) -> None:
    tried = attempt(place, trial_node.NOT_RUN, "it starts", "")
    assert tried.run() == "kept"
    assert active(place) == (OTHER_DIGEST, "old")
    assert trial.read_order(place.parent) is None
    assert trial.SETTLED <= tried.clock() < trial.LIMIT
    assert attempt(place, ILL).run() == "nothing", "it was tried once"


@pytest.mark.parametrize("troubles", [(ILL,), ("", "", ILL), ("", ILL) * 200], ids=str)
def test_one_that_does_not_is_given_up(place: Path, troubles: tuple[str, ...]) -> None:
    (place / "active/configuration/file").write_text("new")
    tried = attempt(place, *troubles)
    assert tried.run() == "went back"
    assert tried.clock() <= trial.LIMIT + trial.POLL
    assert active(place) == (DIGEST, "old")
    assert isinstance(tried.node, Patient) and tried.node.restarts == 1
    store = images.Store(place)
    assert store.condemned(OTHER_DIGEST) in (ILL, "it does not stay up")
    assert store.record(2)["rolled_back"] is True
    assert trial.read_order(place.parent) is None


def test_a_given_up_image_is_not_tried_again_by_itself(place: Path, run_module: RunModule) -> None:
    attempt(place, ILL).run()
    failed = bring(run_module, place, OTHER)
    assert failed["failed"] is True
    assert ILL in failed["msg"] and "node image activate" in failed["msg"]
    assert active(place)[0] == DIGEST
    assert bring(run_module, place, OTHER, again=True)["activated"] is True
    assert images.Store(place).condemned(OTHER_DIGEST) == ""


@pytest.mark.parametrize(("then", "ends"), [("", "kept"), (ILL, "went back")])
def test_time_counts_from_when_it_is_run(place: Path, then: str, ends: str) -> None:
    """With many nodes it takes a role long from the switch to the mount."""
    awaited = int(trial.AWAITED / trial.POLL) - 1
    tried = attempt(place, *[trial_node.NOT_RUN] * awaited, then)
    assert tried.run() == ends
    counted = tried.clock() - awaited * trial.POLL
    assert counted == (trial.LIMIT if then else trial.SETTLED)


def test_what_was_never_run_is_not_at_fault(place: Path, run_module: RunModule) -> None:
    """The run that activated it was killed before it restarted anything."""
    tried = attempt(place, trial_node.NOT_RUN)
    assert tried.run() == "went back"
    assert tried.clock() == trial.AWAITED
    assert active(place)[0] == DIGEST
    assert bring(run_module, place, OTHER)["activated"] is True


def test_after_kubeadm_there_is_no_way_back(place: Path) -> None:
    (place / "manifests").mkdir()
    (place / "manifests/etcd.yaml").write_text("newer")
    told: list[str] = []
    assert attempt(place, ILL, tell=told.append).run() == "left"
    assert active(place)[0] == OTHER_DIGEST
    assert "can't roll back" in told[-1]


def test_manifests_as_they_were_are_no_change(place: Path) -> None:
    (place / "manifests").mkdir()
    (place / "manifests/etcd.yaml").write_text("same")
    digest = hashlib.sha256(b"same").hexdigest()
    trial.write_order(place.parent, trial.Order(2, 1, {"etcd.yaml": digest}))
    assert attempt(place, ILL).run() == "went back"


def test_a_machine_that_boots_again_and_again_goes_back(place: Path) -> None:
    class Reboots(Patient):
        def trouble(self, volume: Path, generation: int) -> str:
            raise KeyboardInterrupt

    for boot in map(str, range(trial.BOOTS)):
        tried = attempt(place, "", boot=lambda boot=boot: boot)
        tried.node = Reboots("")
        with pytest.raises(KeyboardInterrupt):
            tried.run()
    # It would boot again before anything could be watched.
    last = attempt(place, "", boot=lambda: "last")
    last.node = Reboots("")
    assert last.run() == "went back"
    assert "booted 4 times" in images.Store(place).condemned(OTHER_DIGEST)


def test_where_the_kubelet_says_whether_it_is_healthy(tmp_path: Path) -> None:
    told = tmp_path / "10-kubewright.conf"
    assert trial_node.healthz(told) == ("127.0.0.1", 10248)
    for text, place in (
        ('{"healthzPort": 10300}', ("127.0.0.1", 10300)),
        ('{"healthzBindAddress": "192.0.2.1", "healthzPort": 0}', ("192.0.2.1", 0)),
        ('{"healthzBindAddress": "0.0.0.0"}', ("127.0.0.1", 10248)),
        ("[]", ("127.0.0.1", 10248)),
        ("half of", ("127.0.0.1", 10248)),
    ):
        told.write_text(text)
        assert trial_node.healthz(told) == place


def test_a_collection_does_not_forget_what_was_given_up(place: Path, run_module: RunModule) -> None:
    attempt(place, ILL).run()
    for content in (b"a third one", b"a fourth one", b"a fifth one"):
        bring(run_module, place, content)
    collected = run_module("system_image", state="collected", volume=str(place))
    assert collected["changed"] is True
    store = images.Store(place)
    assert OTHER_DIGEST in collected["removed"] and store.condemned(OTHER_DIGEST) == ILL
    assert store.numbers() == [1, 2, 5], "the one that is proven, the bad one, the active one"
    again = run_module("system_image", state="collected", volume=str(place))
    assert again["changed"] is False
    assert ILL in bring(run_module, place, OTHER)["msg"]


#: A read-only place in a mount namespace of its own, a command that writes to it as a trial does.
SEALED = """
    mount -t tmpfs tmpfs "$1"
    mount -o remount,bind,ro "$1"
    shift
    exec "$@"
"""


@pytest.mark.skipif(os.getuid() != 0, reason="needs a mount namespace")
def test_who_switches_may_write(tmp_path: Path) -> None:
    place = tmp_path / "place"
    place.mkdir()
    sealed = ("unshare", "--mount", "sh", "-ec", SEALED, "sealed", str(place))
    touch = ("touch", f"{place}/written")
    refused = subprocess.run([*sealed, *touch], capture_output=True, text=True, timeout=60)
    assert refused.returncode != 0, "it is read-only to others"
    done = subprocess.run(
        [*sealed, *trial.opening(place), *touch], capture_output=True, text=True, timeout=60
    )
    assert done.returncode == 0, done.stderr


def test_nothing_is_written_without_the_lock(place: Path) -> None:
    """However long another one has it: it may be about to write to the very same places."""
    lock = place.parent / "run/node.lock"
    lock.parent.mkdir()
    order, held = (place.parent / trial.ORDER).read_bytes(), lock.open("w")
    fcntl.flock(held, fcntl.LOCK_EX)
    told: list[str] = []

    def tell(line: str) -> None:
        told.append(line)
        if "waits for another process" in line:
            assert active(place)[0] == OTHER_DIGEST
            assert (place.parent / trial.ORDER).read_bytes() == order, "it waits"
            held.close()

    assert attempt(place, ILL, tell=tell).run() == "went back"
    assert str(lock) in told[0] and held.closed


def test_the_switch_holds_the_lock_and_goes_on_holding_it(
    place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also where the trial itself is killed meanwhile."""
    lock = place.parent / "run/node.lock"
    tried = attempt(place, ILL)
    tried.node = trial_node.Node()
    # As a command, which is all that inherits something.
    asks = f"exec >&2; flock --nonblock {lock} true && echo free || echo held; exit 3"
    monkeypatch.setattr(trial, "opening", lambda _: ("sh", "-c", asks))
    monkeypatch.setattr(tried.node, "trouble", lambda *_: ILL)
    with pytest.raises(OSError, match="could not be activated: held"):
        tried.run()


def test_a_lock_that_a_reset_removed_is_nobodys(place: Path) -> None:
    lock = place.parent / "run/node.lock"
    lock.parent.mkdir()
    held = lock.open("w")
    fcntl.flock(held, fcntl.LOCK_EX)

    def tell(line: str) -> None:
        if not held.closed and "waits for another process" in line:
            lock.unlink()
            held.close()

    tried = attempt(place, "", tell=tell)
    assert tried.run() == "kept" and lock.exists()


@pytest.mark.parametrize(
    ("mounted", "trouble"),
    [
        ("", f"nothing is mounted at {trial_node.IMAGE}"),
        (f"{DIGEST}.squashfs", trial_node.NOT_RUN),
    ],
)
def test_an_image_that_cannot_be_mounted_is_not_waited_for(
    place: Path, monkeypatch: pytest.MonkeyPatch, mounted: str, trouble: str
) -> None:
    monkeypatch.setattr(trial_node, "_mounted", lambda: mounted)
    assert trial_node.Node().trouble(place, 2) == trouble


@pytest.mark.parametrize(
    ("status", "told"), [(0, "active again"), (124, "active again, but not mounted: it hangs")]
)
def test_what_could_not_be_mounted_is_told(place: Path, status: int, told: str) -> None:
    ran: dict[str, float] = {}

    class Hangs(Patient):
        restart = trial_node.Node.restart

        def run(
            self, *argv: str, timeout: float = 0, pass_fds: Collection[int] = ()
        ) -> tuple[int, str]:
            if argv[0] != "systemctl":
                return super().run(*argv, timeout=timeout, pass_fds=pass_fds)
            ran[argv[1]] = timeout
            return (status, "it hangs") if argv[1] == "restart" else (0, "")

    lines: list[str] = []
    tried = attempt(place, "", tell=lines.append)
    tried.node = Hangs(ILL)
    assert tried.run() == "went back"
    assert lines[-1] == f"generation 1 is {told}"
    assert (
        list(ran) == ["reset-failed", "restart", "start"] and ran["restart"] == trial_node.RESTART
    )


def test_the_runtimes_own_word_counts() -> None:
    def info(*conditions: tuple[str, bool]) -> str:
        listed = [{"type": name, "status": status} for name, status in conditions]
        return json.dumps({"status": {"conditions": listed}})

    assert trial_node._runtime_ready(info(("RuntimeReady", True), ("NetworkReady", False)))
    assert not trial_node._runtime_ready(info(("RuntimeReady", False), ("NetworkReady", True)))
    assert not trial_node._runtime_ready("level=fatal")


def test_a_command_that_hangs_or_is_not_there_has_failed() -> None:
    node = trial_node.Node()
    assert node.run("sleep", "60", timeout=0.05)[0] == 124
    assert node.run("/nowhere/crictl") == (127, "/nowhere/crictl: No such file or directory")
