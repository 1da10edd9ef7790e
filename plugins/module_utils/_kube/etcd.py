# Copyright: the Kubewright authors
# Apache License 2.0 (see LICENSE or https://www.apache.org/licenses/LICENSE-2.0)
"""etcd's members and their health, asked on a control plane.

A member's health is a read that etcd has to agree on: where there is no quorum, nobody is healthy.
(https://etcd.io/docs/latest/op-guide/monitoring/)
"""

from __future__ import annotations

import json
import urllib.parse
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from ansible_collections.kubewright.cluster.plugins.module_utils._base import commands

_PKI = "/etc/kubernetes/pki/etcd"
CTL = (
    "/opt/kubewright/bin/etcdctl",
    "--endpoints=https://127.0.0.1:2379",
    f"--cacert={_PKI}/ca.crt",
    f"--cert={_PKI}/server.crt",
    f"--key={_PKI}/server.key",
    # A member waits so long for a new leader, where the old one has just gone.
    "--command-timeout=20s",
)


@dataclass(frozen=True)
class Member:
    """One of etcd's members. `name` is its Node's; empty for one that has never started."""

    id: int
    name: str
    learner: bool
    peer_urls: tuple[str, ...]
    client_urls: tuple[str, ...]

    @classmethod
    def of(cls, said: Mapping[str, Any]) -> Member:
        """From etcdctl's JSON, which leaves out what is empty."""
        return cls(
            int(said["ID"]),
            said.get("name") or "",
            bool(said.get("isLearner")),
            tuple(said.get("peerURLs") or ()),
            tuple(said.get("clientURLs") or ()),
        )

    @property
    def title(self) -> str:
        """What it is called in a message."""
        return self.name or next(iter(self.peer_urls), format(self.id, "x"))

    @property
    def addresses(self) -> list[str]:
        """Where the others reach it, without scheme and port."""
        hosts = (urllib.parse.urlsplit(url).hostname for url in self.peer_urls)
        return [host for host in hosts if host]


def members(run: commands.Runner) -> list[Member]:
    """All members, learners too."""
    result = run([*CTL, "member", "list", "--write-out=json"])
    listed = json.loads(commands.check(result, "Listing etcd's members").stdout)["members"]
    return [Member.of(one) for one in listed]


def find(listed: Iterable[Member], name: str, address: str) -> Member | None:
    """The member of the Node `name`, else the one at `address`, else None.

    kubeadm names a member as its Node; the address may have changed since.
    """
    everyone = list(listed)
    found = [member for member in everyone if member.name == name]
    found += [member for member in everyone if address in member.addresses]
    return next(iter(found), None)


def healthy(run: commands.Runner) -> frozenset[str]:
    """Client URLs at which a member is healthy now."""
    # Its status says whether all are healthy; what it prints says who is.
    result = run([*CTL, "endpoint", "health", "--cluster", "--write-out=json"])
    try:
        answers = json.loads(result.stdout)
    except ValueError as error:
        raise commands.CommandFailed("Checking the health of etcd's members", result) from error
    return frozenset(answer["endpoint"] for answer in answers if answer.get("health"))


def majority(voters: int) -> int:
    """How many of so many voting members have to be healthy."""
    return voters // 2 + 1
