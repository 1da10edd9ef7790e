# SPDX-License-Identifier: Apache-2.0
"""A node's pods against the network that its Node was given."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from ansible_collections.kubewright.cluster.plugins.module_utils._base import commands
from ansible_collections.kubewright.cluster.plugins.module_utils._base.errors import KubewrightError
from ansible_collections.kubewright.cluster.plugins.module_utils._kube import pod_network
from ansible_collections.kubewright.cluster.plugins.module_utils._onnode import flannel, netlink

OLD, NEW = "10.244.3.0/24", "10.244.7.0/24"
ADDRESS, PREFIX = "192.0.2.21", "flannel.alpha.coreos.com/"
ENV = "FLANNEL_NETWORK=10.244.0.0/16\nFLANNEL_SUBNET={}\nFLANNEL_MTU=1450\nFLANNEL_IPMASQ=true\n"
HOST, POD, NEWER, BARE = "host", "pod", "newer", "bare"


class Node:
    """A node with flannel and a bridge, and the Node that the API has of it."""

    def __init__(self, root: Path) -> None:
        self.subnets = root / "subnet.env"
        self.subnets.write_text(ENV.format("10.244.3.1/24"))
        self.interfaces = {ADDRESS: "eth0", "10.244.3.1": "cni0", "fe80::1": "cni0"}
        self.cidrs = [OLD]
        self.annotations = {
            f"{PREFIX}kube-subnet-manager": "true",
            f"{PREFIX}public-ip": ADDRESS,
        }
        self.sandboxes: dict[str, dict[str, Any]] = {
            HOST: self.sandbox(ADDRESS, "NODE"),
            POD: self.sandbox("10.244.3.7", "POD"),
            NEWER: self.sandbox("10.244.7.5", "POD"),
            BARE: {"network": {}},
        }
        self.flannel_comes_back = True
        self.calls: list[str] = []
        self.now = 0.0

    @staticmethod
    def sandbox(address: str, kind: str) -> dict[str, Any]:
        linux = {"namespaces": {"options": {"network": kind}}}
        return {"network": {"ip": address, "additionalIps": []}, "linux": linux}

    def see(self) -> dict[str, Any]:
        return {"metadata": {"annotations": self.annotations}, "spec": {"podCIDRs": self.cidrs}}

    def __call__(self, argv: Any, *, timeout: float = 0, stdin: str = "") -> commands.Result:
        words = [word for word in argv[4:] if not str(word).startswith("--")]
        text = ""
        if argv[0] == "ip":
            words = argv[1:]
            self.calls.append("ip " + " ".join(words))
            self.interfaces = {one: at for one, at in self.interfaces.items() if at != "cni0"}
            return commands.Result(tuple(argv), 0, text, "")
        assert argv[3] == "--timeout=60s"  # its own is 2 s
        if words[0] == "ps":
            text = json.dumps({"containers": [{"id": "c1"}]})
        elif words[0] == "stop":
            self.calls.append(f"stop {words[-1]}")
            if self.flannel_comes_back:
                self.subnets.write_text(ENV.format(self.cidrs[0].replace("0/24", "1/24")))
                self.annotations = {
                    f"{PREFIX}kube-subnet-manager": "true",
                    f"{PREFIX}public-ip": ADDRESS,
                }
        elif words[0] == "pods":
            text = "".join(f"{name}\n" for name in self.sandboxes)
        elif words[0] == "inspectp":
            text = json.dumps({"status": self.sandboxes[words[1]]})
        elif words[0] == "stopp":
            self.calls.append(f"stopp {words[1]}")
        return commands.Result(tuple(argv), 0, text, "")

    def converge(self, check: bool = False) -> list[str]:
        def sleep(seconds: float) -> None:
            self.now += seconds

        network = pod_network.PodNetwork(
            self, self.see, ADDRESS, clock=lambda: self.now, sleep=sleep
        )
        return network.converge(check)


@pytest.fixture
def node(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Node:
    made = Node(tmp_path)
    monkeypatch.setattr(flannel, "SUBNETS", made.subnets)
    monkeypatch.setattr(netlink, "addresses", lambda: list(enumerate(made.interfaces)))
    names = lambda: list(enumerate(made.interfaces.values()))  # noqa: E731
    monkeypatch.setattr(flannel.socket, "if_nameindex", names)
    return made


def test_a_network_that_is_as_the_node_says(node: Node) -> None:
    assert (node.converge(), node.calls) == ([], [])
    assert flannel.announced() == [OLD]


def test_another_network_of_the_node_reaches_flannel_the_pods_and_the_bridge(node: Node) -> None:
    node.cidrs = [NEW]
    words = [
        f"flannel has {OLD}, but the Node's pod network is {NEW}",
        f"cni0 has 10.244.3.1, but the Node's pod network is {NEW}",
    ]
    assert (node.converge(check=True), node.calls) == (words, [])
    assert node.converge() == words
    assert node.calls == ["stop c1", f"stopp {POD}", "ip link delete cni0"]
    assert node.converge() == []


def test_a_run_that_was_cut_before_the_bridge_went_is_ended(node: Node) -> None:
    """flannel has the new network already; the bridge still tells."""
    node.cidrs = [NEW]
    node.subnets.write_text(ENV.format("10.244.7.1/24"))
    assert node.converge() == [f"cni0 has 10.244.3.1, but the Node's pod network is {NEW}"]
    assert node.calls == [f"stopp {POD}", "ip link delete cni0"]


def test_a_node_that_was_made_again_is_announced_again(node: Node) -> None:
    node.annotations = {}
    assert node.converge() == ["flannel has not announced this node to the others"]
    assert node.calls == ["stop c1"], "no pod is stopped for that"


def test_an_address_that_the_node_has_no_more(node: Node) -> None:
    node.annotations[f"{PREFIX}public-ip"] = "192.0.2.99"
    assert node.converge() == [f"flannel announces the address 192.0.2.99 instead of {ADDRESS}"]
    assert node.calls == ["stop c1"]


def test_an_address_that_somebody_chose_stays(node: Node) -> None:
    node.annotations |= {
        f"{PREFIX}public-ip": "203.0.113.1",
        f"{PREFIX}public-ip-overwrite": "203.0.113.1",
    }
    assert node.converge() == []


def test_flannel_that_does_not_come_back_is_told(node: Node) -> None:
    node.cidrs, node.flannel_comes_back = [NEW], False
    with pytest.raises(KubewrightError, match=f"after 120 s still: flannel has {OLD}"):
        node.converge()
    assert "ip link delete cni0" not in node.calls


@pytest.mark.parametrize("missing", ["flannel", "network"])
def test_where_nothing_is_known_nothing_is_said(node: Node, missing: str) -> None:
    if missing == "flannel":
        node.subnets.unlink()
        node.cidrs = [NEW]
    else:
        node.cidrs = []
    assert (node.converge(), node.calls) == ([], [])
