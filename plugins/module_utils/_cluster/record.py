# Copyright: the Kubewright authors
# Apache License 2.0 (see LICENSE or https://www.apache.org/licenses/LICENSE-2.0)
"""What the state directory knows of a cluster beside its identity.

record.json, schema 1::

    {"schema": 1, "file": "/home/me/cluster.yml", "ids": ["7d0c..."], "providers": ["local"]}

``file``: the cluster.yml that the state is of, empty where there has been none. ``ids``: those that
the cluster has had, the present one last: machines outlive a reset, after which it has another.
``providers``: all that the cluster has ever used, since machines stay where a pool is taken away.
"""

from __future__ import annotations

import contextlib
import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from ansible_collections.kubewright.cluster.plugins.module_utils._base.errors import KubewrightError
from ansible_collections.kubewright.cluster.plugins.module_utils._cluster import identity, state

SCHEMA = 1


@dataclass(frozen=True)
class Record:
    """See the module."""

    file: str = ""
    ids: tuple[str, ...] = ()
    providers: tuple[str, ...] = ()

    def with_more(self, file: str, cluster_id: str, providers: Sequence[str]) -> Record:
        """The record with what is known now; what is empty leaves it as it is."""
        ids = (*(one for one in self.ids if one != cluster_id), cluster_id)
        return Record(
            file or self.file,
            ids if cluster_id else self.ids,
            tuple(dict.fromkeys((*self.providers, *providers))),
        )

    def text(self) -> str:
        """The file's text."""
        return json.dumps({"schema": SCHEMA, **asdict(self)}, indent=1) + "\n"


def read(directory: Path) -> Record | None:
    """The record in a state directory, None where there is none."""
    path = directory / state.RECORD
    try:
        data = json.loads(path.read_text("utf-8"))
        if data["schema"] != SCHEMA:
            raise ValueError(f"schema {data['schema']}")
        return Record(str(data["file"]), _texts(data["ids"]), _texts(data["providers"]))
    except FileNotFoundError:
        return None
    except (ValueError, KeyError, TypeError) as error:
        raise KubewrightError(
            f"{path} is damaged ({type(error).__name__}: {error}). It records which providers "
            "may have machines of this cluster. Restore it from a backup; or remove it, "
            "if the cluster file still names every provider in use."
        ) from error


def older(directory: Path) -> Record:
    """What a state says that is older than such records: its identity and its machines.

    What is damaged there says nothing: a cluster that cannot work can still be removed.
    """
    ids: tuple[str, ...] = ()
    providers: tuple[str, ...] = ()
    if kept := identity.recorded(directory / state.IDENTITY):
        ids = (kept.cluster_id,)
    with contextlib.suppress(OSError, ValueError, KeyError, TypeError):
        listed = json.loads((directory / state.MACHINES).read_text("utf-8"))["machines"]
        providers = tuple(dict.fromkeys(str(machine["provider"]) for machine in listed))
    return Record(ids=ids, providers=providers)


def _texts(values: Any) -> tuple[str, ...]:
    if not isinstance(values, list) or not all(isinstance(value, str) for value in values):
        raise TypeError(f"{values!r} is not a list of strings")
    return tuple(values)
