# SPDX-License-Identifier: Apache-2.0
"""API servers, etcd and nodes, read from real TLS servers on loopback."""

from __future__ import annotations

import asyncio
import base64
import json
import socket
import ssl
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

import pytest

from kubewright.locations import ClusterPaths
from kubewright.observe import etcd, nodes
from kubewright.observe.control_plane import living_control_plane
from kubewright.observe.credentials import (
    CredentialsError,
    client_trust,
    pointed_at,
    read_kubeconfig,
    server_trust,
)
from kubewright.observe.snapshot import take
from kubewright.spec.machines import Machine
from kubewright.spec.models import ControlPlane, Spec

NAME = "api.demo.internal"


def machine(number: int, address: str) -> Machine:
    return Machine(f"x://{number}", f"demo-cp-{number}", address, (), "local", "", "", "", "on")


def test_api_servers_dead_and_alive(authority: Any, serve: Any, tmp_path: Path) -> None:
    other = type(authority)(tmp_path / "other")
    port = serve(authority, [NAME], {"/readyz": (200, "ok")})
    unready = "[+]ping ok\n[-]etcd failed: reason withheld\nreadyz check failed"
    serve(authority, [NAME], {"/readyz": (500, unready)}, address="127.0.0.2", port=port)
    serve(other, [NAME], {"/readyz": (200, "ok")}, address="127.0.0.3", port=port)
    serve(authority, ["api.other.internal"], {}, address="127.0.0.4", port=port)
    machines = [machine(number, f"127.0.0.{number}") for number in range(1, 6)]
    trust = server_trust(authority.certificate_file)
    servers = asyncio.run(living_control_plane(machines, trust, NAME, port=port))
    assert [server.host for server in servers] == [f"demo-cp-{n}" for n in range(1, 6)]
    assert [server.ready for server in servers] == [True, False, False, False, False]
    assert servers[1].reason == "not ready: etcd"
    assert servers[2].reason.startswith("its certificate is not trusted")
    assert servers[3].reason.startswith("its certificate is not trusted")
    assert servers[4].reason == f"nothing listens on port {port}"


def test_api_servers_that_hang_are_awaited_together(authority: Any) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        machines = [machine(number, "127.0.0.1") for number in range(1, 8)]
        begun = time.monotonic()
        trust = server_trust(authority.certificate_file)
        port = silent.getsockname()[1]
        servers = asyncio.run(living_control_plane(machines, trust, NAME, seconds=0.5, port=port))
        assert time.monotonic() - begun < 3
    assert {server.reason for server in servers} == {"no answer within 0.5 s"}


def test_what_listens_may_not_speak_tls(authority: Any) -> None:
    trust = server_trust(authority.certificate_file)
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]

        def greet() -> None:
            connection, _ = server.accept()
            connection.sendall(b"SSH-2.0-OpenSSH_9.2\r\n" * 10)
            connection.close()

        thread = threading.Thread(target=greet)
        thread.start()
        asked = living_control_plane([machine(1, "127.0.0.1")], trust, NAME, port=port)
        (found,) = asyncio.run(asked)
        thread.join()
    assert not found.ready
    assert found.reason


def etcd_answers(own: int, leader: int, members: list[dict[str, Any]]) -> dict[str, Any]:
    header = {"cluster_id": "1", "member_id": str(own), "raft_term": "2"}
    status = {"header": header, "version": "3.7.0", "dbSize": "4096"}
    if leader:
        status["leader"] = str(leader)
    return {
        "/v3/maintenance/status": (200, status),
        "/v3/cluster/member/list": (200, {"header": header, "members": members}),
    }


def member(number: int, **more: Any) -> dict[str, Any]:
    return {
        "ID": str(2**63 + number),
        "name": f"demo-cp-{number}",
        "peerURLs": [f"https://127.0.0.{number}:2380"],
        **more,
    }


def test_etcd_with_one_member_dead(authority: Any, serve: Any) -> None:
    members = [member(1), member(2), member(3)]
    port = 0
    for number in (1, 2):
        port = serve(
            authority,
            [f"127.0.0.{number}"],
            etcd_answers(2**63 + number, 2**63 + 2, members),
            address=f"127.0.0.{number}",
            port=port,
            clients=authority,
        )
    machines = [machine(number, f"127.0.0.{number}") for number in (1, 2, 3)]
    trust = client_trust(authority.certificate_file, authority.key_file, "observer")
    found = asyncio.run(etcd.ask(machines, trust, port=port))
    assert [(one.host, one.healthy, one.leader) for one in found.members] == [
        ("demo-cp-1", True, False),
        ("demo-cp-2", True, True),
        ("demo-cp-3", False, False),
    ]
    assert found.members[0].id == f"{2**63 + 1:x}"
    assert (found.members[0].version, found.members[0].db_bytes) == ("3.7.0", 4096)
    assert found.members[2].reason == f"nothing listens on port {port}"
    assert (found.quorum, found.voters, found.healthy_voters, found.spare) == (True, 3, 2, 0)


