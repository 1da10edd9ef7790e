# SPDX-License-Identifier: Apache-2.0
"""One operation a cluster: living, dead and stopped holders, and files that say nothing."""

from __future__ import annotations

import dataclasses
import fcntl
import json
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from kubewright.agreed import lease
from kubewright.store import Lock, Locked, Overtaken

Lease = lease.Lease

pytestmark = pytest.mark.timeout(60)


def awaited(condition: Callable[[], object], seconds: float = 30) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "waited in vain"
        time.sleep(0.02)


def entry(path: Path) -> Lease:
    found = Lease.parse(path.read_bytes())
    assert found is not None
    return found


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "lock"


@pytest.fixture
def other(path: Path) -> Iterator[Lease]:
    """A lease of a living process that is not this one."""
    process = subprocess.Popen(["sleep", "600"])
    yield Lease.of(process.pid, "destroy", 600)
    process.kill()
    process.wait()


def put(path: Path, found: Lease) -> None:
    path.write_text(json.dumps(dataclasses.asdict(found)))


def test_the_lock_is_exclusive_and_names_its_holder(path: Path) -> None:
    with Lock(path, "apply"):
        with pytest.raises(Locked) as caught, Lock(path, "destroy"):
            pass
        holder = caught.value.holder
        assert (holder.pid, holder.operation) == (os.getpid(), "apply")
        assert datetime.now(UTC) - datetime.fromisoformat(holder.since) < timedelta(minutes=1)
        assert str(holder).startswith(f"apply (pid {os.getpid()}, since 20")
    with Lock(path, "destroy"):
        assert entry(path).operation == "destroy"
    assert path.stat().st_mode & 0o777 == 0o600


def test_a_living_process_is_not_overtaken(path: Path, other: Lease) -> None:
    put(path, other)
    with pytest.raises(Locked) as caught, Lock(path, "apply"):
        pass
    assert caught.value.holder == other
    assert entry(path) == other


