# SPDX-License-Identifier: Apache-2.0
"""What is said of traffic that doesn't flow, and whom a node asks."""

from __future__ import annotations

import threading
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from ansible_collections.kubewright.cluster.plugins.module_utils._onnode import check, traffic

REQUEST = traffic.Request(
    name="web-1",
    address="192.0.2.21",
    nodes={"cp-1": "192.0.2.11", "web-1": "192.0.2.21", "web-2": "192.0.2.22"},
    servers={"cp-1": "192.0.2.11"},
    api_name="api.demo.internal",
    service_cidr="10.96.0.0/16",
)
GOOD = traffic.Seen(
    flannel=True,
    local="192.0.2.21",
    ways={"cp-1": "10.244.0.0", "web-2": "10.244.2.0"},
    pod=True,
    servers={"cp-1": ""},
    nodes={"cp-1": "", "web-2": ""},
    overlay={"cp-1": "", "web-2": ""},
    from_pods={"cp-1": "", "web-2": ""},
    services={"api": "", "dns": ""},
    pod_services={"api": "", "dns": ""},
)
SILENT = check.SILENT


def texts(**seen: Any) -> list[str]:
    return [one.text for one in traffic.judge(REQUEST, replace(GOOD, **seen))]


def test_nothing_is_said_of_a_node_that_works() -> None:
    assert texts() == []
    # A kubelet that is away refuses; the packets went there and back.
    refused = {"cp-1": "", "web-2": traffic.REFUSED}
    assert texts(nodes=refused, overlay=refused, from_pods=refused) == []
    # Workers need not reach each other's kubelets.
    assert texts(nodes={"cp-1": SILENT, "web-2": SILENT}) == []
    assert texts(pod=False, from_pods={}, pod_services={}) == []


@pytest.mark.parametrize(
    ("seen", "text"),
    [
        (
            {"servers": {"cp-1": SILENT}},
            "The API server of cp-1 does not answer here (no answer within 2 s).",
        ),
        (
            {"local": None, "ways": {}, "overlay": {}, "from_pods": {}},
            "The pod network is missing: flannel has not created the interface flannel.1.",
        ),
        (
            # What it can't reach then is for that.
            {
                "local": "198.51.100.7",
                "overlay": {"cp-1": SILENT, "web-2": SILENT},
                "from_pods": {"cp-1": SILENT, "web-2": SILENT},
            },
            "flannel sends from 198.51.100.7, but the node's address, which the others use, is "
            "192.0.2.21.",
        ),
        (
            {"ways": {"cp-1": "10.244.0.0"}, "overlay": {"cp-1": ""}},
            "flannel has no route from here to the pods of web-2 via the addresses of their nodes.",
        ),
        (
            {
                "overlay": {"cp-1": SILENT, "web-2": SILENT},
                "from_pods": {"cp-1": SILENT, "web-2": SILENT},
            },
            "Pods here can't reach the pods of cp-1 and web-2 (10.244.0.0, 10.244.2.0: no answer "
            "within 2 s), though the nodes reach each other.",
        ),
        (
            {
                "overlay": {"cp-1": "", "web-2": SILENT},
                "nodes": {"cp-1": "", "web-2": SILENT},
                "from_pods": {"cp-1": "", "web-2": SILENT},
            },
            "Neither web-2 nor the pods there can be reached from here (no answer within 2 s).",
        ),
        (
            {"from_pods": {"cp-1": "", "web-2": SILENT}},
            "Pods here can't reach the pods of web-2 (10.244.2.0: no answer within 2 s), while the "
            "node itself can.",
        ),
        (
            {"services": {"api": SILENT, "dns": SILENT}},
            "Services don't work here: that of the API (10.96.0.1) does not answer (no answer "
            "within 2 s), although API servers do. kube-proxy runs, but has no rules in place: it "
            "wrote none, or they were removed (nft, a firewall).",
        ),
        (
            {"services": {"api": SILENT, "dns": SILENT}, "proxy": traffic.REFUSED},
            "Services don't work here: that of the API (10.96.0.1) does not answer (no answer "
            "within 2 s), although API servers do. kube-proxy does not run.",
        ),
        (
            {"services": {"api": "", "dns": traffic.REFUSED}},
            "Cluster DNS (10.96.0.10) does not answer here (refused).",
        ),
        (
            {"pod_services": {"api": "", "dns": SILENT}},
            "Pods here can't reach the Service of cluster DNS (10.96.0.10): no answer within 2 s. "
            "The node itself can.",
        ),
    ],
)
def test_a_cause_is_one_finding(seen: dict[str, Any], text: str) -> None:
    assert texts(**seen) == [text]


def test_services_are_not_blamed_for_an_api_that_is_away() -> None:
    found = texts(servers={"cp-1": SILENT}, services={"api": SILENT, "dns": SILENT})
    assert found == ["The API server of cp-1 does not answer here (no answer within 2 s)."]


def test_another_pod_network_is_not_judged() -> None:
    assert texts(flannel=False, local=None, ways={}, overlay={}, from_pods={}) == []


def test_a_finding_names_the_other_nodes_that_it_is_about() -> None:
    seen = replace(GOOD, ways={"cp-1": "10.244.0.0"}, overlay={"cp-1": ""})
    (found,) = traffic.judge(REQUEST, seen)
    assert found.as_dict()["about"] == ["web-2"]


def test_all_is_asked_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """So that a look takes as long as the slowest answer, however many do not come."""
    # The API server, two peers, the Services of the API and of DNS, kube-proxy.
    together = threading.Barrier(6)

    def words(*_: Any) -> str:
        together.wait(60)
        return ""

    monkeypatch.setattr(check, "_words", words)
    monkeypatch.setattr(check, "_trust", lambda: None)
    monkeypatch.setattr(check, "FLANNEL", Path("/nonexistent"))
    monkeypatch.setattr(check, "NETWORKS", Path("/nonexistent"))
    assert check.troubles(REQUEST) == []


def test_of_few_nodes_everyone_is_asked() -> None:
    names = [f"n-{number:02}" for number in range(11)]
    assert traffic.sample(names, "n-04") == [name for name in names if name != "n-04"]
    assert traffic.sample([], "n-04") == []


def test_of_many_nodes_each_asks_few_and_is_asked_by_as_many() -> None:
    names = [f"n-{number:04}" for number in range(1000)]
    asked = {name: traffic.sample(names, name) for name in names}
    assert {len(others) for others in asked.values()} == {10}
    assert asked == {name: traffic.sample(reversed(names), name) for name in names}
    askers: dict[str, int] = {}
    for name, others in asked.items():
        assert name not in others
        for other in others:
            askers[other] = askers.get(other, 0) + 1
    assert set(askers.values()) == {10}
