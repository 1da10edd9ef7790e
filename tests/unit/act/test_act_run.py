# SPDX-License-Identifier: Apache-2.0
"""Real runs of ansible-playbook on localhost: results, logs, secrets, cancelling, leftovers."""

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

from kubewright.act import HostResult, PhaseStarted, Session, leftovers
from kubewright.act.environment import RUN_VARIABLE
from kubewright.locations import ClusterPaths
from kubewright.store import Journal, Locked, Started

pytestmark = [
    pytest.mark.timeout(120),
    pytest.mark.skipif(
        not (Path(sys.prefix) / "bin" / "ansible-playbook").exists(), reason="needs ansible-core"
    ),
]

INVENTORY = """\
all:
  vars: {ansible_connection: local, ansible_python_interpreter: "{{ ansible_playbook_python }}"}
  hosts: {one: {}, two: {}}
"""


@pytest.fixture
def paths(tmp_path: Path) -> ClusterPaths:
    return ClusterPaths(tmp_path / "demo")


@pytest.fixture
def inventory(tmp_path: Path) -> Path:
    path = tmp_path / "inventory.yml"
    path.write_text(INVENTORY)
    return path


@pytest.fixture
def playbook(tmp_path: Path) -> Callable[[str], str]:
    def write(text: str) -> str:
        path = tmp_path / "playbook.yml"
        path.write_text(text)
        return str(path)

    return write


def awaited(condition: Callable[[], object], seconds: float = 30) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "waited in vain"
        time.sleep(0.05)


def test_what_comes_of_a_run(
    paths: ClusterPaths, inventory: Path, playbook: Callable[[str], str]
) -> None:
    name = playbook("""\
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
- name: Think
  hosts: localhost
  gather_facts: false
  tasks:
    - name: Tell the number
      ansible.builtin.debug: {msg: "epoch {{ kubewright_epoch }}"}
""")
    seen: list[object] = []
    with Session(paths, "apply") as session:
        result = session.run(
            name, inventory=inventory, extra_vars={"kubewright_epoch": 7}, on_event=seen.append
        )
    assert result.ok, result.log.read_text()
    assert result.changed
    assert (result.host_tasks.changed, result.host_tasks.ok) == (2, 2)
    assert (result.host_tasks.failed, result.host_tasks.unreachable) == (0, 0)
    assert result.host_tasks.total == 4
    assert result.host_task_counts == {"one": 2, "two": 2}
    assert [phase.name for phase in result.phases] == ["Look", "Think"]
    assert 0 < sum(phase.seconds for phase in result.phases) <= result.seconds
    assert [event.name for event in seen if isinstance(event, PhaseStarted)] == ["Look", "Think"]
    assert HostResult("Look", "Change something", "one", "changed") in seen
    log = result.log.read_text()
    assert "TASK [Change something]" in log
    assert "epoch 7" in log
    assert "\x1b[" not in log


def test_a_run_leaves_a_private_log_and_nothing_else(
    paths: ClusterPaths,
    inventory: Path,
    playbook: Callable[[str], str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("CLOUD_PASSWORD", "correct-horse")
    name = playbook("""\
- name: Use secrets
  hosts: one
  gather_facts: false
  tasks:
    - name: Use one
      ansible.builtin.command: echo battery-staple
      no_log: true
""")
    with Session(paths, "apply") as session:
        result = session.run(name, inventory=inventory)
    assert [entry.name for entry in result.log.parent.iterdir()] == ["log.txt"]
    assert result.log.stat().st_mode & 0o777 == 0o600
    assert paths.state.stat().st_mode & 0o777 == 0o700
    assert result.log.parent.stat().st_mode & 0o777 == 0o700
    for file in (entry for entry in paths.state.rglob("*") if entry.is_file()):
        assert "correct-horse" not in file.read_text(), file
        assert "battery-staple" not in file.read_text(), file


def test_while_it_runs_no_file_holds_the_environment_or_results(
    paths: ClusterPaths,
    inventory: Path,
    playbook: Callable[[str], str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("CLOUD_PASSWORD", "correct-horse")
    name = playbook(f"""\
- name: Wait
  hosts: one
  gather_facts: false
  tasks:
    - name: Say something
      ansible.builtin.command: echo a-result
    - name: Look into the run's directory
      ansible.builtin.shell: grep -rl -e correct-horse -e '"a-result"' {paths.runs} || true
      register: found
    - name: Find nothing
      ansible.builtin.assert: {{that: [found.stdout == ""]}}
""")
    with Session(paths, "apply") as session:
        result = session.run(name, inventory=inventory)
    assert result.ok, result.failures


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


def test_rescued_failures_of_a_good_run_are_not_told(
    paths: ClusterPaths, inventory: Path, playbook: Callable[[str], str]
) -> None:
    name = playbook("""\
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
""")
    with Session(paths, "apply") as session:
        result = session.run(name, inventory=inventory)
    assert (result.ok, result.failures, result.host_tasks.failed) == (True, (), 1)


@pytest.mark.parametrize(
    ("name", "inventory_text", "words"),
    [
        ("kubewright.nowhere.site", INVENTORY, "kubewright.nowhere.site"),
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
    paths: ClusterPaths, inventory: Path, playbook: Callable[[str], str]
) -> None:
    name = playbook("""\
- name: Go
  hosts: all
  gather_facts: false
  tasks:
    - name: Work
      ansible.builtin.command: "true"
""")
    entered, release = threading.Event(), threading.Event()

    def slow(_: object) -> None:
        entered.set()
        release.wait(60)

    def broken(_: object) -> None:
        raise RuntimeError

    try:
        with Session(paths, "apply") as session:
            result = session.run(name, inventory=inventory, on_event=slow)
            assert result.ok
            assert entered.is_set()
            assert session.run(name, inventory=inventory, on_event=broken).ok
    finally:
        release.set()


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
    yield f"{1000 + os.getpid() % 1000}.{time.monotonic_ns() % 10**9}"


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