def test_the_lock_ends_with_its_process_and_not_with_its_children(path: Path) -> None:
    script = (
        "import subprocess, sys, os\n"
        "from pathlib import Path\n"
        "from kubewright.store import Lock\n"
        "with Lock(Path(sys.argv[1]), 'apply'):\n"
        "    nowhere = subprocess.DEVNULL\n"
        "    child = subprocess.Popen(['sleep', '600'], close_fds=False, stdout=nowhere)\n"
        "    print(child.pid, flush=True)\n"
        "    os.kill(os.getpid(), 9)\n"
    )
    process = subprocess.Popen(
        [sys.executable, "-c", script, str(path)], stdout=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    child = int(process.stdout.read())
    stat = Path(f"/proc/{process.pid}/stat")
    awaited(lambda: stat.read_text().rpartition(")")[2].split()[0] == "Z")
    try:
        with Lock(path, "destroy"):  # although its parent, which is this test, has not asked yet
            assert Path(f"/proc/{child}").exists()
    finally:
        os.kill(child, 9)
        process.wait()
        process.stdout.close()


@pytest.mark.parametrize(
    "change",
    [
        {"boot_id": "another-boot"},
        {"pid_started": 1},
        {"ttl": 0},
        {"renewed": -1e6},
        {"renewed": 1e12},
    ],
)
def test_who_does_not_hold_it_any_more(path: Path, other: Lease, change: dict[str, object]) -> None:
    assert other.is_held()
    put(path, dataclasses.replace(other, **change))  # type: ignore[arg-type]
    with Lock(path, "apply"):
        assert entry(path).pid == os.getpid()


@pytest.mark.parametrize(
    "change",
    [{"pid": "7"}, {"ttl": None}, {"renewed": True}, {"boot_id": 7}, {"since": 7}, {"since": "x"}],
)
def test_an_entry_of_other_types_is_none(other: Lease, change: dict[str, object]) -> None:
    whole = dataclasses.asdict(other)
    assert Lease.parse(json.dumps(whole).encode()) == other
    assert Lease.parse(json.dumps({**whole, **change}).encode()) is None


@pytest.mark.parametrize(
    "text", [b"", b"{", b"[]", b'{"pid": 1}', b"\xff\xfe", b"7", b'{}\n"ttl":']
)
def test_a_file_that_says_nothing_holds_nobody_off(path: Path, text: bytes) -> None:
    path.write_bytes(text)
    assert Lease.parse(text) is None
    with Lock(path, "apply"):
        assert entry(path).operation == "apply"


def test_a_lease_is_renewed_for_as_long_as_it_is_held(path: Path) -> None:
    with Lock(path, "apply", ttl=1) as held:
        begun = entry(path)
        awaited(lambda: entry(path).renewed - begun.renewed > 1.5)
        with pytest.raises(Locked), Lock(path, "destroy"):
            pass
        held.verify()
        assert entry(path).since == begun.since
    assert held.lost is None


HOLD = """\
import sys, threading
from pathlib import Path
from kubewright.store import Lock, Overtaken
told = threading.Event()
with Lock(Path(sys.argv[1]), 'apply', ttl=1, on_lost=told.set) as lock:
    print('held', flush=True)
    told.wait(60)
    print(lock.lost.operation, flush=True)
    try:
        lock.verify()
    except Overtaken as error:
        print(error, flush=True)
"""


@contextmanager
def stopped_holder(path: Path) -> Iterator[subprocess.Popen[str]]:
    """A process that holds the lock with a lease of 1 s, stopped for longer than that."""
    with subprocess.Popen(
        [sys.executable, "-c", HOLD, str(path)], stdout=subprocess.PIPE, text=True
    ) as process:
        try:
            assert process.stdout is not None
            assert process.stdout.readline() == "held\n"
            process.send_signal(signal.SIGSTOP)
            awaited(lambda: not entry(path).is_held())
            yield process
        finally:
            process.send_signal(signal.SIGKILL)


def test_a_stopped_process_is_overtaken_and_told_so(path: Path) -> None:
    with stopped_holder(path) as process, Lock(path, "destroy"):
        process.send_signal(signal.SIGCONT)
        lost, error = process.communicate(timeout=30)[0].splitlines()
        assert process.returncode == 0
        assert lost == "destroy"
        assert error.startswith(f"destroy (pid {os.getpid()}, since 20")
        assert "this apply stood still for longer than 1 s" in error
        assert "has written nothing since" in error
        assert entry(path).is_held(), "the one that was overtaken gives back nothing"
        assert entry(path).pid == os.getpid()


def test_a_stopped_process_is_told_also_when_the_other_has_ended(path: Path) -> None:
    with stopped_holder(path) as process:
        with Lock(path, "destroy"):
            pass
        process.send_signal(signal.SIGCONT)
        lost, error = process.communicate(timeout=30)[0].splitlines()
        assert lost == "destroy"
        assert error.startswith(f"destroy (pid {os.getpid()}, since 20")


def test_a_stopped_process_that_nobody_overtook_goes_on(path: Path) -> None:
    with stopped_holder(path) as process:
        process.send_signal(signal.SIGCONT)
        awaited(lambda: entry(path).is_held())
        with pytest.raises(Locked), Lock(path, "destroy"):
            pass


def test_who_was_overtaken_is_told_once_and_never_holds_it_again(path: Path, other: Lease) -> None:
    told: list[threading.Thread] = []
    held = Lock(path, "apply", ttl=1, on_lost=lambda: told.append(threading.current_thread()))
    with held:
        mine = entry(path)
        put(path, other)
        awaited(lambda: told)
        assert held.lost == other
        put(path, mine)
        for _ in range(2):
            with pytest.raises(Overtaken), held.guard():
                pytest.fail("the body must not be entered")
        assert entry(path) == mine, "nor is it renewed"
    assert [thread.name for thread in told] == ["lease"]


def test_a_file_that_somebody_removed_is_a_lost_lock(path: Path) -> None:
    with Lock(path, "apply") as held:
        path.unlink()
        with pytest.raises(Overtaken, match="another operation"):
            held.verify()


def test_nobody_overtakes_while_the_guard_is_held(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lease, "FILE_SECONDS", 0.2)
    with Lock(path, "apply", ttl=600) as held, held.guard():
        put(path, dataclasses.replace(entry(path), ttl=0))
        with pytest.raises(TimeoutError), Lock(path, "destroy"):
            pass


def test_a_process_that_keeps_the_file_is_named_as_a_fault(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Stopped in the very moment of its read and write: nobody waits for ever."""
    monkeypatch.setattr(lease, "FILE_SECONDS", 0.2)
    path.touch()
    with path.open("r+") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        with pytest.raises(TimeoutError, match=r"kept it locked for 0\.2 s") as caught:
            Lock(path, "apply").__enter__()
        assert caught.value.filename == str(path)
    monkeypatch.undo()
    with Lock(path, "apply"):  # the thread that went on waiting does not keep it
        pass


def test_another_ones_read_and_write_is_waited_for(path: Path) -> None:
    path.touch()
    entered = threading.Event()

    def enter() -> None:
        with Lock(path, "apply"):
            entered.set()

    with path.open("r+") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        thread = threading.Thread(target=enter)
        thread.start()
        awaited(lambda: any(one.name == "flock" for one in threading.enumerate()))
        assert not entered.is_set()
    thread.join(30)
    assert entered.is_set()


def test_a_renewal_that_failed_is_tried_again(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    failed = threading.Event()

    def full(*_: object) -> None:
        failed.set()
        raise OSError(28, "No space left on device", str(path))

    with Lock(path, "apply", ttl=0.4) as held:
        with monkeypatch.context() as patch:
            patch.setattr(lease, "write", full)
            assert failed.wait(30)
            with pytest.raises(OSError, match="No space"):
                held.verify()
        stale = entry(path).renewed
        awaited(lambda: entry(path).renewed > stale)
        assert held.lost is None


def test_a_directory_that_is_gone_is_no_error_in_the_end(tmp_path: Path) -> None:
    directory = tmp_path / "demo"
    directory.mkdir()
    with Lock(directory / "lock", "destroy"):
        shutil.rmtree(directory)
    assert not directory.exists()
