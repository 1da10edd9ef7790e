# SPDX-License-Identifier: Apache-2.0
"""Which system images a cluster's nodes were given, so that no other one's cleaning takes them."""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path

from kubewright.locations import ClusterPaths
from kubewright.store.epoch import StoreError
from kubewright.store.files import replace

SCHEMA = 1


def given(path: Path) -> frozenset[str]:
    """Return the digests that are written down in a cluster's ``images.json``; none without it.

    :raises StoreError: it is damaged. Nobody can say then what is needed.
    """
    try:
        data = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return frozenset()
    except (OSError, ValueError) as error:
        raise StoreError(f"{path}: can't be read: {error}; {_REMEDY}") from error
    digests = data.get("digests") if isinstance(data, dict) else None
    if not isinstance(digests, list) or data.get("schema") != SCHEMA:
        raise StoreError(f"{path}: has no digests of schema {SCHEMA}; {_REMEDY}")
    return frozenset(map(str, digests))


_REMEDY = "remove it; 'kubewright apply' writes it again"


def note(path: Path, digests: Iterable[str], *, only: bool = False) -> None:
    """Write down digests that nodes are given; with ``only``, they are all that counts from now on.

    :raises StoreError: what is there is damaged.
    """
    whole = set(digests) | (set() if only else given(path))
    replace(path, json.dumps({"schema": SCHEMA, "digests": sorted(whole)}) + "\n")


def clusters(root: Path) -> dict[str, frozenset[str]]:
    """Return the digests that each cluster below the root of all states was given, by its name.

    One that has no identity any more is gone.

    :raises StoreError: one of the records is damaged.
    """
    records = (ClusterPaths(state).images for state in sorted(root.glob("*")))
    return {
        path.parent.name: given(path)
        for path in records
        if path.exists() and ClusterPaths(path.parent).identity.is_dir()
    }
