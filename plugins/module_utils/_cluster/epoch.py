# Copyright: the Kubewright authors
# Apache License 2.0 (see LICENSE or https://www.apache.org/licenses/LICENSE-2.0)
"""The epoch of a cluster's runs: a number that grows. Nodes refuse what an older one asks.

It is in ``store.json`` of the cluster's state, one JSON object. Who reads and writes it holds the
cluster's lock (`lease`).
"""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from ansible_collections.kubewright.cluster.plugins.module_utils._base import atomic
from ansible_collections.kubewright.cluster.plugins.module_utils._base.errors import KubewrightError
from ansible_collections.kubewright.cluster.plugins.module_utils._cluster import (
    claims,
    lease,
    schema,
    state,
)
from ansible_collections.kubewright.cluster.plugins.module_utils._cluster.claims import Claim
from ansible_collections.kubewright.cluster.plugins.module_utils._cluster.lease import Lease

OPERATION = "ansible-playbook"
SCHEMA = 1


@dataclass(frozen=True)
class Epoch:
    """What store.json says. `taken`: what the run took first, before `number` replaced it.

    `run`: whose it is, where the run took it without the command.
    """

    number: int = 0
    taken: int | None = None
    run: str = ""


@dataclass(frozen=True)
class Place:
    """Where a cluster's epoch and lock lie on the controller."""

    store: Path
    lock: Path


def check(place: Place, own: Claim, seen: Sequence[Claim], *, check_mode: bool) -> Claim:
    """The claim of a run whose epoch was taken by the command; *seen*: what the nodes know.

    Its epoch is a higher one when a node knows one that is higher, or another run with the same:
    then store.json is older than the nodes, because it was lost or restored, or because another
    controller does not use it. Raises `KubewrightError` when another run has taken an epoch since.
    """
    with _exclusive(place.lock, check_mode) as fd:
        stored = read(place.store, seen)
        if own.epoch not in (stored.number, stored.taken):
            raise KubewrightError(
                f"This run has epoch {own.epoch}, but {place.store} has epoch {stored.number} now: "
                f"{_holder(place.lock, fd) or 'another run'} has taken over. Nothing was "
                "changed. Run it again when that run has finished."
            )
        run = own.run or stored.run or claims.new_run_id()
        number = _above(Claim(stored.number, run), seen)
        after = Epoch(number, stored.taken if number == stored.number else own.epoch, run)
        if after != stored and not check_mode:
            write(place.store, after)
        return Claim(number, run)


def take(place: Place, pid: int, seen: Sequence[Claim], *, check_mode: bool, job: int = 0) -> Claim:
    """The claim of a run that nobody gave one, with the lease for process *pid*.

    The same process gets the same one again, or a higher epoch when a node knows that. Raises
    `KubewrightError` when another living process holds the lease; in check mode that is no
    obstacle, because nothing is written. *job*: the number of AWX's job, 0 for none.
    """
    with _exclusive(place.lock, check_mode) as fd:
        stored = read(place.store, seen)
        fresh = Claim(
            1 + max(stored.number, *(one.epoch for one in seen), 0), claims.new_run_id(job=job)
        )
        if check_mode:
            return fresh
        mine, found = _lease_of(pid), _holder(place.lock, fd)
        if found is not None and mine.is_of(found):
            run = stored.run or fresh.run
            claim = Claim(_above(Claim(stored.number, run), seen), run)
            mine = replace(mine, since=found.since)
        elif found is not None and found.is_held():
            raise KubewrightError(
                f"Another operation is running on this cluster: {found}. Nothing was changed. "
                f"Wait until it has finished; it holds {place.lock}."
            )
        else:
            claim = fresh
        # Before the lease: who has the lease has an epoch of his own.
        after = Epoch(claim.epoch, run=claim.run)
        if after != stored:
            write(place.store, after)
        lease.write(fd, mine)
        return claim


def read(path: Path, seen: Sequence[Claim] = ()) -> Epoch:
    """What store.json says; 0 when there is none. A damaged one is refused, never replaced.

    A smaller epoch than the nodes know would be refused by all of them. *seen*: what the nodes
    know, as far as they were asked.
    """
    newest = max((one.epoch for one in seen), default=0)
    asked = f" (of those this run has queried: {newest})" if seen else ""
    remedy = (
        'No node was changed. Write {"schema": 1, "epoch": N} into it, where N is the '
        f"largest number in {claims.EPOCH_PATH} on the nodes{asked}, then run it again."
    )
    try:
        data = json.loads(path.read_bytes())
    except FileNotFoundError:
        return Epoch()
    except (OSError, ValueError) as error:
        raise KubewrightError(f"{path} can't be read: {error}. {remedy}") from error
    if isinstance(data, dict) and data.get("schema") == SCHEMA:
        number, taken, run = data.get("epoch"), data.get("taken"), data.get("run", "")
        known = (taken is None or type(taken) is int) and isinstance(run, str)
        if type(number) is int and number >= 0 and known:
            return Epoch(number, taken, run)
    raise KubewrightError(f"{path} has no epoch of schema {SCHEMA}. {remedy}")


def write(path: Path, epoch: Epoch) -> None:
    """Keep it, in a directory of mode 0700 that is made when missing."""
    data: dict[str, int | str] = {"schema": SCHEMA, "epoch": epoch.number}
    if epoch.taken is not None:
        data["taken"] = epoch.taken
    if epoch.run:
        data["run"] = epoch.run
    if not path.parent.is_dir():
        atomic.make_directories(path.parent, mode=0o700)
    atomic.write_file(path, json.dumps(data).encode() + b"\n", mode=0o600)


def _above(own: Claim, seen: Sequence[Claim]) -> int:
    """The epoch of *own*, or one above what the nodes know where they would not obey it."""
    if all(own.is_over(one) for one in seen):
        return own.epoch
    return 1 + max(one.epoch for one in seen)


@contextlib.contextmanager
def _exclusive(path: Path, check_mode: bool) -> Iterator[int]:
    """Hold the lock's file, made when missing; gives a descriptor, -1 in check mode."""
    if check_mode:
        schema.CLUSTER.require(path.parent)
        yield -1
        return
    with state.locked(path.parent, check_mode):
        pass  # it is there from now on, and of the newest schema
    with contextlib.ExitStack() as stack:
        try:
            fd = stack.enter_context(lease.exclusive(path))
        except TimeoutError as error:
            raise KubewrightError(
                f"{path} was kept locked by another process for {lease.FILE_SECONDS:g} s, "
                "although it should take less than one. Find the process with fuser(1), stop it, "
                "and run it again."
            ) from error
        yield fd


def _holder(path: Path, fd: int) -> Lease | None:
    """Who is named in the lock's file; in check mode it is read without the lock."""
    if fd >= 0:
        return lease.read(fd)
    try:
        return Lease.parse(path.read_bytes())
    except FileNotFoundError:
        return None


def _lease_of(pid: int) -> Lease:
    try:
        return Lease.of(pid, OPERATION, lease.TTL_SECONDS)
    except ProcessLookupError as error:
        raise KubewrightError(
            f"ansible-playbook (pid {pid}) has exited; its run writes nothing."
        ) from error
