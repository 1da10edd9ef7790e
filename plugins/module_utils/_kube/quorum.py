# Copyright: the Kubewright authors
# Apache License 2.0 (see LICENSE or https://www.apache.org/licenses/LICENSE-2.0)
"""Whether etcd goes on while some of its members are away. Pure.

Each control plane that answers tells of all members. Of two who differ, the one who sees less may
be cut off, so a member counts as one that keeps etcd going where all see it healthy, and as one
that nobody misses where none does.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from ansible_collections.kubewright.cluster.plugins.module_utils._kube import etcd

#: What ``etcd_info`` says of all members, as one control plane sees them.
Sight = Sequence[Mapping[str, Any]]


@dataclass(frozen=True)
class Quorum:
    """The names of etcd's members that vote; `surely` and `maybe`: of those that are healthy.

    `addresses`: the name of the member at each.
    """

    voters: frozenset[str]
    surely: frozenset[str]
    maybe: frozenset[str]
    addresses: Mapping[str, str]

    @classmethod
    def of(cls, sights: Sequence[Sight]) -> Quorum:
        """What all of *sights* (at least one) say together."""
        healthy = [
            {one["name"] for one in sight if one["voter"] and one["healthy"]} for sight in sights
        ]
        voters = [one for sight in sights for one in sight if one["voter"]]
        return cls(
            frozenset(one["name"] for one in voters),
            frozenset(set.intersection(*healthy)),
            frozenset(set.union(*healthy)),
            {address: one["name"] for one in voters for address in one["addresses"]},
        )

    @property
    def needed(self) -> int:
        """How many have to be healthy."""
        return etcd.majority(len(self.voters))

    def members(self, machines: Mapping[str, str]) -> frozenset[str]:
        """Those that are on *machines* (address by name); one that has moved has its name still."""
        named = {name for name in machines if name in self.voters}
        here = {self.addresses.get(address, "") for address in machines.values()}
        return frozenset(named | (here & self.voters))

    def ends(self, leaving: frozenset[str]) -> bool:
        """Whether etcd would stop without *leaving*, which it still goes on with."""
        return bool(leaving & self.maybe) and len(self.surely - leaving) < self.needed
