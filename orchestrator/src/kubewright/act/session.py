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
from kubewright.locations import ClusterPaths
from kubewright.store import Journal, Lock, Started
from kubewright.store.files import private_directory
from kubewright.store.journal import boot_id
from kubewright.store.runs import new_directory, new_run_id, prune


def _ignore(_: Event) -> None:
    """Do nothing."""


class Session:
    """Context manager for an operation. While it is entered no other one runs on the cluster.

    Entering raises :class:`kubewright.store.Locked` when another one does, and
    :class:`kubewright.act.LeftoverError` when processes of a dead one can't be ended. ``ended``
    then has the runs that a dead orchestrator had left unfinished.
    """

    def __init__(self, paths: ClusterPaths, operation: str) -> None:
        self.paths = paths
        self.operation = operation
        self.ended: tuple[str, ...] = ()
        self.cancel = threading.Event()
        self._journal = Journal(paths.journal)
        self._stack = ExitStack()

    def __enter__(self) -> Session:
        private_directory(self.paths.state)
        with ExitStack() as stack:
            stack.enter_context(Lock(self.paths.lock, self.operation))
            self._end_unfinished()
            self._stack = stack.pop_all()
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    def _end_unfinished(self) -> None:
        """End what a dead orchestrator left running. The lock says that none is alive."""
        ended = []
        for entry in self._journal.unfinished():
            # No process lives on from before a restart of the machine.
            if entry.boot_id == boot_id():
                leftovers.end(entry.run)
            self._journal.finished(entry.run, "abandoned")
            ended.append(entry.run)
        self.ended = tuple(ended)
        self._journal.trim()
        prune(self.paths.runs)

    def run(
        self,
        name: str,
        *,
        inventory: Path,
        extra_vars: Mapping[str, Any] | None = None,
        limit: str | None = None,
        on_event: Callable[[Event], None] = _ignore,
    ) -> Result:
        """Run a playbook, such as ``kubewright.cluster.site``, to its end or until cancelled.

        ``extra_vars`` show in the process list: nothing secret. ``on_event`` is called
        in another thread and may be slow.

        :raises LeftoverError: the run was cut short and left processes that can't be ended.
        """
        run = new_run_id()
        directory = new_directory(self.paths.runs, run)
        self._journal.started(Started.by_this_process(run, name, self.operation))
        order = playbook.Order(
            run=run,
            playbook=name,
            inventory=inventory.absolute(),
            directory=directory,
            extra_vars=extra_vars or {},
            limit=limit,
        )
        result = playbook.run(order, on_event, self.cancel)
        self._journal.finished(run, result.status)
        prune(self.paths.runs)
        return result
