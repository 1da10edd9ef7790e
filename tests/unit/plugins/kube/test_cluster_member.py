"""A node leaves the cluster's books: etcd member first, then the Node."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

import pytest
from ansible_collections.kubewright.cluster.plugins.module_utils._base.commands import Result
from ansible_collections.kubewright.cluster.plugins.module_utils._base.errors import KubewrightError
from ansible_collections.kubewright.cluster.plugins.modules import cluster_member

MEMBERS: dict[str, list[dict[str, Any]]] = {
    "members": [
        {
            "ID": number,
            "name": f"cp-{last}",
            "peerURLs": [f"https://192.0.2.{last}:2380"],
            "clientURLs": [f"https://192.0.2.{last}:2379"],
        }
        for last, number in ((1, 10501334649042878790), (2, 255), (3, 256))
    ]
}


class FakeCluster:
    """Answers as etcdctl and kubectl do, and keeps what was asked of it."""

    def __init__(self, nodes: set[str], healthy: tuple[int, ...] = (1, 2, 3)) -> None:
        self.nodes = nodes
        self.healthy = healthy
        self.changes: list[str] = []

    def __call__(self, argv: Sequence[str], *, timeout: float = 0, stdin: str = "") -> Result:
        """Run one command."""
        words = [word for word in argv[1:] if not word.startswith("--")]
        output = ""
        if words == ["member", "list"]:
            output = json.dumps(MEMBERS)
        elif words[:2] == ["endpoint", "health"]:
            endpoints = {last: f"https://192.0.2.{last}:2379" for last in (1, 2, 3)}
            output = json.dumps(
                [
                    {"endpoint": url, "health": last in self.healthy}
                    for last, url in endpoints.items()
                ]
            )
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


def test_a_member_is_known_by_its_name_where_the_address_has_changed() -> None:
    fake = FakeCluster({"cp-2"})
    removed = cluster_member.remove(fake, "cp-2", "192.0.2.99", check_mode=False)
    assert removed == ["etcd member cp-2", "Node cp-2"]
    # Its old address is another one's by now, which stays.
    fake = FakeCluster({"cp-2"})
    cluster_member.remove(fake, "cp-2", "192.0.2.1", check_mode=False)
    assert fake.changes[0] == "member remove ff"


def test_a_member_that_has_not_begun_has_no_name(monkeypatch: pytest.MonkeyPatch) -> None:
    waiting = {"ID": 257, "name": "", "isLearner": True, "peerURLs": ["https://192.0.2.4:2380"]}
    monkeypatch.setitem(MEMBERS, "members", [*MEMBERS["members"], waiting])
    fake = FakeCluster(set())
    cluster_member.remove(fake, "cp-4", "192.0.2.4", check_mode=False)
    assert fake.changes == ["member remove 101"]


def test_check_mode_predicts_and_changes_nothing() -> None:
    fake = FakeCluster({"cp-2"})
    assert cluster_member.remove(fake, "cp-2", "192.0.2.2", check_mode=True) == [
        "etcd member cp-2",
        "Node cp-2",
    ]
    assert fake.changes == []


@pytest.mark.parametrize("check_mode", [False, True])
@pytest.mark.parametrize("healthy", [(1, 2), (2,), (2, 3)])
def test_a_member_stays_when_the_others_would_be_no_majority(
    check_mode: bool, healthy: tuple[int, ...]
) -> None:
    fake = FakeCluster({"cp-2"}, healthy)
    with pytest.raises(
        KubewrightError,
        match=r"only . of the 2 remaining members \(cp-1, cp-3\) "
        r"are healthy",
    ):
        cluster_member.remove(fake, "cp-2", "192.0.2.2", check_mode=check_mode)
    assert fake.changes == []


def test_the_one_that_is_lost_goes() -> None:
    fake = FakeCluster({"cp-2"}, healthy=(1, 3))
    assert cluster_member.remove(fake, "cp-2", "192.0.2.2", check_mode=False)
