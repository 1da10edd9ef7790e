# SPDX-License-Identifier: Apache-2.0
"""Which cluster.yml a state directory is of: its name alone is nobody's.

Two people call theirs prod. The collection writes the file's path into record.json (its module
cluster_record) before the first machine is made; here it is compared before anything is done.
"""

from __future__ import annotations

from pathlib import Path

import yaml

from kubewright.agreed import record, schema, state
from kubewright.locations import ClusterPaths
from kubewright.store.epoch import told


class ForeignState(Exception):
    """The state is another file's. ``remedy``: what to do about it."""

    def __init__(self, paths: ClusterPaths, cluster: str, file: Path, other: Path) -> None:
        super().__init__(
            f"{paths.state} is the state of another cluster called {cluster}, that of {other}. "
            f"With {file} the machines of both would be mixed. Nothing was done."
        )
        self.remedy = (
            f"Give this cluster another name, or its own state directory ({state.VARIABLE}). If "
            f"both files describe the same cluster, keep one of them: once {other} is gone, the "
            "other file takes over its state."
        )

    def __str__(self) -> str:
        """Return all of it, for who has one line to show it in."""
        return f"{self.args[0]} {self.remedy}"


def require_own(paths: ClusterPaths, cluster: str, file: Path) -> str:
    """Return what to tell of the state's owner; nothing, where it is this file as ever.

    :raises ForeignState: the state is of another file, which is there and has the same name.
    :raises StoreError: record.json is damaged, or the state is of a newer Kubewright.
    """
    here = file.resolve()
    with told():
        schema.CLUSTER.require(paths.state)
        kept = record.read(paths.state)
    if kept is None:
        old = paths.identity.is_dir() or paths.machines.exists()
        return f"{paths.state} does not record a cluster file: apply records {here}" if old else ""
    known = Path(kept.file)
    if not kept.file or known == here or _is_same(known, here):
        return ""
    if _is_of(known, cluster):
        raise ForeignState(paths, cluster, here, known)
    return f"the state in {paths.state} belonged to {known}, which is gone: {here} takes it over"


def providers(paths: ClusterPaths) -> tuple[str, ...]:
    """Return the providers that the cluster has ever used, as far as is recorded.

    :raises StoreError: record.json is damaged.
    """
    with told():
        known = record.read(paths.state)
    return known.providers if known else ()


def _is_same(one: Path, other: Path) -> bool:
    try:
        return one.samefile(other)
    except OSError:
        return False


def _is_of(file: Path, cluster: str) -> bool:
    """Return whether a file is a cluster's still; what can't be read may well be."""
    try:
        data = yaml.safe_load(file.read_text(encoding="utf-8"))
    except (FileNotFoundError, NotADirectoryError):
        return False
    except (OSError, ValueError, yaml.YAMLError):
        return True
    return isinstance(data, dict) and data.get("name") == cluster
