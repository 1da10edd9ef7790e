# SPDX-License-Identifier: Apache-2.0
"""The cluster that an operation is for."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from kubewright.act.messages import named
from kubewright.locations import ClusterPaths
from kubewright.operate.errors import OperationError, Why
from kubewright.spec import Spec
from kubewright.spec import roster as members
from kubewright.spec.machines import read
from kubewright.spec.roster import Roster
from kubewright.spec.version import release
from kubewright.store.ownership import require_own


@dataclass(frozen=True)
class Cluster:
    """A cluster: what its file said when it was read, and the files of its state.

    ``told``: what to say of the state's owner, where that is not the file as ever.
    """

    spec: Spec
    file: Path
    paths: ClusterPaths
    told: str = ""

    @classmethod
    def of(cls, spec: Spec, file: Path) -> Cluster:
        """Return the cluster that a file means, and no other of the same name.

        :raises kubewright.store.ownership.ForeignState: the state is another file's.
        :raises kubewright.store.StoreError: the record of whose it is, is damaged.
        """
        paths = ClusterPaths.of(spec.name)
        return cls(spec, file, paths, require_own(paths, spec.name, file))

    @property
    def name(self) -> str:
        """Its name."""
        return self.spec.name

    @property
    def release(self) -> str:
        """The Kubernetes release that it runs, or that it would get."""
        return release(self.spec)

    def roster(self) -> Roster:
        """Return which machines are nodes and which are to leave, by what is known now.

        :raises kubewright.spec.machines.MachinesError: machines.json can't be used.
        """
        return members.of(self.spec, read(self.paths.machines, self.name))

    def chosen(self, wanted: Sequence[str]) -> tuple[str, ...]:
        """Return the nodes that are meant, in the file's order; all where none are named.

        Those that are to leave are only meant by name.

        :raises OperationError: it has no such node.
        """
        found = self.roster()
        hosts = found.known if wanted else found.hosts
        if unknown := sorted(set(wanted) - set(hosts)):
            raise OperationError(
                f"{self.name} has no node {named(unknown)}",
                remedy=f"Its nodes are {named(found.known)}.",
                why=Why.BAD_INPUT,
            )
        return tuple(host for host in hosts if not wanted or host in wanted)
