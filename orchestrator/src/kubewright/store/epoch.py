# SPDX-License-Identifier: Apache-2.0
"""The epoch: a number that grows with each operation. Nodes refuse what an older one asks."""

from __future__ import annotations

import json
from pathlib import Path

from kubewright.store.files import replace

SCHEMA = 1


class StoreError(Exception):
    """store.json can't be used; the message names the file and says what to do."""


def current_epoch(path: Path) -> int:
    """Return the epoch that was taken last; 0 when none was.

    :raises StoreError: the file is damaged. It is not replaced by itself: a smaller epoch than
        the nodes know would be refused by all of them.
    """
    try:
        data = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return 0
    except (OSError, ValueError) as error:
        raise StoreError(f"{path}: can't be read: {error}; {_REMEDY}") from error
    epoch = data.get("epoch") if isinstance(data, dict) and data.get("schema") == SCHEMA else None
    if not isinstance(epoch, int) or isinstance(epoch, bool) or epoch < 0:
        raise StoreError(f"{path}: has no epoch of schema {SCHEMA}; {_REMEDY}")
    return epoch


_REMEDY = (
    'write {"schema": 1, "epoch": N} into it, N being the largest number in '
    "/var/lib/kubewright/epoch of the nodes"
)


def next_epoch(path: Path) -> int:
    """Take the next epoch. Call it within :meth:`kubewright.store.Lock.guard`.

    An operation that was overtaken must not take one: it would be newer than the other's.
    """
    epoch = current_epoch(path) + 1
    replace(path, json.dumps({"schema": SCHEMA, "epoch": epoch}) + "\n")
    return epoch
