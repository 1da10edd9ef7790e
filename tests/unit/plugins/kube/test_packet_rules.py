# SPDX-License-Identifier: Apache-2.0
"""Packet rules that somebody flushed, and the containers that write them again."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any

import pytest
from ansible_collections.kubewright.cluster.plugins.module_utils._base import commands
from ansible_collections.kubewright.cluster.plugins.module_utils._base.errors import KubewrightError
from ansible_collections.kubewright.cluster.plugins.module_utils._kube import packet_rules
from ansible_collections.kubewright.cluster.plugins.module_utils._onnode import flannel

SERVICE = "10.96.0.1"
PROXY, FLANNEL = "kube-proxy", "flannel"
NAMESPACES = {PROXY: "kube-system", FLANNEL: "kube-flannel"}
GONE = "the packet rules of {} are missing; it will be restarted to write them"
BOTH = [GONE.format(PROXY), GONE.format(FLANNEL)]
#: What nft prints of each, and the words of its question that tell which is meant.
PRINTED = {
    PROXY: "ip daddr . meta l4proto . th dport vmap @service-ips",
    FLANNEL: "ip saddr 10.244.0.0/16 ip daddr != 224.0.0.0/4 masquerade fully-random",
}
ASKED = {
    f"list chain ip kube-proxy services; get element ip kube-proxy service-ips "
    f"{{ {SERVICE} . tcp . 443 }}": PROXY,
    "list chain ip flannel-ipv4 postrtg": FLANNEL,
}


class FakeApi:
    """Has the API's Service."""

    def get(self, path: str) -> dict[str, Any]:
        assert path == "/api/v1/namespaces/default/services/kubernetes"
        return {"spec": {"clusterIP": SERVICE}}


API: Any = FakeApi()


class Machine:
    """nftables and containers; one that is stopped is started again and writes its rules."""

    def __init__(self) -> None:
        self.rules = dict(PRINTED)
        self.started = dict.fromkeys(PRINTED, time.time() - 60)
        self.comes_back = True
        self.nft_error = "Error: No such file or directory"
        self.stopped: list[str] = []
        self.now = 0.0

    def __call__(self, argv: Any, *, timeout: float = 0, stdin: str = "") -> commands.Result:
        if argv[0] == "nft":
            text = self.rules.get(ASKED[argv[1]])
            rc = int(text is None)
            return commands.Result(tuple(argv), rc, text or "", self.nft_error if rc else "")
        text = ""
        if "ps" in argv:
            labels = dict(word.split("=") for word in argv if word.startswith("io.kubernetes"))
            name = labels["io.kubernetes.container.name"]
            assert labels["io.kubernetes.pod.namespace"] == NAMESPACES[name]
            one = {"id": name, "createdAt": str(int(self.started.get(name, 0) * 1e9))}
            text = json.dumps({"containers": [one] if name in self.started else []})
        else:
            names = argv[argv.index("stop") + 3 :]
            self.stopped += names
            self.rules |= {name: PRINTED[name] for name in names if self.comes_back}
        return commands.Result(tuple(argv), 0, text, "")

    def converge(self, check: bool = False) -> list[str]:
        def sleep(seconds: float) -> None:
            self.now += seconds

        rules = packet_rules.of(self, API, 60)
        rules.clock, rules.sleep = lambda: self.now, sleep
        return rules.converge(check)


@pytest.fixture
def machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Machine:
    (tmp_path / "subnet.env").write_text("FLANNEL_SUBNET=10.244.3.1/24\n")
    monkeypatch.setattr(flannel, "SUBNETS", tmp_path / "subnet.env")
    monkeypatch.setattr(packet_rules, "_proxy_mode", lambda: "nftables")
    return Machine()


def test_rules_that_are_there(machine: Machine) -> None:
    assert (machine.converge(), machine.stopped) == ([], [])


def test_flushed_rules_come_back(machine: Machine) -> None:
    machine.rules = {}
    assert (machine.converge(check=True), machine.stopped) == (BOTH, [])
    assert machine.converge() == BOTH
    assert machine.stopped == [FLANNEL, PROXY]
    assert machine.converge(check=True) == []


def test_only_whose_rules_are_gone_is_started_again(machine: Machine) -> None:
    del machine.rules[FLANNEL]
    assert (machine.converge(), machine.stopped) == (BOTH[1:], [FLANNEL])


@pytest.mark.parametrize("owner", PRINTED)
def test_a_chain_that_was_emptied_counts_as_gone(machine: Machine, owner: str) -> None:
    machine.rules[owner] = "type nat hook postrouting priority srcnat; policy accept;"
    assert (machine.converge(), machine.stopped) == ([GONE.format(owner)], [owner])


def test_rules_that_stay_away_are_told(machine: Machine) -> None:
    machine.rules, machine.comes_back = {}, False
    with pytest.raises(
        KubewrightError, match="of kube-proxy and flannel are still missing 60 s after a restart"
    ):
        machine.converge()


def test_a_container_that_has_just_started_has_time_for_its_rules(machine: Machine) -> None:
    del machine.rules[PROXY]
    machine.started[PROXY] = time.time()
    assert (machine.converge(), machine.stopped) == ([], [])


def test_an_nft_that_fails_is_no_finding(machine: Machine) -> None:
    machine.rules, machine.nft_error = {}, "Error: Operation not permitted"
    with pytest.raises(KubewrightError, match="Listing nftables failed"):
        machine.converge()
    assert machine.stopped == []


@pytest.mark.parametrize("mode", ["iptables", ""])
def test_a_kube_proxy_that_works_another_way_has_no_such_rules(
    machine: Machine, monkeypatch: pytest.MonkeyPatch, mode: str
) -> None:
    monkeypatch.setattr(packet_rules, "_proxy_mode", lambda: mode)
    machine.rules = {}
    assert machine.converge(check=True) == BOTH[1:]


def test_a_flannel_that_is_not_ours_is_left_alone(machine: Machine) -> None:
    machine.rules = {}
    del machine.started[FLANNEL]
    assert machine.converge(check=True) == BOTH[:1]
    flannel.SUBNETS.unlink()
    machine.started[FLANNEL] = 0
    assert machine.converge(check=True) == BOTH[:1]


@pytest.fixture
def proxy(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """A kube-proxy that says how it works, and a proxy in the environment that nobody asks."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            assert self.path == "/proxyMode"
            self.send_response(200)
            self.end_headers()
            self.wfile.write(b"nftables")

        def log_message(self, format: str, *args: Any) -> None:
            pass

    with HTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.05,))
        thread.start()
        monkeypatch.setenv("http_proxy", "http://127.0.0.1:1")
        monkeypatch.setattr(packet_rules, "PROXY", ("127.0.0.1", server.server_port))
        yield
        server.shutdown()
        thread.join()


def test_kube_proxy_says_how_it_works(proxy: None) -> None:
    assert packet_rules._proxy_mode() == "nftables"


def test_a_kube_proxy_that_does_not_run_says_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(packet_rules, "PROXY", ("127.0.0.1", 1))
    assert packet_rules._proxy_mode() == ""
