# Copyright: the Kubewright authors
# Apache License 2.0 (see LICENSE or https://www.apache.org/licenses/LICENSE-2.0)
"""One writer a node, and never an outdated one.

Each mutating module works inside `node_lock`. It holds a ``flock`` on ``/run/kubewright`` over
check and write; the kernel drops the lock when the last holder is gone, so a killed run leaves
nothing to clean up. Commands that the module starts inherit the descriptor (`Fence.pass_fds`):
as long as one of them runs, the next module waits.

Whoever has the lock and writes may write to the node's read-only places as well, see `sealed`.

Each run takes an epoch, a number higher than every earlier one. The node remembers the highest that
it has seen, and whose it is (`_cluster.claims`); a run with a lower one was overtaken and is
refused, and so is another one with the same. The first run that writes also records what the
machine was before (`_machine.before`). What is kept on a node is of one schema (`_cluster.schema`):
an older one is brought up before anybody writes, a newer one refused.
"""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ansible_collections.kubewright.cluster.plugins.module_utils._base import flock, limits
from ansible_collections.kubewright.cluster.plugins.module_utils._base.errors import KubewrightError
from ansible_collections.kubewright.cluster.plugins.module_utils._cluster import claims, schema
from ansible_collections.kubewright.cluster.plugins.module_utils._fence import sealed
from ansible_collections.kubewright.cluster.plugins.module_utils._machine import before

LOCK_DIRECTORY = Path("/run/kubewright")
EPOCH_LOCK_SECONDS = 30.0
NODE = "node"


class StaleEpoch(KubewrightError):
    """This node is another run's."""


class LockTimeout(KubewrightError):
    """Another process has had the lock for as long as the caller would wait.

    *holder*: which one, in words.
    """

    mark = "busy"

    def __init__(self, path: Path, holder: str) -> None:
        super().__init__(
            f"{path} is held by {holder}. Another run is working on this node: wait for it, "
            "or stop that process, then run it again."
        )
        self.marked = holder


class HolderHangs(KubewrightError):
    """The lock is a module's that should have ended itself long ago: so does this machine."""

    mark = "hung"


@dataclass(frozen=True)
class Fence:
    """A lock that is held: `pass_fds` goes to every command (none in check mode)."""

    pass_fds: tuple[int, ...]


@contextlib.contextmanager
def node_lock(
    claim: claims.Claim | None,
    timeout: float,
    *,
    limit: float = limits.WORK,
    check_mode: bool = False,
    scope: str = NODE,
    writes: bool = True,
    opens: bool = True,
) -> Iterator[Fence]:
    """Hold the node lock and the right to write by *claim* for the body.

    *claim*: the run's, None for a task without one (then only the lock is taken).
    *timeout*: seconds to wait for the lock. *limit*: seconds that the body may take; after that it
    hangs, and this process ends, and the lock with it. *check_mode*: nothing is locked or recorded,
    an old claim is refused all the same. *scope*: the lock's name; ``images`` lets an image import
    run beside the rest, everything else is ``node``. *writes*: False for one who only reads: where
    nobody has written since the machine booted, no lock is made for it. The first one who writes
    records what the machine was before (`_machine.before`). *opens*: whether the read-only places
    become writable for this process, until its end; False for one who has to unmount them for all.

    Raises `LockTimeout`, `HolderHangs`, `StaleEpoch`. Main thread only (the wait is ended by
    SIGALRM).
    """
    held = _held(claim, timeout, limit, check_mode, scope, writes, opens)
    with held as fence, limits.ends_within(limit):
        yield fence


