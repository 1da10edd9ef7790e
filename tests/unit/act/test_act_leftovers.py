# SPDX-License-Identifier: Apache-2.0
"""Cancelled runs, and runs whose orchestrator died: every process of theirs is ended."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from kubewright.act import Session, leftovers
from kubewright.act.environment import RUN_VARIABLE
from kubewright.locations import ClusterPaths
from kubewright.store import Journal, Locked, Started

pytestmark = [
    pytest.mark.timeout(120),
    pytest.mark.skipif(
        not (Path(sys.prefix) / "bin" / "ansible-playbook").exists(), reason="needs ansible-core"
    ),
]


def awaited(condition: Callable[[], object], seconds: float = 30) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "waited in vain"
        time.sleep(0.05)


SLEEPER = """\
- name: Wait
  hosts: all
  gather_facts: false
  tasks:
    - name: Wait long
      ansible.builtin.command: sleep {seconds}
"""


def running(run: str) -> list[int]:
    system = leftovers.System()
    found = system.of_run(run)
    system.close(found)
    return [process.pid for process in found]


@pytest.fixture
def mark() -> Iterator[str]:
    """A number of seconds to sleep that tells this test's processes from all others."""
    seconds = f"{1000 + os.getpid() % 1000}.{time.monotonic_ns() % 10**9}"
    yield seconds
    for pid in sleepers(seconds):  # none, unless a test has failed
        os.kill(pid, signal.SIGKILL)


def sleepers(mark: str) -> list[int]:
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                words = (entry / "cmdline").read_bytes().split(b"\0")
            except OSError:
                continue
            if words[:2] == [b"sleep", mark.encode()]:
                found.append(int(entry.name))
    return found


def test_cancelling_ends_every_process_of_the_run(
    paths: ClusterPaths, inventory: Path, playbook: Callable[[str], str], mark: str
) -> None:
    name = playbook(SLEEPER.format(seconds=mark))
    with Session(paths, "apply") as session:
        results: list[object] = []
        thread = threading.Thread(
            target=lambda: results.append(session.run(name, inventory=inventory))
        )
        thread.start()
        awaited(lambda: len(sleepers(mark)) == 2)
        session.cancel.set()
        thread.join(60)
        assert not thread.is_alive()
        assert not sleepers(mark)
    (result,) = results
    assert result.status == "canceled"  # type: ignore[attr-defined]
    assert running(result.run) == []  # type: ignore[attr-defined]
    assert Journal(paths.journal).unfinished() == []


def test_a_dead_orchestrators_run_is_found_and_ended(
    paths: ClusterPaths, inventory: Path, playbook: Callable[[str], str], mark: str, tmp_path: Path
) -> None:
    name = playbook(SLEEPER.format(seconds=mark))
    script = (
        "import sys; from pathlib import Path\n"
        "from kubewright.act import Session\n"
        "from kubewright.locations import ClusterPaths\n"
        "with Session(ClusterPaths(Path(sys.argv[1])), 'apply') as session:\n"
        "    session.run(sys.argv[2], inventory=Path(sys.argv[3]))\n"
    )
    command = [sys.executable, "-c", script, str(paths.state), name, str(inventory)]
    with subprocess.Popen(command) as orchestrator:
        awaited(lambda: len(sleepers(mark)) == 2)
        with pytest.raises(Locked) as locked, Session(paths, "destroy"):
            pass
        assert locked.value.holder.pid == orchestrator.pid
        assert locked.value.holder.operation == "apply"
        orchestrator.send_signal(signal.SIGKILL)
        orchestrator.wait(30)
    assert len(sleepers(mark)) == 2, "the run outlives its orchestrator: that is the trap"
    (entry,) = Journal(paths.journal).unfinished()
    assert entry.pid == orchestrator.pid
    with Session(paths, "destroy") as session:
        assert session.ended == (entry.run,)
        assert not sleepers(mark)
        assert running(entry.run) == []
    assert Journal(paths.journal).unfinished() == []
    assert [file.name for file in (paths.runs / entry.run).iterdir()] == ["log.txt"]


def test_processes_of_other_runs_and_monitors_of_machines_are_left_alone(tmp_path: Path) -> None:
    monitor = tmp_path / "conmon"
    shutil.copy("/bin/sleep", monitor)

    def start(program: str, run: str) -> subprocess.Popen[bytes]:
        return subprocess.Popen([program, "600"], env={**os.environ, RUN_VARIABLE: run})

    mine, other = start("sleep", "run-a"), start("sleep", "run-ab")
    conmon = start(str(monitor), "run-a")
    try:
        assert leftovers.end("run-a") == 1
        assert mine.wait(10) == -signal.SIGTERM
        assert other.poll() is None
        assert conmon.poll() is None
    finally:
        for process in (mine, other, conmon):
            process.kill()
            process.wait()


def test_a_process_that_ignores_sigterm_is_killed() -> None:
    script = (
        "import signal, time; signal.signal(15, signal.SIG_IGN); print(flush=True); time.sleep(600)"
    )
    with subprocess.Popen(
        [sys.executable, "-c", script],
        env={**os.environ, RUN_VARIABLE: "run-stubborn"},
        stdout=subprocess.PIPE,
    ) as process:
        assert process.stdout is not None
        process.stdout.readline()
        assert leftovers.end("run-stubborn", grace=0.5) == 1
        assert process.wait(10) == -signal.SIGKILL


def test_a_process_that_stands_still_is_killed_before_it_can_go_on(tmp_path: Path) -> None:
    """SIGTERM would wait for SIGCONT, and a module that continues could write once more."""
    written = tmp_path / "written"
    script = (
        "import signal, sys, time; from pathlib import Path\n"
        "signal.signal(15, lambda *_: Path(sys.argv[1]).touch())\n"
        "print(flush=True); time.sleep(600)\n"
    )
    with subprocess.Popen(
        [sys.executable, "-c", script, str(written)],
        env={**os.environ, RUN_VARIABLE: "run-stopped"},
        stdout=subprocess.PIPE,
    ) as process:
        assert process.stdout is not None
        process.stdout.readline()
        process.send_signal(signal.SIGSTOP)
        stat = Path(f"/proc/{process.pid}/stat")
        awaited(lambda: stat.read_text().rpartition(")")[2].split()[0] == "T")
        begun = time.monotonic()
        assert leftovers.end("run-stopped", grace=30) == 1
        assert time.monotonic() - begun < 15
        assert process.wait(10) == -signal.SIGKILL
    assert not written.exists()


def test_runs_from_before_a_restart_are_only_closed(paths: ClusterPaths) -> None:
    paths.state.mkdir(parents=True)
    journal = Journal(paths.journal)
    run = "20260101T000000-before"
    journal.started(Started(run, "site", "apply", 1, 1, "another-boot", "2026-01-01T00:00:00Z"))
    with subprocess.Popen(["sleep", "600"], env={**os.environ, RUN_VARIABLE: run}) as process:
        with Session(paths, "apply") as session:
            assert session.ended == (run,)
        assert process.poll() is None
        process.kill()
    assert journal.unfinished() == []
