# SPDX-License-Identifier: Apache-2.0
"""The epoch of an operation of the command, which nodes compare."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from kubewright.agreed import KubewrightError, epoch


class StoreError(Exception):
    """What is known of a cluster can't be used; the message names the file and says what to do."""


@contextmanager
def told() -> Iterator[None]:
    """Raise what the rules say of kept files as :class:`StoreError`."""
    try:
        yield
    except KubewrightError as error:
        raise StoreError(str(error)) from error


def next_epoch(path: Path) -> int:
    """Take the next epoch. Call it within :meth:`kubewright.store.Lock.guard`.

    An operation that was overtaken must not take one: it would be newer than the other's.

    :raises StoreError: the file is damaged.
    """
    with told():
        taken = epoch.Epoch(epoch.read(path).number + 1)
    epoch.write(path, taken)
    return taken.number