@contextlib.contextmanager
def _held(
    claim: claims.Claim | None,
    timeout: float,
    limit: float,
    check_mode: bool,
    scope: str,
    writes: bool,
    opens: bool,
) -> Iterator[Fence]:
    # Nothing is read, either, that a newer Kubewright has written.
    schema.NODE.require(claims.EPOCH_PATH.parent)
    if check_mode:
        _refuse(claim, read_claim())
        yield Fence(())
        return
    if not writes and scope == NODE and not (LOCK_DIRECTORY / f"{NODE}.lock").exists():
        yield Fence(())
        return
    with _locked(LOCK_DIRECTORY / f"{scope}.lock", timeout, limit) as fd:
        if writes:
            _record(claim)
            if opens and scope == NODE:
                sealed.open_for_this_process()
        yield Fence((fd,))


def claim_of(params: Mapping[str, Any]) -> claims.Claim | None:
    """The claim of a task, from its ``epoch`` and ``run``; None where it has no epoch."""
    return claims.Claim.of(params)


def read_claim() -> claims.Claim:
    """Who has claimed this node last; epoch 0 when nobody did."""
    return claims.read(claims.EPOCH_PATH)


def _refuse(claim: claims.Claim | None, known: claims.Claim) -> None:
    if claim is not None and not claim.is_over(known):
        raise StaleEpoch(claims.refusal(claims.EPOCH_PATH, known, claim))


def _record(claim: claims.Claim | None) -> None:
    # A lock of its own, held for a moment: scopes share the one epoch file.
    with _locked(LOCK_DIRECTORY / "epoch.lock", EPOCH_LOCK_SECONDS, EPOCH_LOCK_SECONDS):
        known = read_claim()
        _refuse(claim, known)
        before.begin(claims.EPOCH_PATH.parent)
        # After it: that the directory is empty says that nobody has written here.
        schema.NODE.bring_up(claims.EPOCH_PATH.parent)
        if claim is not None and claim != known:
            claims.write(claims.EPOCH_PATH, claim)


@contextlib.contextmanager
def _locked(path: Path, timeout: float, limit: float) -> Iterator[int]:
    fd = _open(path)
    try:
        while True:
            if not flock.take(fd, 0):
                _refuse_hanging(path, fd)
                if not flock.take(fd, timeout):
                    raise LockTimeout(path, _told(path, fd))
            if _is_at(path, fd):
                break
            # Who held it has reset the node, and the file with it: nobody else waits for this one.
            stale, fd = fd, _open(path)
            os.close(stale)
        os.ftruncate(fd, 0)
        # Who is still there at the end of that time hangs, see `_refuse_hanging`.
        end = time.monotonic() + limit
        os.pwrite(fd, f"{os.getpid()} {limit:g} {end:.0f}\n".encode("ascii"), 0)
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


def _told(path: Path, own_fd: int) -> str:
    """Who holds *path*, for a message: "process 41 (python3), process 44 (kubeadm)".

    Where /proc cannot be read, the pid that the taker wrote into the file has to do.
    """
    pids = flock.holders(path)
    if pids:
        return ", ".join(f"process {pid} ({_name(pid)})" for pid in sorted(pids))
    taker, *_ = [*_written(own_fd), ""]
    return f"process {taker}" if taker else "an unknown process"


def _refuse_hanging(path: Path, own_fd: int) -> None:
    """Raise `HolderHangs` where the module that took *path* is over its time, and still has it.

    Only the kernel can have kept it from ending itself; it waits for a disk, say. The commands of a
    module that was killed, and a person's, have no such time: they are waited for.
    """
    match _written(own_fd):
        case [taker, limit, end]:
            late = time.monotonic() - float(end)
            if late > limits.MARGIN and int(taker) in flock.holders(path):
                raise HolderHangs(
                    f"{limits.hung(float(limit))}: process {taker} ({_name(int(taker))}), "
                    f"which has {path}, should have exited {late:.0f} s ago"
                )


def _written(own_fd: int) -> list[str]:
    """What the last taker has written: its pid, its limit in seconds, and their end."""
    return os.pread(own_fd, 64, 0).decode("ascii", "replace").split()


def _name(pid: int) -> str:
    try:
        return Path("/proc", str(pid), "comm").read_text("utf-8", "replace").strip()
    except OSError:
        return "gone"
