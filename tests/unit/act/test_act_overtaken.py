# SPDX-License-Identifier: Apache-2.0
"""A command that is stopped holds nobody off: it is overtaken, and writes nothing afterwards."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from kubewright.act import Session, leftovers
from kubewright.agreed import lease
from kubewright.locations import ClusterPaths
from kubewright.store import Journal, Overtaken, Started

pytestmark = [
    pytest.mark.timeout(120),
    pytest.mark.skipif(
        not (Path(sys.prefix) / "bin" / "ansible-playbook").exists(), reason="needs ansible-core"
    ),
]

#: Each task says that it runs, and waits to be allowed to end.
WAITING = """\
- name: Wait
  hosts: all
  gather_facts: false
  tasks:
    - name: Wait long
      ansible.builtin.shell: |
        mkfifo {directory}/{{{{ inventory_hostname }}}}
        cat {directory}/{{{{ inventory_hostname }}}} && touch {directory}/written
"""

ORCHESTRATOR = """\
import sys
from pathlib import Path
from kubewright.act import Session
from kubewright.locations import ClusterPaths
from kubewright.store import Overtaken
paths = ClusterPaths(Path(sys.argv[1]))
try:
    with Session(paths, "apply", lease_seconds=1) as session:
        session.next_epoch()
        session.run(sys.argv[2], inventory=Path(sys.argv[3]))
except Overtaken as error:
    print(error, flush=True)
    sys.exit(5)
"""


def awaited(condition: Callable[[], object], seconds: float = 30) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "waited in vain"
        time.sleep(0.05)


def processes(run: str) -> list[int]:
    system = leftovers.System()
    found = system.of_run(run)
    system.close(found)
    return [process.pid for process in found]


def expired(paths: ClusterPaths) -> bool:
    entry = lease.Lease.parse(paths.lock.read_bytes())
    return entry is not None and not entry.is_held()


@contextmanager
def apply_under_way(
    paths: ClusterPaths, inventory: Path, name: str, directory: Path
) -> Iterator[tuple[subprocess.Popen[str], str]]:
    """An orchestrator with a lease of 1 s whose two tasks wait, and the id of its run."""
    directory.mkdir()
    command = [sys.executable, "-c", ORCHESTRATOR, str(paths.state), name, str(inventory)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as orchestrator:
        try:
            awaited(lambda: len(list(directory.iterdir())) == 2, 60)
            (entry,) = Journal(paths.journal).unfinished()
            yield orchestrator, entry.run
        finally:
            orchestrator.send_signal(signal.SIGKILL)


@pytest.mark.parametrize("with_its_run", [False, True])
def test_a_stopped_apply_is_overtaken_with_its_run(
    paths: ClusterPaths,
    inventory: Path,
    playbook: Callable[[str], str],
    tmp_path: Path,
    with_its_run: bool,
) -> None:
    directory = tmp_path / "waiting"
    name = playbook(WAITING.format(directory=directory))
    with apply_under_way(paths, inventory, name, directory) as (orchestrator, run):
        orchestrator.send_signal(signal.SIGSTOP)
        for pid in processes(run) if with_its_run else []:
            os.kill(pid, signal.SIGSTOP)
        awaited(lambda: expired(paths))
        begun = time.monotonic()
        with Session(paths, "destroy") as session:
            assert time.monotonic() - begun < 20
            assert session.ended == (run,)
            assert processes(run) == []
            assert session.next_epoch() == 2
            before = paths.journal.read_bytes()
            orchestrator.send_signal(signal.SIGCONT)
            told = orchestrator.communicate(timeout=60)[0]
            assert orchestrator.returncode == 5, told
            assert told.startswith(f"destroy (pid {os.getpid()}, since 20")
            assert "this apply stood still for longer than 1 s" in told
            session.next_epoch()  # the one that was overtaken did not give back this lock
        assert paths.journal.read_bytes() == before
        assert not (directory / "written").exists()
    assert [json.loads(line)["event"] for line in before.splitlines()] == ["started", "finished"]
    assert json.loads(before.splitlines()[1])["status"] == "abandoned"


@pytest.fixture
def overtaken(paths: ClusterPaths) -> Iterator[Session]:
    """A session that lost its lock between two steps."""
    with Session(paths, "apply") as session:
        paths.lock.write_text("{}")
        yield session


def test_who_was_overtaken_takes_no_epoch(paths: ClusterPaths, overtaken: Session) -> None:
    """It would be newer than the other's, and nodes would obey it."""
    with pytest.raises(Overtaken):
        overtaken.next_epoch()
    assert not paths.store.exists()
    assert overtaken.cancel.is_set()


def test_who_was_overtaken_starts_no_run(
    paths: ClusterPaths, inventory: Path, playbook: Callable[[str], str], overtaken: Session
) -> None:
    with pytest.raises(Overtaken):
        overtaken.run(playbook("[]"), inventory=inventory)
    assert not paths.runs.exists()
    assert not paths.journal.exists()


def test_who_is_overtaken_while_ending_leftovers_ends_no_more(
    paths: ClusterPaths, monkeypatch: pytest.MonkeyPatch
) -> None:
    paths.state.mkdir(parents=True)
    journal = Journal(paths.journal)
    for run in ("run-a", "run-b"):
        journal.started(Started.by_this_process(run, "site", "apply"))
    ended = []

    def end(run: str) -> int:
        ended.append(run)
        paths.lock.write_text("{}")
        return 0

    monkeypatch.setattr(leftovers, "end", end)
    with pytest.raises(Overtaken), Session(paths, "apply"):
        pass
    assert ended == ["run-a"]
    assert [entry.run for entry in journal.unfinished()] == ["run-a", "run-b"]
