# SPDX-License-Identifier: Apache-2.0
"""The callback plugin and the killer in real runs of ansible-playbook, on this machine alone."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from killer import descendants
from points import Kill, Moment, kills, read_recording

from kubewright.act import Session
from kubewright.act.leftovers import System
from kubewright.locations import ClusterPaths

pytestmark = [
    pytest.mark.timeout(120),
    pytest.mark.skipif(
        not (Path(sys.prefix) / "bin" / "ansible-playbook").exists(), reason="needs ansible-core"
    ),
]

CHAOS = Path(__file__).resolve().parents[2] / "chaos"
INVENTORY = """\
all:
  vars: {ansible_connection: local, ansible_python_interpreter: "{{ ansible_playbook_python }}"}
  hosts: {one: {}, two: {}}
"""
# Each task says which hosts it has reached, in a file of their own.
PLAYBOOK = """\
- name: Play
  hosts: all
  gather_facts: false
  tasks:
    - name: Change nothing
      ansible.builtin.command: "true"
      changed_when: false
    - name: Change {{ 1 + 1 }} things
      ansible.builtin.shell: "touch first-{{ inventory_hostname }}"
      args: {chdir: DIRECTORY}
    - name: Take a while
      ansible.builtin.shell: "touch began-$NODE; NAP; touch ended-$NODE"
      args: {chdir: DIRECTORY}
      # What a task starts may lose the mark of the run.
      environment: {KUBEWRIGHT_RUN: "", NODE: "{{ inventory_hostname }}"}
    - name: Change at last
      ansible.builtin.shell: "touch last-{{ inventory_hostname }}"
      args: {chdir: DIRECTORY}
"""
COMMAND = """\
import sys
from pathlib import Path
from kubewright.act import Session
from kubewright.locations import ClusterPaths
with Session(ClusterPaths(Path(sys.argv[1])), "apply") as session:
    result = session.run(sys.argv[2], inventory=Path(sys.argv[3]))
print(result.log.read_text())
sys.exit(0 if result.ok else 1)
"""


class Ground:
    """A directory with a playbook and a state, and a command that runs it."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.state = directory / "state"
        self.marks = directory / "marks"
        self.marks.mkdir()
        (directory / "inventory.yml").write_text(INVENTORY)
        self.nap("true")

    def nap(self, command: str) -> None:
        """Say what the slow task does."""
        text = PLAYBOOK.replace("DIRECTORY", str(self.marks)).replace("NAP", command)
        (self.directory / "playbook.yml").write_text(text)

    def run(self, **variables: str) -> subprocess.CompletedProcess[str]:
        words = [
            str(self.state),
            *(str(self.directory / name) for name in ("playbook.yml", "inventory.yml")),
        ]
        plugin = {
            "ANSIBLE_CALLBACK_PLUGINS": str(CHAOS / "callback"),
            "ANSIBLE_CALLBACKS_ENABLED": "chaos",
        }
        return subprocess.run(
            [sys.executable, "-c", COMMAND, *words],
            env={**os.environ, **plugin, **variables},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=90,
            check=False,
        )

    def kill(
        self, task: str, moment: Moment, delay: float = 0.0, host: str = "two"
    ) -> dict[str, Any]:
        """Run with an order to kill; return the report."""
        report = self.directory / "report.json"
        order = Kill("", task, "Play", host, 1, moment, 0.5, delay).order(str(report))
        ended = self.run(KUBEWRIGHT_CHAOS_KILL=order)
        log = Path(f"{report}.log").read_text()
        assert ended.returncode == -signal.SIGKILL, (ended.stdout, ended.stderr, log)
        assert log == ""
        found: dict[str, Any] = json.loads(report.read_text())
        return found

    @property
    def reached(self) -> set[str]:
        """The files that the tasks have made."""
        return {path.name for path in self.marks.iterdir()}

    def next_session_ends(self, run: str) -> None:
        """The next operation finds the run unfinished, and nothing of it alive."""
        assert System().of_run(run) == []
        with Session(ClusterPaths(self.state), "apply") as session:
            assert session.ended == (run,)


@pytest.fixture
def ground(tmp_path: Path) -> Ground:
    return Ground(tmp_path)


