# SPDX-License-Identifier: Apache-2.0
"""A node's report, run alone as on a node, between real networks of this machine's kernel.

Two of them stand for nodes: each has a network card, a VXLAN as flannel makes it, a pod, and
servers in the place of the API, of kubelets and of Services.
"""

from __future__ import annotations

import contextlib
import datetime
import json
import os
import shlex
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from ansible_collections.kubewright.cluster.plugins.module_utils._base import commands
from ansible_collections.kubewright.cluster.plugins.module_utils._cluster import pki
from ansible_collections.kubewright.cluster.plugins.module_utils._onnode import check, flannel
from loops import ENVIRONMENT, run

API_NAME = "api.demo.internal"
SCRIPTS = Path(check.__file__).parent
REQUEST = {
    "name": "web-1",
    "address": "192.0.2.21",
    "nodes": {"cp-1": "192.0.2.11", "web-1": "192.0.2.21"},
    "servers": {"cp-1": "192.0.2.11"},
    "api_name": API_NAME,
    "service_cidr": "10.96.0.0/16",
}
#: What one node serves, with a certificate for the API; it ends with its standard input.
SERVERS = """
import socket, ssl, sys, threading
kubelet = socket.create_server(("0.0.0.0", 10250))
api = socket.create_server(("192.0.2.11", 6443))
service = socket.create_server(("10.96.0.1", 443))
context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
context.load_cert_chain(sys.argv[1])
dns = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
dns.bind(("10.96.0.10", 53))
def serve():
    while True:
        one, _ = api.accept()
        with context.wrap_socket(one, server_side=True) as sealed:
            sealed.recv(1000)
            sealed.sendall(b"HTTP/1.0 200 OK\\r\\n\\r\\nok")
def resolve():
    while True:
        told, place = dns.recvfrom(4096)
        dns.sendto(told[:2] + b"\\x81\\x80\\0\\1\\0\\1" + told[8:], place)
for one in (serve, resolve):
    threading.Thread(target=one, daemon=True).start()
print("ready", flush=True)
sys.stdin.read()
"""
#: Of flannel's rules, that for what pods send out.
MASQUERADE = (
    "table ip flannel-ipv4 { chain postrtg { type nat hook postrouting priority srcnat; "
    "ip saddr 10.244.0.0/16 ip daddr != 10.0.0.0/8 masquerade ; } ; }"
)
#: A node's own places, in a directory.
REPORT = """
import pathlib, sys
root = pathlib.Path(sys.argv[1])
sys.path.insert(0, str(root))
import check, flannel, guard, report
check.CA, check.FLANNEL, check.NETWORKS = root / "ca.crt", root / "flannel", root / "netns"
flannel.SUBNETS, flannel.CRICTL = root / "subnet.env", str(root / "crictl")
report.JOINED = root / "ca.crt"
guard.report = lambda point: []
report.main()
"""


@dataclass(frozen=True)
class Lab:
    """Networks by what they are: ``cp``, ``web`` and their pods ``cp-pod``, ``web-pod``."""

    root: Path
    prefix: str

    def on(self, node: str, command: str) -> str:
        """Run a command, as a shell would part it, in a network."""
        return run("ip", "netns", "exec", f"{self.prefix}-{node}", *shlex.split(command))

    def report(self) -> list[str]:
        """What web-1 says of its traffic."""
        words = [sys.executable, "-B", "-c", REPORT, str(self.root)]
        told = subprocess.run(
            ["ip", "netns", "exec", f"{self.prefix}-web", *words],
            input=json.dumps({"traffic": REQUEST}),
            env=ENVIRONMENT,
            capture_output=True,
            text=True,
        )
        assert told.returncode == 0, told.stderr
        return [one["text"] for one in json.loads(told.stdout)["traffic"]]

    def node(self, node: str, number: int, other: int) -> None:
        """A node's card, its VXLAN and the way that flannel lays to the other node, and a pod."""
        static = "nolearning"  # as flannel has it
        overlay, far = f"10.244.{number}", f"10.244.{other}"
        address, hardware = f"192.0.2.{number}1", f"02:00:00:00:00:{other}1"
        for words in (
            "ip link set lo up",
            f"ip address add {address}/24 dev eth0",
            "ip link set eth0 up",
            f"ip link add flannel.1 type vxlan id 1 dev eth0 local {address} dstport 8472 {static}",
            f"ip link set flannel.1 address 02:00:00:00:00:{number}1 up",
            f"ip address add {overlay}.0/32 dev flannel.1",
            f"ip route add {far}.0/24 via {far}.0 dev flannel.1 onlink",
            f"ip neighbour add {far}.0 lladdr {hardware} dev flannel.1 nud permanent",
            f"bridge fdb add {hardware} dev flannel.1 dst 192.0.2.{other}1",
            f"ip link add cni0 type veth peer name eth0 netns {self.prefix}-{node}-pod",
            f"ip address add {overlay}.1/24 dev cni0",
            "ip link set cni0 up",
            "sysctl -qw net.ipv4.ip_forward=1 net.ipv4.conf.all.rp_filter=0",
        ):
            self.on(node, words)
        for words in (
            f"ip address add {overlay}.2/24 dev eth0",
            "ip link set eth0 up",
            f"ip route add default via {overlay}.1",
        ):
            self.on(f"{node}-pod", words)