def test_etcd_wants_a_client_certificate(authority: Any, serve: Any) -> None:
    port = serve(authority, ["127.0.0.1"], etcd_answers(1, 1, [member(1)]), clients=authority)
    found = asyncio.run(
        etcd.ask([machine(1, "127.0.0.1")], server_trust(authority.certificate_file), port=port)
    )
    assert found.members == ()
    assert found.reason.startswith("demo-cp-1: ")


def test_etcd_without_a_majority_has_no_leader(authority: Any, serve: Any) -> None:
    answers = etcd_answers(2**63 + 1, 0, [member(1), member(2), member(3)])
    port = serve(authority, ["127.0.0.1"], answers)
    machines = [machine(number, f"127.0.0.{number}") for number in (1, 2, 3)]
    found = asyncio.run(etcd.ask(machines, server_trust(authority.certificate_file), port=port))
    assert not found.quorum
    assert found.members[0].reason == "it has no leader"


def test_an_etcd_learner_has_no_vote(authority: Any, serve: Any) -> None:
    members = [member(1), member(2, isLearner=True, name="")]
    port = serve(authority, ["127.0.0.1"], etcd_answers(2**63 + 1, 2**63 + 1, members))
    machines = [machine(number, f"127.0.0.{number}") for number in (1, 2)]
    found = asyncio.run(etcd.ask(machines, server_trust(authority.certificate_file), port=port))
    learner = next(one for one in found.members if one.learner)
    assert learner.host == "demo-cp-2", "named after its machine until it has started"
    assert (found.voters, found.quorum) == (1, True)


@pytest.mark.parametrize("answer", [(503, ""), (200, "no json"), (200, "[]")])
def test_etcd_that_answers_nonsense(authority: Any, serve: Any, answer: tuple[int, str]) -> None:
    paths = ("/v3/maintenance/status", "/v3/cluster/member/list")
    port = serve(authority, ["127.0.0.1"], dict.fromkeys(paths, answer))
    found = asyncio.run(
        etcd.ask([machine(1, "127.0.0.1")], server_trust(authority.certificate_file), port=port)
    )
    assert found.members == ()


def node_item(name: str, ready: str = "True", **spec: Any) -> dict[str, Any]:
    return {
        "metadata": {"name": name, "labels": {"kubewright.io/pool": "web"}},
        "spec": spec,
        "status": {
            "conditions": [
                {"type": "Ready", "status": ready, "message": "kubelet stopped posting status"}
            ],
            "addresses": [{"type": "InternalIP", "address": "10.89.0.21"}],
            "nodeInfo": {"kubeletVersion": "v1.37.2"},
        },
    }


def kubeconfig(authority: Any, server: str) -> dict[str, Any]:
    certificate, key = authority.issue("kubernetes-admin")

    def text(content: bytes) -> str:
        return base64.b64encode(content).decode()

    cluster = {"server": server, "certificate-authority-data": text(authority.pem)}
    user = {"client-certificate-data": text(certificate), "client-key-data": text(key)}
    return {
        "apiVersion": "v1",
        "kind": "Config",
        "clusters": [{"name": "demo", "cluster": cluster}],
        "users": [{"name": "admin", "user": user}],
        "contexts": [{"name": "demo", "context": {"cluster": "demo", "user": "admin"}}],
        "current-context": "demo",
    }