def test_a_recording_has_what_changed(ground: Ground, tmp_path: Path) -> None:
    ground.nap("sleep 0.5")
    ended = ground.run(KUBEWRIGHT_CHAOS_RECORD=str(tmp_path / "recording.jsonl"))
    assert ended.returncode == 0, ended.stdout
    changes = read_recording((tmp_path / "recording.jsonl").read_text())
    tasks = ["Change {{ 1 + 1 }} things", "Take a while", "Change at last"]
    assert [(change.task, change.host) for change in changes[:2]] in (
        [(tasks[0], "one"), (tasks[0], "two")],
        [(tasks[0], "two"), (tasks[0], "one")],
    )
    assert [kill.task for kill in kills(changes, "1")] == tasks
    assert {(change.play, change.role, change.occurrence) for change in changes} == {
        ("Play", "", 1)
    }
    slow = [change.seconds for change in changes if change.task == "Take a while"]
    assert len(slow) == 2 and all(0.5 < seconds < 30 for seconds in slow)


def test_before_the_task_has_run(ground: Ground) -> None:
    report = ground.kill("Change {{ 1 + 1 }} things", "before")
    assert report["moment"] == "before"
    assert ground.reached <= {"first-one"}
    ground.next_session_ends(report["run"])


def test_during_the_task(ground: Ground) -> None:
    ground.nap("tail --follow /dev/null")
    report = ground.kill("Take a while", "during", delay=1.0)
    assert report["moment"] == "during"
    assert {"first-one", "first-two"} <= ground.reached
    assert not {"ended-one", "ended-two"} & ground.reached
    ground.next_session_ends(report["run"])


def test_what_lost_the_mark_of_the_run_is_killed_too(ground: Ground) -> None:
    # One ends as soon as the other has begun what never ends.
    wait = "until test -e began-two; do sleep 0.1; done"
    ground.nap(f"if test $NODE = one; then {wait}; else exec tail --follow /dev/null; fi")
    report = ground.kill("Take a while", "after", host="one")
    assert {"began-two", "ended-one"} <= ground.reached
    assert ground.marks not in _working_directories()
    ground.next_session_ends(report["run"])


def test_during_a_task_that_ends_earlier(ground: Ground) -> None:
    report = ground.kill("Take a while", "during", delay=80.0)
    assert report["moment"] == "after"
    assert "ended-two" in ground.reached
    assert not {"last-one", "last-two"} & ground.reached
    ground.next_session_ends(report["run"])


def test_after_the_task(ground: Ground) -> None:
    report = ground.kill("Change {{ 1 + 1 }} things", "after")
    assert report["moment"] == "after"
    assert "first-two" in ground.reached
    assert "began-two" not in ground.reached
    ground.next_session_ends(report["run"])


def test_a_point_that_is_not_reached_kills_nobody(ground: Ground) -> None:
    order = Kill("", "No such task", "Play", "two", 1, "before", 0.5, 0.0)
    report = ground.directory / "report.json"
    ended = ground.run(KUBEWRIGHT_CHAOS_KILL=order.order(str(report)))
    assert ended.returncode == 0, ended.stdout
    assert not report.exists()
    assert {"last-one", "last-two"} <= ground.reached


def test_the_killer_refuses_a_process_that_is_not_the_command(tmp_path: Path) -> None:
    words = [
        sys.executable,
        "-P",
        str(CHAOS / "killer.py"),
        "run",
        str(os.getpid()),
        str(tmp_path / "report"),
    ]
    ended = subprocess.run(
        words,
        env={**os.environ, "KUBEWRIGHT_CHAOS_KILL": "an order that this test was not given"},
        input="0 before\n",
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert ended.returncode == 1
    assert "it is not the command" in ended.stderr
    assert not (tmp_path / "report").exists()


def test_descendants_leave_out_machines_and_what_runs_in_them() -> None:
    parents = {
        2: (1, "kubewright"),
        3: (2, "ansible-playbook"),
        4: (3, "podman"),
        5: (4, "conmon"),
        6: (5, "systemd"),
        7: (3, "ssh"),
        8: (1, "sshd"),
    }
    assert descendants(2, parents) == {2, 3, 4, 7}


def _working_directories() -> set[Path]:
    """The working directories of all processes."""
    found = set()
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                found.add((entry / "cwd").readlink())
            except OSError:  # it has ended
                continue
    return found
