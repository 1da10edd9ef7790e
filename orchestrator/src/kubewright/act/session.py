# SPDX-License-Identifier: Apache-2.0
"""One operation on one cluster: lock, leftovers of dead runs, journal, runs."""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from kubewright.act import leftovers, playbook
from kubewright.act.events import Event
from kubewright.act.result import Result
from kubewright.agreed import claims, lease, schema, state
from kubewright.locations import ClusterPaths
from kubewright.store import Journal, Lock, Started, next_epoch
from kubewright.store.epoch import told
from kubewright.store.files import private_directory
from kubewright.store.runs import new_directory, prune

#: How many runs' records are kept of those that only read.
READS_KEPT = 5


def _ignore(_: Event) -> None:
    """Do nothing."""


class Session:
    """Context manager for an operation. While it is entered no other one runs on the cluster.

    Entering raises :class:`kubewright.store.Locked` when another one does,
    :class:`kubewright.store.StoreError` when the state is of a newer Kubewright, and
    :class:`kubewright.act.LeftoverError` when processes of a dead one can't be ended. ``ended``
    then has the runs that a dead orchestrator had left unfinished. ``reads``: its runs change
    nothing; they are no part of the cluster's history, and the records of a few are kept.

    An operation that stands still for longer than ``lease_seconds`` can be overtaken. Its run is
    then cancelled, and everything here raises :class:`kubewright.store.Overtaken`.
    """

    def __init__(
        self,
        paths: ClusterPaths,
        operation: str,
        *,
        reads: bool = False,
        lease_seconds: float = lease.TTL_SECONDS,
    ) -> None:
        self.paths = paths
        self.operation = operation
        self.reads = reads
        self.ended: tuple[str, ...] = ()
        self.cancel = threading.Event()
        self._lock = Lock(paths.lock, operation, ttl=lease_seconds, on_lost=self.cancel.set)
        self._journal = Journal(paths.journal)
        self._stack = ExitStack()

    def __enter__(self) -> Session:
        with told():
            schema.CLUSTER.require(self.paths.state)
        private_directory(self.paths.state)
        with ExitStack() as stack:
            stack.enter_context(self._lock)
            with told(), self._lock.guard(), state.locked(self.paths.state, check_mode=False):
                pass  # it is of the newest schema from now on
            self._end_unfinished()
            self._stack = stack.pop_all()
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    def _end_unfinished(self) -> None:
        """End what an orchestrator left running that is dead, or that this one has overtaken."""
        ended = []
        # Within the guard: a run that has begun since this one was overtaken is not a leftover.
        with self._lock.guard():
            unfinished = self._journal.unfinished()
        for entry in unfinished:
            # No process lives on from before a restart of the machine.
            if entry.boot_id == lease.boot_id():
                leftovers.end(entry.run)
            with self._lock.guard():
                self._journal.finished(entry.run, "abandoned")
            ended.append(entry.run)
        self.ended = tuple(ended)
        with self._lock.guard():
            self._journal.trim()
            self._prune()

    def _prune(self) -> None:
        order = [line["run"] for line in self._journal.lines()]
        prune(self.paths.runs, order)
        prune(self.paths.reads, order, READS_KEPT)

    @property
    def newest(self) -> str:
        """The id of the run that may have changed something last, "" for none."""
        return self._journal.newest()

    def next_epoch(self) -> int:
        """Take the next epoch, for the run that is to come.

        :raises Overtaken: another operation has the cluster by now.
        :raises StoreError: store.json is damaged.
        """
        with self._lock.guard():
            return next_epoch(self.paths.store)

    def run(
        self,
        name: str,
        *,
        inventory: Path,
        extra_vars: Mapping[str, Any] | None = None,
        limit: str | None = None,
        options: tuple[str, ...] = (),
        on_event: Callable[[Event], None] = _ignore,
    ) -> Result:
        """Run a playbook, such as ``kubewright.cluster.site``, to its end or until cancelled.

        ``extra_vars`` show in the process list: nothing secret. ``options``: more words for
        ansible-playbook, such as ``--check``. ``on_event`` is called in another thread and may be
        slow.

        :raises LeftoverError: the run was cut short and left processes that can't be ended.
        :raises Overtaken: another operation has the cluster by now; it has ended the run, and
            has said so in the journal.
        """
        run = claims.new_run_id()
        with self._lock.guard():
            directory = new_directory(self.paths.reads if self.reads else self.paths.runs, run)
            self._journal.started(
                Started.by_this_process(run, name, self.operation, reads=self.reads)
            )
        order = playbook.Order(
            run=run,
            playbook=name,
            inventory=inventory.absolute(),
            directory=directory,
            extra_vars=extra_vars or {},
            limit=limit,
            options=options,
        )
        result = playbook.run(order, on_event, self.cancel)
        with self._lock.guard():
            self._journal.finished(run, result.status)
            self._prune()
        return result