def test_nodes(authority: Any, serve: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HTTPS_PROXY", "http://127.0.0.1:9")
    items = [node_item("demo-web-2", "Unknown", unschedulable=True), node_item("demo-web-1")]
    port = serve(authority, [NAME], {"/api/v1/nodes": (200, {"items": items})}, clients=authority)
    turned = pointed_at(kubeconfig(authority, "https://x:1"), f"https://127.0.0.1:{port}", NAME)
    first, second = asyncio.run(nodes.read(turned))
    assert (first.name, first.ready, first.cordoned, first.version) == (
        "demo-web-1",
        True,
        False,
        "v1.37.2",
    )
    assert (second.ready, second.cordoned, second.pool) == (False, True, "web")
    assert second.reason == "kubelet stopped posting status"
    assert [one.name for one in asyncio.run(nodes.read(turned))] == ["demo-web-1", "demo-web-2"]


def test_a_command_that_asks_nobody_imports_no_client() -> None:
    assert not imported("from kubewright.cli.app import app; app()") & {"aiohttp", "kubernetes"}


def test_nodes_are_read_without_what_takes_longer_than_all_the_rest(
    authority: Any, serve: Any, tmp_path: Path
) -> None:
    """To import the client's models took half of the processor time of a status."""
    port = serve(authority, [NAME], {"/api/v1/nodes": (200, {"items": []})}, clients=authority)
    file = tmp_path / "kubeconfig"
    turned = pointed_at(kubeconfig(authority, "https://x:1"), f"https://127.0.0.1:{port}", NAME)
    file.write_text(json.dumps(turned))
    told = imported(
        "import asyncio, json; from kubewright.observe import nodes; "
        f"asyncio.run(nodes.read(json.load(open({str(file)!r}))))"
    )
    assert "kubernetes.aio" in told
    assert not {one for one in told if one.startswith("kubernetes.aio.client.models.")}
    assert not {one for one in told if one.startswith("kubernetes.aio.client.api.")}


def imported(words: str) -> set[str]:
    """The modules that a Python of its own has loaded after these words."""
    command = [sys.executable, "-c", f"{words}; import sys; print(*sys.modules)"]
    told = subprocess.run(command, capture_output=True, text=True, check=True)
    return set(told.stdout.split())


def test_nodes_that_cannot_be_read(authority: Any, serve: Any) -> None:
    port = serve(authority, [NAME], {"/api/v1/nodes": (403, "{}")})
    good = kubeconfig(authority, f"https://127.0.0.1:{port}")
    with pytest.raises(nodes.NodesError, match="status 403"):
        asyncio.run(nodes.read(pointed_at(good, f"https://127.0.0.1:{port}", NAME)))
    with pytest.raises(nodes.NodesError):
        asyncio.run(nodes.read(pointed_at(good, f"https://127.0.0.1:{port}", "api.other.internal")))
    with pytest.raises(nodes.NodesError):
        asyncio.run(nodes.read(pointed_at(good, "https://127.0.0.1:1", NAME)))


def test_pointing_elsewhere_leaves_the_original(authority: Any) -> None:
    original = kubeconfig(authority, "https://x:1")
    turned = pointed_at(original, "https://y:2", NAME)
    assert original["clusters"][0]["cluster"]["server"] == "https://x:1"
    assert turned["clusters"][0]["cluster"]["server"] == "https://y:2"
    assert turned["clusters"][0]["cluster"]["tls-server-name"] == NAME


def test_client_certificates_leave_no_file(authority: Any) -> None:
    before = {path.name for path in authority.directory.iterdir()}
    context = client_trust(authority.certificate_file, authority.key_file, "observer")
    assert context.verify_mode is ssl.CERT_REQUIRED
    assert {path.name for path in authority.directory.iterdir()} == before


def test_credentials_that_are_missing_or_damaged(tmp_path: Path, authority: Any) -> None:
    bad = tmp_path / "bad"
    bad.write_text("nonsense")
    with pytest.raises(CredentialsError, match="has not been created"):
        server_trust(tmp_path / "nothing")
    with pytest.raises(CredentialsError, match="is not a certificate"):
        server_trust(bad)
    with pytest.raises(CredentialsError, match="key"):
        client_trust(authority.certificate_file, bad, "x")
    with pytest.raises(CredentialsError, match="run 'kubewright apply'"):
        read_kubeconfig(tmp_path / "nothing")
    for text in ("nonsense", "a: [", "clusters: []\nusers: []", "[]", ""):
        bad.write_text(text)
        with pytest.raises(CredentialsError, match="is not a kubeconfig"):
            read_kubeconfig(bad)


def test_a_snapshot_of_nothing(tmp_path: Path) -> None:
    spec = Spec(
        plugin="kubewright.cluster.spec",
        name="demo",
        version="1.37",
        control_plane=ControlPlane(provider="local", size=3),
        pools=(),
    )
    snapshot = take(spec, ClusterPaths(tmp_path / "demo"))
    assert (snapshot.api_servers, snapshot.nodes, snapshot.machines) == ((), None, ())
    assert snapshot.as_dict()["etcd"]["quorum"] is False
    assert not (tmp_path / "demo").exists(), "reading makes nothing"
