"""A node leaves the cluster's books: etcd member first, then the Node."""

from __future__ import annotations

import json
from collections.abc import Sequence

from ansible_collections.kubewright.cluster.plugins.module_utils._command import Result
from ansible_collections.kubewright.cluster.plugins.modules import cluster_member

MEMBERS = {
    "members": [
        {"ID": 10501334649042878790, "name": "cp-1", "peerURLs": ["https://192.0.2.1:2380"]},
        {"ID": 255, "name": "cp-2", "peerURLs": ["https://192.0.2.2:2380"]},
    ]
}


class FakeCluster:
    """Answers as etcdctl and kubectl do, and keeps what was asked of it."""

    def __init__(self, nodes: set[str]) -> None:
        self.nodes = nodes
        self.changes: list[str] = []

    def __call__(self, argv: Sequence[str], *, timeout: float = 0, stdin: str = "") -> Result:
        """Run one command."""
        words = [word for word in argv[1:] if not word.startswith("--")]
        output = ""
        if words == ["member", "list"]:
            output = json.dumps(MEMBERS)
        elif words[:2] == ["get", "node"]:
            output = f"node/{words[2]}" if words[2] in self.nodes else ""
        else:
            self.changes.append(" ".join(words))
        return Result(tuple(argv), 0, output, "")


def test_member_goes_before_the_node_and_by_its_hexadecimal_id() -> None:
    fake = FakeCluster({"cp-2"})
    removed = cluster_member.remove(fake, "cp-2", "192.0.2.2", check_mode=False)
    assert fake.changes == ["member remove ff", "delete node cp-2"]
    assert removed == ["etcd member cp-2", "Node cp-2"]


def test_an_address_is_not_mistaken_for_its_prefix() -> None:
    fake = FakeCluster(set())
    assert cluster_member.remove(fake, "cp-20", "192.0.2.20", check_mode=False) == []
    assert fake.changes == []


def test_check_mode_predicts_and_changes_nothing() -> None:
    fake = FakeCluster({"cp-2"})
    assert cluster_member.remove(fake, "cp-2", "192.0.2.2", check_mode=True) == [
        "etcd member cp-2",
        "Node cp-2",
    ]
    assert fake.changes == []