@pytest.fixture(scope="module")
def lab(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lab]:
    root = tmp_path_factory.mktemp("node")
    scripts = (
        "netlink",
        "flannel",
        "traffic",
        "check",
        "certificates",
        "guard",
        "kubelet_died",
        "trial_node",
        "daemons",
        "report",
    )
    for name in scripts:
        (root / f"{name}.py").write_text((SCRIPTS / f"{name}.py").read_text())
    authority = pki.make_authority(API_NAME, datetime.datetime.now(datetime.UTC))
    (root / "ca.crt").write_text(authority.certificate)
    (root / "server.pem").write_text(authority.certificate + authority.key)
    (root / "flannel").touch()
    (root / "subnet.env").write_text("FLANNEL_SUBNET=10.244.2.1/24\n")
    (root / "crictl").write_text("""#!/bin/sh\necho '{"containers": [{"createdAt": "1"}]}'\n""")
    (root / "crictl").chmod(0o755)
    made = Lab(root, f"kw{os.getpid()}")
    with contextlib.ExitStack() as stack:
        for node in ("cp", "web", "cp-pod", "web-pod"):
            run("ip", "netns", "add", f"{made.prefix}-{node}")
            stack.callback(run, "ip", "netns", "delete", f"{made.prefix}-{node}")
        made.on("cp", f"ip link add eth0 type veth peer name eth0 netns {made.prefix}-web")
        made.node("cp", 1, 2)
        made.node("web", 2, 1)
        made.on("cp", "ip address add 10.96.0.1/32 dev lo")
        made.on("cp", "ip address add 10.96.0.10/32 dev lo")
        made.on("web", "ip route add 10.96.0.0/16 via 192.0.2.11")
        made.on("web", f"nft '{MASQUERADE}'")
        (root / "netns").mkdir()
        (root / "netns/cni-1").symlink_to(f"/run/netns/{made.prefix}-web-pod")
        words = ["ip", "netns", "exec", f"{made.prefix}-cp", sys.executable, "-c", SERVERS]
        server = stack.enter_context(
            subprocess.Popen(
                [*words, str(root / "server.pem")],
                env=ENVIRONMENT,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                text=True,
            )
        )
        assert server.stdin is not None and server.stdout is not None
        stack.callback(server.stdin.close)
        assert server.stdout.readline() == "ready\n"
        yield made


@contextlib.contextmanager
def dropped(lab: Lab, node: str, hook: str, what: str) -> Iterator[None]:
    """A host firewall on a node that drops something."""
    chain = f"chain {hook} {{ type filter hook {hook} priority 0; {what} drop; }}"
    lab.on(node, f"nft 'table inet firewall {{ {chain} ; }}'")
    try:
        yield
    finally:
        lab.on(node, "nft delete table inet firewall")


def test_a_node_that_works(lab: Lab) -> None:
    assert lab.report() == []


def test_a_firewall_that_drops_the_pod_network(lab: Lab) -> None:
    with dropped(lab, "cp", "input", "udp dport 8472"):
        (found,) = lab.report()
    assert found.startswith("Pods here can't reach the pods of cp-1 (10.244.1.0: no answer within")
    assert lab.report() == []


def test_a_firewall_that_drops_all_input(lab: Lab) -> None:
    with dropped(lab, "cp", "input", "ip saddr 0.0.0.0/0"):
        found = lab.report()
    assert [text.partition("(")[0] for text in found] == [
        "The API server of cp-1 does not answer here ",
        "Neither cp-1 nor the pods there can be reached from here ",
    ]


