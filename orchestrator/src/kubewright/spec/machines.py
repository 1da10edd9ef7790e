# SPDX-License-Identifier: Apache-2.0
"""machines.json, schema 1: what the providers said of a cluster's machines at the last listing."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from datetime import datetime
from pathlib import Path
from typing import Any

SCHEMA = 1


class MachinesError(Exception):
    """machines.json can't be used; the message names the file, what is wrong and what to do."""


@dataclass(frozen=True)
class Machine:
    """One machine as its provider describes it.

    ``id`` is the provider's own (it becomes the kubelet's ``--provider-id``), ``host_keys`` are
    public SSH keys ("ssh-ed25519 AAAA..."), ``power`` is "on", "off" or another word of the
    provider.
    """

    id: str
    name: str
    address: str
    host_keys: tuple[str, ...]
    provider: str
    region: str
    zone: str
    node_type: str
    power: str

    def as_dict(self) -> dict[str, Any]:
        """Return the entry as it stands in the file."""
        return {**asdict(self), "host_keys": list(self.host_keys)}


@dataclass(frozen=True)
class Machines:
    """All machines of one cluster; ``written_at`` dates that knowledge (None: never asked)."""

    cluster: str
    written_at: datetime | None = None
    machines: tuple[Machine, ...] = ()

    def by_name(self) -> Mapping[str, Machine]:
        """Return the machines by host name."""
        return {machine.name: machine for machine in self.machines}


def read(path: Path, cluster: str) -> Machines:
    """Return what the file says; no machines when there is no file yet.

    :raises MachinesError: the file is of another schema or cluster, or is damaged.
    """
    try:
        data = json.loads(path.read_text(encoding="utf-8"))
        if not isinstance(data, dict) or data.get("schema") != SCHEMA:
            raise MachinesError(f"{path}: is not of schema {SCHEMA}; {_REMEDY}")
        if data.get("cluster") != cluster:
            raise MachinesError(
                f"{path}: is of the cluster {data.get('cluster')!r}, not of {cluster!r}; {_REMEDY}"
            )
        written = datetime.fromisoformat(data["written_at"])
        return Machines(cluster, written, tuple(_machine(entry) for entry in data["machines"]))
    except FileNotFoundError:
        return Machines(cluster)
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise MachinesError(f"{path}: can't be used: {error!r}; {_REMEDY}") from error


_REMEDY = "remove it and run 'kubewright apply', or the playbook kubewright.cluster.machines"


def _machine(entry: Mapping[str, Any]) -> Machine:
    values = {field.name: entry[field.name] for field in fields(Machine)}
    keys = values.pop("host_keys")
    if not isinstance(keys, list) or not all(
        isinstance(value, str) for value in (*keys, *values.values())
    ):
        raise ValueError(f"machine {entry.get('name')!r} has a field of the wrong kind")
    return Machine(**values, host_keys=tuple(keys))
