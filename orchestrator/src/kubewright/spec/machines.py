# SPDX-License-Identifier: Apache-2.0
"""machines.json: what the providers said of a cluster's machines at the last listing."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path

from kubewright.agreed import machines as rules
from kubewright.agreed import roster, state

Machine = rules.Machine
Kept = roster.Kept
Own = roster.Own


class MachinesError(Exception):
    """machines.json can't be used; the message names the file, what is wrong and what to do."""


@dataclass(frozen=True)
class Machines:
    """All machines of one cluster; ``written_at`` dates that knowledge (None: never asked).

    ``kept``: what is remembered of them beside that, in roster.json.
    """

    cluster: str
    written_at: datetime | None = None
    machines: tuple[Machine, ...] = ()
    kept: Kept = field(default_factory=Kept)

    def by_name(self) -> Mapping[str, Machine]:
        """Return the machines by host name."""
        return {machine.name: machine for machine in self.machines}


def read(path: Path, cluster: str) -> Machines:
    """Return what machines.json and roster.json say; no machines when there is no file yet.

    :raises MachinesError: a file is of another schema or cluster, or is damaged.
    """
    kept = _kept(path.with_name(state.ROSTER), cluster)
    try:
        listing = rules.parse(path.read_text(encoding="utf-8"), cluster)
        found = tuple(rules.machine(entry) for entry in listing.machines)
        return Machines(cluster, listing.written_at, found, kept)
    except FileNotFoundError:
        return Machines(cluster, kept=kept)
    except (OSError, ValueError) as error:
        raise MachinesError(
            f"{path}: can't be used: {error}; remove it and run 'kubewright apply', or the "
            "playbook kubewright.cluster.machines"
        ) from error


def _kept(path: Path, cluster: str) -> Kept:
    try:
        return roster.read(path.parent, cluster)
    except (OSError, ValueError) as error:
        raise MachinesError(
            f"{path}: can't be used: {error}; restore it from a backup, or remove it. It records "
            "how to reach your own machines that cluster.yml no longer has; without it they are "
            "forgotten"
        ) from error
