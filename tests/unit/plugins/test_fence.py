# SPDX-License-Identifier: Apache-2.0
"""One writer a node, and never an outdated one."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from ansible_collections.kubewright.cluster.plugins.module_utils import _command, _fence
from ansible_collections.kubewright.cluster.plugins.module_utils._errors import KubewrightError

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
    assert _fence.read_epoch() == 0
    with _fence.node_lock(4, 1):
        assert _fence.read_epoch() == 4
    with _fence.node_lock(4, 1):
        pass
    with _fence.node_lock(7, 1):
        pass
    with (
        pytest.raises(_fence.StaleEpoch, match=r"epoch 6.*epoch 7.*Nothing was changed"),
        _fence.node_lock(6, 1),
    ):
        pytest.fail("an overtaken run was let in")
    assert _fence.read_epoch() == 7


def test_run_without_epoch_takes_the_lock_alone(node: Path) -> None:
    with _fence.node_lock(9, 1):
        pass
    with _fence.node_lock(None, 1):
        assert _fence.read_epoch() == 9


def test_check_mode_writes_nothing_and_refuses_all_the_same(node: Path) -> None:
    with _fence.node_lock(3, 0, check_mode=True) as fence:
        assert fence.pass_fds == ()
    assert not node.exists()
    with _fence.node_lock(5, 1):
        pass
    with pytest.raises(_fence.StaleEpoch), _fence.node_lock(3, 0, check_mode=True):
        pass


def test_damaged_epoch_is_reported(node: Path) -> None:
    _fence.EPOCH_PATH.parent.mkdir(parents=True)
    _fence.EPOCH_PATH.write_text("seven")
    with pytest.raises(KubewrightError, match=r"seven.*write the epoch"), _fence.node_lock(1, 1):
        pass


def test_waiting_ends_in_time_and_names_the_holder(node: Path) -> None:
    path = _fence.LOCK_DIRECTORY / "node.lock"
    with held_by_another(path) as process:
        with (
            pytest.raises(_fence.LockTimeout, match=rf"process {process.pid} \(python") as caught,
            _fence.node_lock(1, 0.2),
        ):
            pass
        assert str(path) in str(caught.value)
        process.communicate("")


def test_lock_is_taken_as_soon_as_it_is_free(node: Path) -> None:
    path = _fence.LOCK_DIRECTORY / "node.lock"
    with held_by_another(path) as process:
        assert process.stdin is not None
        releaser = os.fork()
        if releaser == 0:  # lets go while the parent waits; the order does not matter
            os.kill(process.pid, signal.SIGTERM)
            os._exit(0)
        with _fence.node_lock(1, 30):
            assert path.read_text() == f"{os.getpid()}\n"
        os.waitpid(releaser, 0)


def test_scopes_do_not_wait_for_each_other_but_share_the_epoch(node: Path) -> None:
    with _fence.node_lock(5, 0), _fence.node_lock(5, 0, scope="images"):
        with pytest.raises(_fence.LockTimeout), _fence.node_lock(5, 0):
            pass
        with pytest.raises(_fence.LockTimeout), _fence.node_lock(5, 0, scope="images"):
            pass
    with pytest.raises(_fence.StaleEpoch), _fence.node_lock(4, 0, scope="images"):
        pass


def test_a_command_keeps_the_lock_when_its_module_was_killed(node: Path) -> None:
    reader, writer = os.pipe()
    module = os.fork()
    if module == 0:
        with _fence.node_lock(1, 1) as fence:
            subprocess.Popen(["cat"], stdin=reader, pass_fds=fence.pass_fds)
            os.kill(os.getpid(), signal.SIGKILL)
    os.waitpid(module, 0)
    os.close(reader)
    with (
        pytest.raises(_fence.LockTimeout, match=r"process \d+ \((cat|python[0-9.]*)\)"),
        _fence.node_lock(1, 0),
    ):
        pass
    os.close(writer)  # the end of its input ends the command
    with _fence.node_lock(1, 10):
        pass


def test_runner_gives_the_lock_to_its_commands(node: Path) -> None:
    with _fence.node_lock(1, 1) as fence:
        run = _command.SystemRunner(fence.pass_fds)
        listed = run(["sh", "-c", "readlink /proc/self/fd/* || true"]).stdout
    assert str(_fence.LOCK_DIRECTORY / "node.lock") in listed


def test_epoch_survives_a_kill_at_any_moment(node: Path, every_kill: EveryKill) -> None:
    with _fence.node_lock(1, 1):
        pass

    def take() -> None:
        with _fence.node_lock(2, 1):
            pass

    for _point in every_kill(take):
        assert _fence.read_epoch() in (1, 2)
        _fence.EPOCH_PATH.write_text("1\n")
    assert _fence.read_epoch() == 2
    left = {path.name for path in _fence.EPOCH_PATH.parent.iterdir()}
    assert left == {"before.json", "epoch"}


def test_who_waited_for_a_lock_that_is_gone_takes_the_new_one(node: Path) -> None:
    """A reset removes the file; two that hold one name each would both be let in."""
    path = _fence.LOCK_DIRECTORY / "node.lock"
    with held_by_another(path) as process:
        assert process.stdin is not None
        waiting = os.fork()
        if waiting == 0:
            os.close(process.stdin.fileno())  # or the other one waits for us
            with _fence.node_lock(None, 30):
                os._exit(0 if path.exists() else 1)
        path.unlink()
        process.stdin.close()
        _, status = os.waitpid(waiting, 0)
    assert os.waitstatus_to_exitcode(status) == 0
