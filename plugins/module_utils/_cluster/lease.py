# Copyright: the Kubewright authors
# Apache License 2.0 (see LICENSE or https://www.apache.org/licenses/LICENSE-2.0)
"""One run a cluster on the controller, and the run's epoch.

The lock's file is one JSON object: `pid`, `pid_started` (field 22 of ``/proc/<pid>/stat``),
`boot_id`, `operation`, `since` (UTC, ISO 8601), `ttl` (seconds that the lease holds after
`renewed`; 0 when it was given back) and `renewed` (seconds of ``CLOCK_BOOTTIME``). A ``flock`` on
it guards one read and write at a time. ``kubewright.store.lease`` of the command reads and writes
the same, and so it is for ``store.json``, where the epoch is.

A plain ``ansible-playbook`` cannot renew its lease itself: ``plugin_utils/_lease_keeper`` does.
"""

from __future__ import annotations

import contextlib
import datetime
import json
import os
import secrets
import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path
from typing import Any

from ansible_collections.kubewright.cluster.plugins.module_utils._base import atomic, flock
from ansible_collections.kubewright.cluster.plugins.module_utils._base.errors import KubewrightError
from ansible_collections.kubewright.cluster.plugins.module_utils._cluster import claims
from ansible_collections.kubewright.cluster.plugins.module_utils._cluster.claims import Claim

OPERATION = "ansible-playbook"
# As the command's: one that stands still for so long can be overtaken. It ends with the process.
TTL_SECONDS = 30.0
FILE_SECONDS = 10.0
SCHEMA = 1
_MAX_BYTES = 1 << 16


@dataclass(frozen=True)
class Lease:
    """An entry of the lock's file; the fields are those of the file."""

    pid: int
    pid_started: int
    boot_id: str
    operation: str
    since: str
    ttl: float
    renewed: float

    def __str__(self) -> str:
        since = datetime.datetime.fromisoformat(self.since).astimezone(datetime.timezone.utc)
        return f"{self.operation} (pid {self.pid}, since {since:%Y-%m-%d %H:%M:%S} UTC)"

    def is_held(self) -> bool:
        """Whether its process lives and has renewed it in time."""
        return (
            self.boot_id == _boot_id()
            and 0 <= _uptime() - self.renewed < self.ttl
            and _started(self.pid) == self.pid_started
        )


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


def new_run_id(job: int = 0) -> str:
    """An id that no other run has: when it began, or which job of AWX (*job*) it is."""
    now = datetime.datetime.now(datetime.timezone.utc)
    begun = f"awx-{job}" if job else f"{now:%Y%m%dT%H%M%S}"
    return f"{begun}-{secrets.token_hex(4)}"


def check_epoch(place: Place, own: Claim, seen: Sequence[Claim], *, check_mode: bool) -> Claim:
    """The claim of a run whose epoch was taken by the command; *seen*: what the nodes know.

    Its epoch is a higher one when a node knows one that is higher, or another run with the same:
    then store.json is older than the nodes, because it was lost or restored, or because another
    controller does not use it. Raises `KubewrightError` when another run has taken an epoch since.
    """
    with _exclusive(place.lock, check_mode) as fd:
        stored = read_epoch(place.store, seen)
        if own.epoch not in (stored.number, stored.taken):
            raise KubewrightError(
                f"This run has epoch {own.epoch}, but {place.store} has epoch {stored.number} by "
                f"now: {_read(place.lock, fd) or 'another run'} has taken over. Nothing was "
                "changed. Start again when it has ended."
            )
        run = own.run or stored.run or new_run_id()
        number = _above(Claim(stored.number, run), seen)
        after = Epoch(number, stored.taken if number == stored.number else own.epoch, run)
        if after != stored and not check_mode:
            _write_epoch(place.store, after)
        return Claim(number, run)


def take_epoch(
    place: Place, pid: int, seen: Sequence[Claim], *, check_mode: bool, job: int = 0
) -> Claim:
    """The claim of a run that nobody gave one, with the lease for process *pid*.

    The same process gets the same one again, or a higher epoch when a node knows that. Raises
    `KubewrightError` when another living process holds the lease; in check mode that is no
    obstacle, because nothing is written. *job*: the number of AWX's job, 0 for none.
    """
    with _exclusive(place.lock, check_mode) as fd:
        stored = read_epoch(place.store, seen)
        fresh = Claim(1 + max(stored.number, *(one.epoch for one in seen), 0), new_run_id(job))
        if check_mode:
            return fresh
        mine, found = _lease_of(pid), _read(place.lock, fd)
        if found is not None and _key(found) == _key(mine):
            run = stored.run or fresh.run
            claim = Claim(_above(Claim(stored.number, run), seen), run)
            mine = replace(mine, since=found.since)
        elif found is not None and found.is_held():
            raise KubewrightError(
                f"Another operation runs on this cluster: {found}. Nothing was changed. "
                f"Wait until it has ended; it holds {place.lock}."
            )
        else:
            claim = fresh
        # Before the lease: who has the lease has an epoch of his own.
        after = Epoch(claim.epoch, run=claim.run)
        if after != stored:
            _write_epoch(place.store, after)
        _write(fd, mine)
        return claim


