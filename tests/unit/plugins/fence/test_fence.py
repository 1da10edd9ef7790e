# SPDX-License-Identifier: Apache-2.0
"""One writer a node, and never an outdated one."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from ansible_collections.kubewright.cluster.plugins.module_utils._base import commands
from ansible_collections.kubewright.cluster.plugins.module_utils._base.errors import (
    KubewrightError,
    failure,
)
from ansible_collections.kubewright.cluster.plugins.module_utils._cluster import claims
from ansible_collections.kubewright.cluster.plugins.module_utils._cluster.claims import Claim
from ansible_collections.kubewright.cluster.plugins.module_utils._fence import fencing

EveryKill = Callable[[Callable[[], object]], Iterator[int]]

HOLD = """
import fcntl, os, sys
fd = os.open(sys.argv[1], os.O_RDWR | os.O_CREAT)
fcntl.flock(fd, fcntl.LOCK_EX)
print("held", flush=True)
sys.stdin.read()
"""


@contextmanager
def held_by_another(path: Path) -> Iterator[subprocess.Popen[str]]:
    """Another process holds the lock until its standard input is closed."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with subprocess.Popen(
        [sys.executable, "-c", HOLD, str(path)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "held\n"
        yield process


def test_epoch_is_recorded_and_only_ever_rises(node: Path) -> None:
    assert fencing.read_claim().epoch == 0
    with fencing.node_lock(Claim(4), 1):
        assert fencing.read_claim().epoch == 4
    with fencing.node_lock(Claim(4), 1):
        pass
    with fencing.node_lock(Claim(7), 1):
        pass
    with (
        pytest.raises(
            fencing.StaleEpoch, match=r"epoch 6.*epoch 7.*Nothing was changed.*Run it again"
        ),
        fencing.node_lock(Claim(6), 1),
    ):
        pytest.fail("an overtaken run was let in")
    assert fencing.read_claim().epoch == 7


def test_of_two_runs_with_one_epoch_the_first_has_the_node(node: Path) -> None:
    """Controllers that do not know each other count to the same number."""
    first, second = Claim(4, "20260102T030405-1a2b3c4d"), Claim(4, "20260102T030406-ffffffff")
    with fencing.node_lock(first, 1):
        pass
    since = r"since 20\d\d-\d\d-\d\d \d\d:\d\d:\d\d UTC"
    for check_mode in (False, True):
        with (
            pytest.raises(
                fencing.StaleEpoch, match=rf"{since}: epoch 4 \(run {first.run}\)"
            ) as caught,
            fencing.node_lock(second, 1, check_mode=check_mode),
        ):
            pytest.fail("both were let in")
        assert "This one has epoch 4 (run 20260102T030406-ffffffff)" in str(caught.value)
        assert "run it again, which takes a higher epoch" in str(caught.value)
    for stranger in (Claim(4), Claim(3, first.run)):
        with pytest.raises(fencing.StaleEpoch), fencing.node_lock(stranger, 1):
            pytest.fail("it was let in")
    with fencing.node_lock(first, 1):
        assert claims.EPOCH_PATH.read_text() == f"4 {first.run}\n"
    with fencing.node_lock(Claim(5, second.run), 1):
        pass
    with (
        pytest.raises(fencing.StaleEpoch, match="a newer run took over"),
        fencing.node_lock(first, 1),
    ):
        pytest.fail("it was let in")


def test_a_number_of_a_version_before_runs_is_one_of_nobody(node: Path) -> None:
    claims.EPOCH_PATH.parent.mkdir(parents=True)
    claims.EPOCH_PATH.write_text("7\n")
    assert fencing.read_claim() == Claim(7)
    with pytest.raises(fencing.StaleEpoch), fencing.node_lock(Claim(7, "mine"), 1):
        pytest.fail("it was let in")
    with fencing.node_lock(Claim(8, "mine"), 1):
        assert fencing.read_claim() == Claim(8, "mine")


@pytest.mark.parametrize("run", ["two words", "a\nb", "-x", "x" * 65])
def test_what_is_no_id_of_a_run_is_refused(run: str) -> None:
    with pytest.raises(KubewrightError, match="not a valid run id"):
        fencing.claim_of({"epoch": 1, "run": run})
    assert fencing.claim_of({"epoch": None, "run": run}) is None


def test_run_without_epoch_takes_the_lock_alone(node: Path) -> None:
    with fencing.node_lock(Claim(9), 1):
        pass
    with fencing.node_lock(None, 1):
        assert fencing.read_claim().epoch == 9


def test_check_mode_writes_nothing_and_refuses_all_the_same(node: Path) -> None:
    with fencing.node_lock(Claim(3), 0, check_mode=True) as fence:
        assert fence.pass_fds == ()
    assert not node.exists()
    with fencing.node_lock(Claim(5), 1):
        pass
    with pytest.raises(fencing.StaleEpoch), fencing.node_lock(Claim(3), 0, check_mode=True):
        pass


@pytest.mark.parametrize("text", ["seven", "7 two words", "\N{DIGIT SEVEN}\N{SNOWMAN}"])
def test_damaged_epoch_is_reported(node: Path, text: str) -> None:
    claims.EPOCH_PATH.parent.mkdir(parents=True)
    claims.EPOCH_PATH.write_text(text)
    with (
        pytest.raises(KubewrightError, match=r"instead of a number; write the epoch"),
        fencing.node_lock(Claim(1), 1),
    ):
        pass


def test_waiting_ends_in_time_and_names_the_holder(node: Path) -> None:
    path = fencing.LOCK_DIRECTORY / "node.lock"
    with held_by_another(path) as process:
        with (
            pytest.raises(fencing.LockTimeout, match=rf"process {process.pid} \(python") as caught,
            fencing.node_lock(Claim(1), 0.2),
        ):
            pass
        assert str(path) in str(caught.value)
        process.communicate("")


@pytest.mark.parametrize(
    ("of_it", "late", "hangs"), [(0, 90, True), (0, 10, False), (1, 90, False)]
)
def test_a_holder_that_should_have_ended_itself_is_not_waited_for(
    node: Path, of_it: int, late: int, hangs: bool
) -> None:
    """Unlike one in its time, and a command or a person that has the lock after another taker."""
    path = fencing.LOCK_DIRECTORY / "node.lock"
    with held_by_another(path) as process:
        path.write_text(f"{process.pid + of_it} 60 {time.monotonic() - late:.0f}\n")
        expected = fencing.HolderHangs if hangs else fencing.LockTimeout
        began = time.monotonic()
        with (
            pytest.raises(expected) as caught,
            fencing.node_lock(Claim(1), 0.5 if not hangs else 60),
        ):
            pass
        process.communicate("")
    assert time.monotonic() - began < 30
    told = failure(caught.value)
    if hangs:
        assert told == {"msg": str(caught.value), "foreseen": True, "hung": True}
    else:  # who has it, for whom the wait is told
        assert told.pop("busy").startswith(f"process {process.pid} (python")
        assert told == {"msg": str(caught.value), "foreseen": True}
    if hangs:
        words = rf"did not answer within 60 s: process {process.pid} \(python.* exited 9\d s ago"
        assert re.search(words, str(caught.value))


def test_lock_is_taken_as_soon_as_it_is_free(node: Path) -> None:
    path = fencing.LOCK_DIRECTORY / "node.lock"
    with held_by_another(path) as process:
        assert process.stdin is not None
        releaser = os.fork()
        if releaser == 0:  # lets go while the parent waits; the order does not matter
            os.kill(process.pid, signal.SIGTERM)
            os._exit(0)
        with fencing.node_lock(Claim(1), 30):
            assert path.read_text().startswith(f"{os.getpid()} ")
        os.waitpid(releaser, 0)


def test_scopes_do_not_wait_for_each_other_but_share_the_epoch(node: Path) -> None:
    with fencing.node_lock(Claim(5), 0), fencing.node_lock(Claim(5), 0, scope="images"):
        with pytest.raises(fencing.LockTimeout), fencing.node_lock(Claim(5), 0):
            pass
        with pytest.raises(fencing.LockTimeout), fencing.node_lock(Claim(5), 0, scope="images"):
            pass
    with pytest.raises(fencing.StaleEpoch), fencing.node_lock(Claim(4), 0, scope="images"):
        pass


def test_a_command_keeps_the_lock_when_its_module_was_killed(node: Path) -> None:
    reader, writer = os.pipe()
    module = os.fork()
    if module == 0:
        with fencing.node_lock(Claim(1), 1) as fence:
            subprocess.Popen(["cat"], stdin=reader, pass_fds=fence.pass_fds)
            os.kill(os.getpid(), signal.SIGKILL)
    os.waitpid(module, 0)
    os.close(reader)
    with (
        pytest.raises(fencing.LockTimeout, match=r"process \d+ \((cat|python[0-9.]*)\)"),
        fencing.node_lock(Claim(1), 0),
    ):
        pass
    os.close(writer)  # the end of its input ends the command
    with fencing.node_lock(Claim(1), 10):
        pass


def test_runner_gives_the_lock_to_its_commands(node: Path) -> None:
    with fencing.node_lock(Claim(1), 1) as fence:
        run = commands.SystemRunner(fence.pass_fds)
        listed = run(["sh", "-c", "readlink /proc/self/fd/* || true"]).stdout
    assert str(fencing.LOCK_DIRECTORY / "node.lock") in listed


def test_epoch_survives_a_kill_at_any_moment(node: Path, every_kill: EveryKill) -> None:
    with fencing.node_lock(Claim(1), 1):
        pass

    def take() -> None:
        with fencing.node_lock(Claim(2, "mine"), 1):
            pass

    for _point in every_kill(take):
        assert fencing.read_claim() in (Claim(1), Claim(2, "mine"))
        claims.EPOCH_PATH.write_text("1\n")
    assert fencing.read_claim().epoch == 2
    left = {path.name for path in claims.EPOCH_PATH.parent.iterdir()}
    assert left == {"before.json", "epoch", "schema.json"}


def test_who_waited_for_a_lock_that_is_gone_takes_the_new_one(node: Path) -> None:
    """A reset removes the file; two that hold one name each would both be let in."""
    path = fencing.LOCK_DIRECTORY / "node.lock"
    with held_by_another(path) as process:
        assert process.stdin is not None
        waiting = os.fork()
        if waiting == 0:
            os.close(process.stdin.fileno())  # or the other one waits for us
            with fencing.node_lock(None, 30):
                os._exit(0 if path.exists() else 1)
        path.unlink()
        process.stdin.close()
        _, status = os.waitpid(waiting, 0)
    assert os.waitstatus_to_exitcode(status) == 0
