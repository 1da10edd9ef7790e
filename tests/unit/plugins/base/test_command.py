# SPDX-License-Identifier: Apache-2.0
"""Commands have a time limit and say what went wrong."""

from __future__ import annotations

import contextlib
import fcntl
import os
import subprocess
import threading
import time
from pathlib import Path

import pytest
from ansible_collections.kubewright.cluster.plugins.module_utils._base import commands
from ansible_collections.kubewright.cluster.plugins.module_utils._base.errors import KubewrightError

run = commands.SystemRunner()


def test_result_and_input() -> None:
    result = run(["sh", "-c", "cat; echo err >&2; exit 3"], stdin="in")
    assert (result.rc, result.stdout, result.stderr) == (3, "in", "err\n")


def test_check_shows_command_status_and_words() -> None:
    with pytest.raises(commands.CommandFailed, match=r"Trying: `sh -c 'exit 4'` ended with .* 4"):
        commands.check(run(["sh", "-c", "exit 4"]), "Trying")


def test_missing_command() -> None:
    with pytest.raises(KubewrightError, match="no-such-command is not installed on this machine"):
        run(["no-such-command"])


def test_command_over_its_time_dies_with_its_children(tmp_path: Path) -> None:
    fifo = tmp_path / "alive"
    os.mkfifo(fifo)
    reader = os.open(fifo, os.O_RDONLY | os.O_NONBLOCK)
    both_hold_it_open = f"exec 3<>{fifo}; sh -c 'read x <&3' & wait"
    with pytest.raises(KubewrightError, match="did not end within"):
        run(["sh", "-c", both_hold_it_open], timeout=0.3)
    os.set_blocking(reader, True)
    assert os.read(reader, 1) == b""  # end of file: nobody has it open any more
    os.close(reader)


def test_who_got_away_keeps_neither_us_nor_the_lock(tmp_path: Path) -> None:
    """A daemon that a command made holds its pipes, and the lock that it inherited."""
    lock = tmp_path / "lock"
    with lock.open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        runner = commands.SystemRunner([file.fileno()])
        began = time.monotonic()
        with pytest.raises(KubewrightError, match=r"did not end within 0\.3 s and was stopped\."):
            runner(["sh", "-c", "setsid sleep 60 & sleep 60"], timeout=0.3)
        assert time.monotonic() - began < 20
    done = subprocess.run(["flock", "--nonblock", str(lock), "true"])
    assert done.returncode == 0


def test_a_signal_is_not_yet_an_end(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Who was killed holds the lock for a moment longer, and that is waited for."""
    really_kill = os.kill
    late: dict[int, threading.Timer] = {}

    def kill(pid: int, number: int) -> None:
        with contextlib.suppress(ProcessLookupError):  # one of the group, which is gone already
            really_kill(pid, number)

    def kill_a_little_later(pid: int, number: int) -> None:
        if pid not in late:
            late[pid] = threading.Timer(0.3, kill, (pid, number))
            late[pid].start()

    monkeypatch.setattr(os, "kill", kill_a_little_later)
    lock = tmp_path / "lock"
    with lock.open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        with pytest.raises(KubewrightError, match=r"was stopped\."):
            commands.SystemRunner([file.fileno()])(
                ["sh", "-c", "setsid sleep 60 & sleep 60"], timeout=0.3
            )
    free = subprocess.run(["flock", "--nonblock", str(lock), "true"]).returncode == 0
    for timer in late.values():
        timer.join()
    assert free


def test_who_cannot_be_ended_is_not_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    """The kernel lets nobody go who waits for a disk."""
    monkeypatch.setattr(commands, "KILL_SECONDS", 0.2)
    monkeypatch.setattr(os, "killpg", lambda *_: None)
    with pytest.raises(KubewrightError, match="but the kernel does not let it exit"):
        run(["sleep", "5"], timeout=0.1)


def test_what_is_set_for_users_of_the_machine_reaches_no_command(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    for name in ("http_proxy", "HTTPS_PROXY", "all_proxy", "KUBECONFIG", "LD_PRELOAD", "GODEBUG"):
        monkeypatch.setenv(name, "x")
    monkeypatch.setenv("PATH", "/own/bin:/usr/bin")
    monkeypatch.setenv("HOME", "/root")
    monkeypatch.setenv("KUBEWRIGHT_RUN", "run-1")
    monkeypatch.delenv("TMPDIR", raising=False)
    told = dict(line.split("=", 1) for line in run(["/usr/bin/env"]).stdout.splitlines())
    assert told == {
        "HOME": "/root",
        "KUBEWRIGHT_RUN": "run-1",
        "LC_ALL": "C.UTF-8",
        "PATH": f"/own/bin:/usr/bin:{commands.ADMIN_PATH}",
        "SYSTEMD_COLORS": "0",
    }


def test_a_command_that_is_watched_ends_with_what_the_watch_raises() -> None:
    seen: list[int] = []

    def watch() -> None:
        seen.append(1)
        if len(seen) == 2:
            raise KubewrightError("seen enough")

    began = time.monotonic()
    with pytest.raises(KubewrightError, match="seen enough"):
        run(["sleep", "60"], timeout=50, watch=watch)
    assert time.monotonic() - began < 20
    result = run(["sh", "-c", "cat; sleep 1.2; echo out"], stdin="in ", watch=lambda: None)
    assert (result.rc, result.stdout) == (0, "in out\n")
    with pytest.raises(KubewrightError, match=r"did not end within 1\.5 s"):
        run(["sleep", "60"], timeout=1.5, watch=lambda: None)