def read_epoch(path: Path, seen: Sequence[Claim] = ()) -> Epoch:
    """What store.json says; 0 when there is none. A damaged one is refused, never replaced.

    *seen*: what the nodes know, as far as they were asked.
    """
    newest = max((one.epoch for one in seen), default=0)
    asked = f" (those that this run has asked: {newest})" if seen else ""
    remedy = (
        'No node was changed. Write {"schema": 1, "epoch": N} into it, N being the largest number '
        f"in {claims.EPOCH_PATH} of the nodes{asked}, then run the same again."
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


def _above(own: Claim, seen: Sequence[Claim]) -> int:
    """The epoch of *own*, or one above what the nodes know where they would not obey it."""
    if all(own.is_over(one) for one in seen):
        return own.epoch
    return 1 + max(one.epoch for one in seen)


def _write_epoch(path: Path, epoch: Epoch) -> None:
    data: dict[str, int | str] = {"schema": SCHEMA, "epoch": epoch.number}
    if epoch.taken is not None:
        data["taken"] = epoch.taken
    if epoch.run:
        data["run"] = epoch.run
    if not path.parent.is_dir():
        atomic.make_directories(path.parent, mode=0o700)
    atomic.write_file(path, json.dumps(data).encode() + b"\n", mode=0o600)


@contextlib.contextmanager
def _exclusive(path: Path, check_mode: bool) -> Iterator[int]:
    """Hold the lock's file, made when missing; gives a descriptor, -1 in check mode."""
    if check_mode:
        yield -1
        return
    if not path.parent.is_dir():
        atomic.make_directories(path.parent, mode=0o700)
    fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        if not flock.take(fd, FILE_SECONDS):
            raise KubewrightError(
                f"{path} was kept locked by another process for {FILE_SECONDS:g} s, which takes "
                "well below one. Find the process with fuser(1), end it, and run again."
            )
        yield fd
    finally:
        os.close(fd)


def parse(text: bytes) -> Lease | None:
    """What the lock's file says; None when it says nothing, or was cut while it was written."""
    try:
        data: Any = json.loads(text)
        found = Lease(**{field.name: data[field.name] for field in fields(Lease)})
        datetime.datetime.fromisoformat(found.since)
    except (ValueError, KeyError, TypeError):
        return None
    whole = all(type(value) is int for value in (found.pid, found.pid_started))
    numbers = all(type(value) in (int, float) for value in (found.ttl, found.renewed))
    words = all(isinstance(value, str) for value in (found.boot_id, found.operation))
    return found if whole and numbers and words else None


def renew(path: Path, pid: int, started: int) -> bool:
    """Let the lease of a process begin anew; False where it has it no more."""
    try:
        fd = os.open(path, os.O_RDWR | os.O_CLOEXEC)
    except FileNotFoundError:
        return False
    try:
        if not flock.take(fd, FILE_SECONDS):
            return True  # the next look is soon
        found = _read(path, fd)
        if found is None or _key(found) != (_boot_id(), pid, started):
            return False
        _write(fd, replace(found, renewed=_uptime()))
        return True
    finally:
        os.close(fd)


def _read(path: Path, fd: int) -> Lease | None:
    if fd >= 0:
        return parse(os.pread(fd, _MAX_BYTES, 0))
    try:
        return parse(path.read_bytes())
    except FileNotFoundError:
        return None


def _write(fd: int, lease: Lease) -> None:
    data = json.dumps(asdict(lease)).encode() + b"\n"
    os.pwrite(fd, data, 0)
    os.ftruncate(fd, len(data))


def _lease_of(pid: int) -> Lease:
    started = _started(pid)
    if started is None:
        raise KubewrightError(f"ansible-playbook (pid {pid}) has ended; its run writes nothing.")
    since = datetime.datetime.now(datetime.timezone.utc).isoformat(timespec="seconds")
    return Lease(pid, started, _boot_id(), OPERATION, since, TTL_SECONDS, _uptime())


def _key(lease: Lease) -> tuple[str, int, int]:
    return lease.boot_id, lease.pid, lease.pid_started


def _started(pid: int) -> int | None:
    """When a process started, in clock ticks since boot; None for one that is gone."""
    state, started = process(pid)
    return None if state in "ZX" else started


def process(pid: int) -> tuple[str, int]:
    """A process's state (one letter) and when it started, see proc(5); X where there is none."""
    try:
        text = Path(f"/proc/{pid}/stat").read_text("utf-8", "replace")
    except OSError:
        return "X", 0
    # The second field is the name in parentheses, which may hold blanks and parentheses.
    fields_of_stat = text.rpartition(")")[2].split()
    return fields_of_stat[0], int(fields_of_stat[19])


def _boot_id() -> str:
    return Path("/proc/sys/kernel/random/boot_id").read_text("ascii").strip()


def _uptime() -> float:
    return round(time.clock_gettime(time.CLOCK_BOOTTIME), 3)
