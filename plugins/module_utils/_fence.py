# Copyright: the Kubewright authors
# Apache License 2.0 (see LICENSE or https://www.apache.org/licenses/LICENSE-2.0)
"""Private to kubewright.cluster: one writer a node, and never an outdated one.

Each mutating module works inside `node_lock`. It holds a ``flock`` on ``/run/kubewright`` over
check and write; the kernel drops the lock when the last holder is gone, so a killed run leaves
nothing to clean up. Commands that the module starts inherit the descriptor (`Fence.pass_fds`):
as long as one of them runs, the next module waits.

Whoever has the lock and writes may write to the node's read-only places as well, see `_sealed`.

The epoch is a number that each run takes, higher than every earlier one. The node remembers the
highest it has seen; a run with a lower one was overtaken and is refused. The first run that writes
also records what the machine was before (`_before`).
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import signal
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from types import FrameType

from ansible_collections.kubewright.cluster.plugins.module_utils import (
    _atomic,
    _before,
    _sealed,
)
from ansible_collections.kubewright.cluster.plugins.module_utils._errors import KubewrightError

LOCK_DIRECTORY = Path("/run/kubewright")
EPOCH_PATH = Path("/var/lib/kubewright/epoch")
EPOCH_LOCK_SECONDS = 30.0
NODE = "node"


class StaleEpoch(KubewrightError):
    """A newer run has written to this node."""


class LockTimeout(KubewrightError):
    """Another process kept the lock for longer than the caller would wait."""


@dataclass(frozen=True)
class Fence:
    """A lock that is held: `pass_fds` goes to every command (none in check mode)."""

    pass_fds: tuple[int, ...]


@contextlib.contextmanager
def node_lock(
    epoch: int | None,
    timeout: float,
    *,
    check_mode: bool = False,
    scope: str = NODE,
    writes: bool = True,
    opens: bool = True,
) -> Iterator[Fence]:
    """Hold the node lock and the right to write with *epoch* for the body.

    *epoch*: the run's number, None for a run without one (then only the lock is taken).
    *timeout*: seconds to wait for the lock. *check_mode*: nothing is locked or recorded, an old
    epoch is refused all the same. *scope*: the lock's name; ``images`` lets an image import run
    beside the rest, everything else is ``node``. *writes*: False for one who only reads: where
    nobody has written since the machine booted, no lock is made for it. The first one who writes
    records what the machine was before (`_before`). *opens*: whether the read-only places become
    writable for this process, until its end; False for one who has to unmount them for all.

    Raises `LockTimeout`, `StaleEpoch`. Main thread only (the wait is ended by SIGALRM).
    """
    if check_mode:
        _refuse_older(epoch, read_epoch())
        yield Fence(())
        return
    if not writes and scope == NODE and not (LOCK_DIRECTORY / f"{NODE}.lock").exists():
        yield Fence(())
        return
    with _locked(LOCK_DIRECTORY / f"{scope}.lock", timeout) as fd:
        if writes:
            _record(epoch)
            if opens and scope == NODE:
                _sealed.open_for_this_process()
        yield Fence((fd,))


def read_epoch(path: Path | None = None) -> int:
    """The highest epoch that wrote to this node, 0 when none did."""
    path = path or EPOCH_PATH
    try:
        text = path.read_text("ascii")
    except FileNotFoundError:
        return 0
    try:
        return int(text)
    except ValueError as error:
        raise KubewrightError(
            f"{path} holds {text[:40]!r} instead of a number; write the epoch of the last run "
            f"into it (or remove it when no other run can be under way) and run again."
        ) from error


def _refuse_older(epoch: int | None, known: int) -> None:
    if epoch is not None and epoch < known:
        raise StaleEpoch(
            f"This run has epoch {epoch}, but a run with epoch {known} has written to this node "
            f"since ({EPOCH_PATH}). Nothing was changed. Start again to take a new epoch."
        )


def _record(epoch: int | None) -> None:
    # A lock of its own, held for a moment: scopes share the one epoch file.
    with _locked(LOCK_DIRECTORY / "epoch.lock", EPOCH_LOCK_SECONDS):
        known = read_epoch()
        _refuse_older(epoch, known)
        _before.begin(EPOCH_PATH.parent)
        if epoch is not None and epoch > known:
            _atomic.make_directories(EPOCH_PATH.parent)
            _atomic.write_file(EPOCH_PATH, f"{epoch}\n".encode("ascii"), mode=0o644)


@contextlib.contextmanager
def _locked(path: Path, timeout: float) -> Iterator[int]:
    fd = _open(path)
    try:
        while True:
            if not flock_within(fd, timeout):
                raise LockTimeout(
                    f"{path} was held by {_holders(path, fd)} for more than {timeout:g} s. Another "
                    "run is at work on this node: wait for it, or end that process, then run again."
                )
            if _is_at(path, fd):
                break
            # Who held it has reset the node, and the file with it: nobody else waits for this one.
            stale, fd = fd, _open(path)
            os.close(stale)
        os.ftruncate(fd, 0)
        os.pwrite(fd, f"{os.getpid()}\n".encode("ascii"), 0)
        os.set_inheritable(fd, True)
        yield fd
    finally:
        os.close(fd)


def _open(path: Path) -> int:
    path.parent.mkdir(mode=0o755, parents=True, exist_ok=True)
    return os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)


def _is_at(path: Path, fd: int) -> bool:
    try:
        return os.path.samestat(os.fstat(fd), path.lstat())
    except FileNotFoundError:
        return False


class _Expired(Exception):
    """The alarm rang while waiting."""


def flock_within(fd: int, timeout: float) -> bool:
    """Take an exclusive ``flock`` on *fd* within *timeout* seconds; False when time ran out.

    The kernel waits, not a loop; SIGALRM ends the wait. Main thread only when it has to wait.
    """
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        return True
    except BlockingIOError:
        if timeout <= 0:
            return False
    waiting = True

    def expired(_signum: int, _frame: FrameType | None) -> None:
        if waiting:
            raise _Expired

    previous = signal.signal(signal.SIGALRM, expired)
    try:
        signal.setitimer(signal.ITIMER_REAL, timeout)
        fcntl.flock(fd, fcntl.LOCK_EX)
        waiting = False
        return True
    except _Expired:
        return False
    finally:
        waiting = False
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, previous)


def _holders(path: Path, own_fd: int) -> str:
    """Who holds *path*, for a message: "process 41 (python3), process 44 (kubeadm)".

    The kernel marks the descriptors that hold a lock in ``fdinfo``. Where /proc cannot be read,
    the pid that the taker wrote into the file has to do.
    """
    pids = []
    for process in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            for fd in (process / "fd").iterdir():
                if str(fd.readlink()) == str(path):
                    if "FLOCK" in (process / "fdinfo" / fd.name).read_text("ascii", "replace"):
                        pids.append(int(process.name))
                    break
    if pids:
        return ", ".join(f"process {pid} ({_name(pid)})" for pid in sorted(pids))
    taker = os.pread(own_fd, 32, 0).decode("ascii", "replace").strip()
    return f"process {taker}" if taker else "an unknown process"


def _name(pid: int) -> str:
    try:
        return Path("/proc", str(pid), "comm").read_text("utf-8", "replace").strip()
    except OSError:
        return "gone by now"