def test_services_that_nobody_programs(lab: Lab) -> None:
    with dropped(lab, "web", "output", "ip daddr 10.96.0.0/16"):
        (found,) = lab.report()
    assert found.startswith("Services don't work here: that of the API (10.96.0.1)")
    assert found.endswith("kube-proxy does not run.")


def test_dns_that_does_not_answer(lab: Lab) -> None:
    with dropped(lab, "cp", "input", "udp dport 53"):
        assert lab.report() == [
            "Cluster DNS (10.96.0.10) does not answer here (no answer within 2 s)."
        ]


def test_a_node_that_does_not_forward(lab: Lab) -> None:
    """Only its pods notice."""
    with dropped(lab, "web", "forward", "ip saddr 10.244.2.0/24"):
        found = lab.report()
    assert [text.partition("(")[0] for text in found] == [
        "Pods here can't reach the pods of cp-1 ",
        "Pods here can't reach the Service of the API ",
    ]


def test_a_pod_that_starts_or_ends_is_not_the_one_that_asks(lab: Lab) -> None:
    """Its network is there already, or still, and leads nowhere."""
    empty = f"{lab.prefix}-empty"
    run("ip", "netns", "add", empty)
    (lab.root / "netns/cni-0").symlink_to(f"/run/netns/{empty}")
    try:
        assert lab.report() == []
    finally:
        (lab.root / "netns/cni-0").unlink()
        run("ip", "netns", "delete", empty)


@pytest.mark.parametrize("how", ["flush chain ip flannel-ipv4 postrtg", "flush ruleset"])
def test_rules_of_flannel_that_somebody_flushed(lab: Lab, how: str) -> None:
    """No peer and no Service notices: it is the world outside that does not answer."""
    lab.on("web", f"nft {how}")
    try:
        (found,) = lab.report()
        (lab.root / "crictl").rename(lab.root / "kept")
        (lab.root / "crictl").write_text("#!/bin/sh\necho '{}'\n")
        (lab.root / "crictl").chmod(0o755)
        assert lab.report() == [], "the flannel of somebody else may work another way"
    finally:
        (lab.root / "kept").rename(lab.root / "crictl")
        lab.on("web", "nft flush ruleset")
        lab.on("web", f"nft '{MASQUERADE}'")
    assert found.startswith(
        "Pods here can't reach anything outside the cluster: flannel's masquerading rules"
    )


def test_a_machine_without_nft_has_that_of_the_image() -> None:
    assert f"{commands.IMAGE_TOOLS}/run" in flannel.PLACES.split(":")


def test_a_bridge_of_another_network(lab: Lab) -> None:
    """After the Node was deleted, and made with another one."""
    (lab.root / "subnet.env").write_text("FLANNEL_SUBNET=10.244.9.1/24\n")
    try:
        (found,) = lab.report()
    finally:
        (lab.root / "subnet.env").write_text("FLANNEL_SUBNET=10.244.2.1/24\n")
    assert found == (
        "Pods can't start here: their bridge (cni0) has 10.244.2.1, but the pod network "
        "of this node is 10.244.9.0/24."
    )


def test_flannel_on_another_network_card(lab: Lab) -> None:
    lab.on("web", "ip link set flannel.1 type vxlan id 1 local 198.51.100.7")
    try:
        found = lab.report()
    finally:
        lab.on("web", "ip link set flannel.1 type vxlan id 1 local 192.0.2.21")
    assert found[0].startswith("flannel sends from 198.51.100.7, but the node's address")
    assert lab.report() == []


def test_a_peer_that_flannel_does_not_know(lab: Lab) -> None:
    peer = "bridge fdb {} 02:00:00:00:00:11 dev flannel.1 dst 192.0.2.11"
    lab.on("web", peer.format("delete"))
    try:
        (found,) = lab.report()
    finally:
        lab.on("web", peer.format("add"))
    assert found.startswith("flannel has no route from here to the pods of cp-1 via")


def test_no_overlay_at_all(lab: Lab) -> None:
    lab.on("web", "ip link set flannel.1 name other")
    try:
        found = lab.report()
    finally:
        lab.on("web", "ip link set other name flannel.1")
    assert (
        found[0] == "The pod network is missing: flannel has not created the interface flannel.1."
    )


def test_a_section_that_fails_hides_no_other(lab: Lab) -> None:
    (lab.root / "ca.crt").rename(lab.root / "kept")
    (lab.root / "ca.crt").mkdir()
    try:
        (found,) = lab.report()
    finally:
        (lab.root / "ca.crt").rmdir()
        (lab.root / "kept").rename(lab.root / "ca.crt")
    assert found.startswith("This could not be checked: ")
