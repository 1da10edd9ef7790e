# SPDX-License-Identifier: Apache-2.0
"""A cluster as it was seen at one moment. Everything is immutable."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from datetime import datetime
from typing import Any

from kubewright.spec import roster
from kubewright.spec.machines import Kept, Machine, Machines
from kubewright.spec.models import Spec


@dataclass(frozen=True)
class ApiServer:
    """One API server, asked directly: ``ready``, or the ``reason`` why not; ``seconds`` it took."""

    host: str
    address: str
    ready: bool
    reason: str = ""
    seconds: float = 0.0


@dataclass(frozen=True)
class EtcdMember:
    """One member. ``healthy``: it answered and knows a leader. ``learner``: it has no vote yet.

    ``id`` is in hex, as etcdctl prints it; ``db_bytes`` is the size of its data on disk.
    """

    id: str
    host: str
    address: str
    healthy: bool
    leader: bool = False
    learner: bool = False
    version: str = ""
    db_bytes: int = 0
    reason: str = ""


@dataclass(frozen=True)
class Etcd:
    """The members of etcd; none and a ``reason`` when nobody could be asked."""

    members: tuple[EtcdMember, ...] = ()
    reason: str = ""

    @property
    def voters(self) -> int:
        """How many members have a vote."""
        return sum(not member.learner for member in self.members)

    @property
    def healthy_voters(self) -> int:
        """How many of them are healthy."""
        return sum(member.healthy and not member.learner for member in self.members)

    @property
    def quorum(self) -> bool:
        """Whether a majority of the voters is healthy and one of them leads."""
        leads = any(member.leader for member in self.members)
        return leads and self.healthy_voters > self.voters // 2

    @property
    def spare(self) -> int:
        """How many more voters may be lost before the majority is."""
        return max(0, self.healthy_voters - (self.voters // 2 + 1))


@dataclass(frozen=True)
class Condition:
    """A condition of a Node object: type, status (True, False, Unknown), reason, message."""

    type: str
    status: str
    reason: str = ""
    message: str = ""


@dataclass(frozen=True)
class Node:
    """A Node object. ``pool`` is empty on control planes; ``cordoned``: unschedulable."""

    name: str
    pool: str
    control_plane: bool
    version: str
    ready: bool
    cordoned: bool
    address: str
    conditions: tuple[Condition, ...] = ()

    @property
    def reason(self) -> str:
        """Why it is not ready; empty when it is."""
        for condition in self.conditions:
            if condition.type == "Ready" and not self.ready:
                return condition.message or condition.reason or f"Ready is {condition.status}"
        return "" if self.ready else "has no Ready condition"


@dataclass(frozen=True)
class Finding:
    """What was found wrong, and what to do about it; of a node in its own words.

    ``section``: what was looked at: ``volume`` (the system volume), ``runtime`` and ``kubelet``
    (where they do not answer, or die again and again), ``traffic`` (what it reaches),
    ``certificates`` (those that end). ``warning``: all works still.
    """

    section: str
    text: str
    remedy: str = ""
    warning: bool = False


@dataclass(frozen=True)
class Report:
    """What a node says of itself.

    ``reason``: why it could not be asked, ``remedy`` what to do about that, where it is known.
    ``said``: all that was said, where the reason is the last line of several.
    ``prepared``: whether the machine should have something to say; false where nothing was laid
    there yet.
    """

    host: str
    findings: tuple[Finding, ...] = ()
    reason: str = ""
    remedy: str = ""
    said: str = ""
    prepared: bool = True


@dataclass(frozen=True)
class Snapshot:
    """A cluster at ``taken_at``.

    ``nodes`` is None when no API server could be asked; ``nodes_reason`` then says why.
    ``machines`` is what the providers said at ``machines_at`` (None: never asked).
    ``kept``: what is remembered beside that. ``state``: what was found wrong with the cluster's own
    files here.
    """

    cluster: str
    taken_at: datetime
    api_servers: tuple[ApiServer, ...] = ()
    etcd: Etcd = Etcd()
    nodes: tuple[Node, ...] | None = None
    nodes_reason: str = ""
    machines: tuple[Machine, ...] = ()
    machines_at: datetime | None = None
    kept: Kept = field(default_factory=Kept)
    reports: tuple[Report, ...] = ()
    state: tuple[Finding, ...] = ()

    def roster(self, spec: Spec) -> roster.Roster:
        """Return which machines are nodes, and which are to leave."""
        return roster.of(spec, Machines(self.cluster, None, self.machines, self.kept))

    @property
    def ready_api_servers(self) -> tuple[ApiServer, ...]:
        """The API servers that answered "ready"."""
        return tuple(server for server in self.api_servers if server.ready)

    @property
    def versions(self) -> tuple[str, ...]:
        """The Kubernetes releases of the control planes, such as "1.37.2": two in an upgrade."""
        found = {node.version.removeprefix("v") for node in self.nodes or () if node.control_plane}
        return tuple(sorted(found - {""}))

    def as_dict(self) -> dict[str, Any]:
        """Return it as plain data for JSON."""
        etcd = {
            **asdict(self.etcd),
            "quorum": self.etcd.quorum,
            "voters": self.etcd.voters,
            "healthy_voters": self.etcd.healthy_voters,
        }
        return {
            "cluster": self.cluster,
            "taken_at": self.taken_at.isoformat(timespec="seconds"),
            "api_servers": [asdict(server) for server in self.api_servers],
            "etcd": etcd,
            "nodes": None if self.nodes is None else [asdict(node) for node in self.nodes],
            "nodes_reason": self.nodes_reason,
            "reports": [asdict(report) for report in self.reports],
            "state": [asdict(finding) for finding in self.state],
            "machines": [machine.as_dict() for machine in self.machines],
            "machines_at": self.machines_at.isoformat(timespec="seconds")
            if self.machines_at
            else None,
        }
