# Copyright: the Kubewright authors
# Apache License 2.0 (see LICENSE or https://www.apache.org/licenses/LICENSE-2.0)
"""What is known of a cluster before a run decides what to do. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from ansible_collections.kubewright.cluster.plugins.module_utils._check import fleet
from ansible_collections.kubewright.cluster.plugins.module_utils._cluster import inventory

# A role whose objects are the whole cluster's: one control plane brings them about for all.
CLUSTER_ROLE = "cni"


@dataclass(frozen=True)
class Node:
    """A node that has answered. `kind`: its group, the control plane's or a pool's.

    `phase`: none, partial or joined. `drift`: the roles by which it is not as desired. `ready`:
    what the API says of its Node, None where that is not known. `api_ready`: its API server.
    `serves`: its certificates are valid; `due`: a control plane has to have some renewed.
    """

    name: str
    kind: str
    phase: str = "none"
    drift: frozenset[str] = frozenset()
    ready: bool | None = None
    api_ready: bool = False
    serves: bool = True
    due: bool = False

    @property
    def joined(self) -> bool:
        """Whether it is part of the cluster."""
        return self.phase == "joined"

    @property
    def is_control_plane(self) -> bool:
        """Whether it is one, by the inventory."""
        return self.kind == inventory.CONTROL_PLANE

    @property
    def broken(self) -> bool:
        """Whether it is part of the cluster, and does not do its work: a change takes nothing away.

        Where the API can't say, it may well do.
        """
        down = self.is_control_plane and not self.api_ready
        return self.joined and (self.ready is False or down)

    @classmethod
    def of(cls, name: str, kind: str, state: Mapping[str, Any]) -> Node:
        """The node by what `node_state` returned of it."""
        membership, certificates = state["membership"], state.get("certificates") or {}
        return cls(
            name=name,
            kind=kind,
            phase=membership["phase"],
            drift=frozenset(state["drift"]),
            ready=(state.get("node") or {}).get("ready"),
            api_ready=bool(state.get("api_ready")),
            serves=bool(certificates.get("serves", True)),
            due=bool(certificates.get("due")) and membership["role"] == inventory.CONTROL_PLANE,
        )


@dataclass(frozen=True)
class Situation:
    """The nodes that have answered, in the inventory's order, and what is on record.

    `initial_node`: who began the cluster, empty for nobody yet. `begun`: it has been whole once.
    `impeded`: the nodes through which traffic does not flow.
    """

    nodes: tuple[Node, ...]
    initial_node: str = ""
    begun: bool = False
    impeded: frozenset[str] = frozenset()

    @property
    def control_planes(self) -> tuple[Node, ...]:
        """Those among the nodes."""
        return tuple(node for node in self.nodes if node.is_control_plane)

    @classmethod
    def of(
        cls,
        states: Mapping[str, Mapping[str, Any]],
        groups: Mapping[str, Sequence[str]],
        initial_node: str,
        begun: bool,
        findings: Sequence[Mapping[str, Any]],
    ) -> Situation:
        """The situation by what `node_state` and `preflight_report` returned."""
        kinds = {
            name: kind
            for kind, names in reversed(inventory.places(groups).items())
            for name in names
        }
        return cls(
            nodes=tuple(
                Node.of(name, kinds[name], states[name])
                for name in inventory.names(groups)
                if name in states
            ),
            initial_node=initial_node,
            begun=begun,
            impeded=frozenset(one["host"] for one in findings if one["check"] == fleet.TRAFFIC),
        )
