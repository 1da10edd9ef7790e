# SPDX-License-Identifier: Apache-2.0
"""One operation at a time on a cluster, across processes.

The lock is a lease: it ends with its process, and when its process stands still (SIGSTOP, a
suspended virtual machine) it runs out, so that another command can overtake. The one that was
overtaken is told at its next look, and writes nothing any more.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType

from kubewright.agreed import lease


class Locked(Exception):
    """Another operation runs on this cluster."""

    def __init__(self, path: Path, holder: lease.Lease) -> None:
        super().__init__(f"{holder} holds {path}")
        self.path = path
        self.holder = holder


class Overtaken(Exception):
    """Another operation took the lock while this one stood still.

    ``by``: whose lease is there now, if one is. ``seconds``: how long ours held.
    """

    def __init__(self, path: Path, operation: str, by: lease.Lease | None, seconds: float) -> None:
        super().__init__(
            f"{by or 'another operation'} has taken over this cluster, because this "
            f"{operation} stood still for longer than {seconds:g} s. It has written nothing since "
            "then."
        )
        self.path = path
        self.by = by


def _ignore() -> None:
    """Do nothing."""


class Lock:
    """Context manager that holds a cluster's lock. Entering it raises :class:`Locked`.

    While it is entered a thread renews the lease every quarter of ``ttl`` seconds. When another
    operation has overtaken, ``lost`` is its lease, if it is still there, and ``on_lost`` has been
    called, once, in the thread that found out.
    """

    def __init__(
        self,
        path: Path,
        operation: str,
        *,
        ttl: float = lease.TTL_SECONDS,
        on_lost: Callable[[], None] = _ignore,
    ) -> None:
        self.path = path
        self.operation = operation
        self.ttl = ttl
        self.lost: lease.Lease | None = None
        self._is_lost = False
        self._on_lost = on_lost
        self._lease: lease.Lease | None = None
        self._losing = threading.Lock()
        self._released = threading.Event()
        self._thread = threading.Thread(target=self._keep, name="lease", daemon=True)

    def __enter__(self) -> Lock:
        with lease.exclusive(self.path) as descriptor:
            found = lease.read(descriptor)
            if found is not None and found.is_held():
                raise Locked(self.path, found)
            self._lease = lease.Lease.of(os.getpid(), self.operation, self.ttl)
            lease.write(descriptor, self._lease)
        self._thread.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._released.set()
        self._thread.join()
        mine, self._lease = self._lease, None
        try:
            with lease.exclusive(self.path) as descriptor:
                if mine is not None and mine.is_of(lease.read(descriptor)):
                    lease.write(descriptor, mine.give_back())
        except FileNotFoundError:
            pass  # the cluster's directory is gone, and the lease with it

    def verify(self) -> None:
        """Look whether the lock is still held, and renew it. Any thread may ask.

        :raises Overtaken: it is not, and never will be again.
        """
        with self.guard():
            pass

    @contextmanager
    def guard(self) -> Iterator[None]:
        """Verify, and let nobody overtake until the body has ended. It should be short.

        :raises Overtaken: the lock was lost; the body is not entered.
        """
        if self._lease is None:
            raise RuntimeError(f"the lock {self.path} is not held")
        with lease.exclusive(self.path) as descriptor:
            found = lease.read(descriptor)
            held = not self._is_lost and self._lease.is_of(found)
            if held:
                lease.write(descriptor, self._lease.renew())
                yield
        if not held:
            raise self._overtaken(found)

    def _overtaken(self, found: lease.Lease | None) -> Overtaken:
        with self._losing:
            first = not self._is_lost
            self._is_lost = True
            # Whoever overtook may be done already, and the next one may be there.
            self.lost = self.lost or found
        if first:
            self._on_lost()
        return Overtaken(self.path, self.operation, self.lost, self.ttl)

    def _keep(self) -> None:
        while not self._released.wait(self.ttl / 4):
            try:
                self.verify()
            except Overtaken:
                return
            except OSError:
                # Such as a full disk: tried again, and told by whoever verifies before a write.
                continue
