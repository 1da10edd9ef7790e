# SPDX-License-Identifier: Apache-2.0
"""machines.json: what the providers said of a cluster's machines at the last listing."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from kubewright.agreed import machines as rules

Machine = rules.Machine


class MachinesError(Exception):
    """machines.json can't be used; the message names the file, what is wrong and what to do."""


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
        listing = rules.parse(path.read_text(encoding="utf-8"), cluster)
        found = tuple(rules.machine(entry) for entry in listing.machines)
        return Machines(cluster, listing.written_at, found)
    except FileNotFoundError:
        return Machines(cluster)
    except (OSError, ValueError) as error:
        raise MachinesError(
            f"{path}: can't be used: {error}; remove it and run 'kubewright apply', or the "
            "playbook kubewright.cluster.machines"
        ) from error
