# SPDX-License-Identifier: Apache-2.0
"""What the module node_state answers, on this machine as a node; it only reads."""

from __future__ import annotations

import datetime
import fcntl
import hashlib
import json
import os
import shutil
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import certified
import pytest
from ansible_collections.kubewright.cluster.plugins.module_utils._cluster import claims
from ansible_collections.kubewright.cluster.plugins.module_utils._cluster.claims import Claim
from ansible_collections.kubewright.cluster.plugins.module_utils._fence import fencing
from ansible_collections.kubewright.cluster.plugins.module_utils._image import containers
from ansible_collections.kubewright.cluster.plugins.module_utils._kube import (
    apiserver,
    memberships,
    packet_rules,
)
from ansible_collections.kubewright.cluster.plugins.module_utils._onnode import certificates
from ansible_collections.kubewright.cluster.plugins.modules import node_state
from api_server import ADMINISTRATOR, HERE, KUBELET, NAME, NOBODY, Server, serving
from wanted_files import OWNER

RunModule = Callable[..., dict[str, Any]]
#: The address under which the server's certificate names it.
OWN = NAME

needs_root = pytest.mark.skipif(os.getuid() != 0, reason="root alone may look")


@pytest.fixture(autouse=True)
def record(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The record of a node that has not joined."""
    paths = (tmp_path / "kubeadm.json", tmp_path / "kubelet.conf")
    monkeypatch.setattr(memberships.read_membership, "__defaults__", paths)
    return paths[0]


@pytest.fixture
def server(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    """This node's own API server, which is ready."""
    with serving(tmp_path, monkeypatch) as made:
        monkeypatch.setattr(apiserver, "API_PORT", made.port)
        monkeypatch.setattr(node_state, "CA", tmp_path / "ca.crt")
        monkeypatch.setattr(apiserver, "POLL", 0.01)
        yield made


def joined(record: Path, role: str) -> None:
    memberships.write_membership("finished", "join", role, "3f0c", record)


@pytest.fixture(autouse=True)
def good_certificates(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where the certificates of a node lie that has joined; they are good."""
    root = tmp_path / "certified"
    places = (root / "etc/kubernetes", root / "var/lib/kubelet/pki")
    monkeypatch.setattr(certificates.of_node, "__defaults__", places)
    certified.lay(root, now=datetime.datetime.now(datetime.UTC))
    return root


def wants(path: Path, content: str) -> dict[str, Any]:
    return {"role": {"files": [{"path": str(path), "content": content, **OWNER}]}}


@needs_root
def test_a_machine_of_which_nothing_is_known(run_module: RunModule) -> None:
    result = run_module("node_state")
    machine = result.pop("machine")
    assert (machine["root"], machine["architecture"]) == (True, os.uname().machine)
    assert result.pop("invocation")["module_args"]["documents"] == []
    clock = result.pop("clock")
    assert clock["first"] <= clock["last"] <= time.time()
    assert result == {
        "changed": False,
        "findings": [],
        "drift": {},
        "unknown": [],
        "node": {},
        "node_missing": False,
        "pod_networks": [],
        "membership": {"phase": "none", "operation": None, "role": None, "cluster_id": None},
        "certificates": {"due": False, "serves": True, "list": []},
        "api_ready": False,
        "fence": {"epoch": 0, "run": ""},
        "traffic": [],
        "diff": [],
    }


@needs_root
@pytest.mark.parametrize("check", [True, False])
@pytest.mark.parametrize("diff", [True, False])
def test_drift_is_said_and_nothing_is_written(
    run_module: RunModule, tmp_path: Path, check: bool, diff: bool
) -> None:
    path = tmp_path / "config"
    path.write_text("old\n")
    documents = {"good": {"files": []}, **wants(path, "new\n")}
    result = run_module("node_state", check=check, diff=diff, documents=documents)
    assert result["drift"] == {"role": [f"{path} has other content"]}
    assert result["changed"] is False
    assert path.read_text() == "old\n"
    shown = [(one["before"], one["after"]) for one in result.get("diff", [])]
    assert shown == ([("old\n", "new\n")] if diff else [])
    assert ("diff" in result) == diff


@needs_root
def test_documents_are_not_sent_back(run_module: RunModule, tmp_path: Path) -> None:
    documents = wants(tmp_path / "config", "long content")
    result = run_module("node_state", diff=False, documents=documents, roles=["role"])
    assert "long content" not in json.dumps(result)
    assert result["invocation"]["module_args"]["documents"] == ["role"]
    assert result["invocation"]["module_args"]["roles"] == ["role"]


@needs_root
def test_a_secret_stays_where_it_is(run_module: RunModule, tmp_path: Path) -> None:
    key = tmp_path / "ca.key"
    key.write_text("verysecret\n")
    key.chmod(0o600)
    file = {"path": str(key), "secret": True, "mode": "0600", **OWNER}
    for text, drifted in (("verysecret\n", False), ("a newer verysecret\n", True)):
        digests = {str(key): hashlib.sha256(text.encode()).hexdigest()}
        documents = {"role": {"files": [file], "digests": digests}}
        result = run_module("node_state", documents=documents)
        assert bool(result["drift"]) is drifted
        assert "verysecret" not in json.dumps(result)


@needs_root
def test_the_epoch_of_the_last_writer(run_module: RunModule) -> None:
    with fencing.node_lock(Claim(8), 0):
        pass
    assert run_module("node_state")["fence"] == {"epoch": 8, "run": ""}
    assert fencing.read_claim().epoch == 8
    claims.EPOCH_PATH.write_text("eight")
    assert "instead of a number" in run_module("node_state")["msg"]


@needs_root
def test_a_damaged_record_only_stands_in_the_way_of_who_cares(
    run_module: RunModule, record: Path
) -> None:
    record.parent.mkdir(parents=True, exist_ok=True)
    record.write_text('{"phase": "fin')
    assert "is damaged" in run_module("node_state")["msg"]
    half = {"phase": "partial", "operation": None, "role": None, "cluster_id": None}
    assert run_module("node_state", damaged_ok=True)["membership"] == half


@needs_root
def test_a_record_that_was_cut(run_module: RunModule, record: Path) -> None:
    memberships.write_membership("started", "join", "worker", "3f0c", record)
    documents = {"worker": {"membership": {"role": "worker", "cluster_id": "3f0c"}}}
    result = run_module("node_state", documents=documents)
    assert result["membership"] == {
        "phase": "partial",
        "operation": "join",
        "role": "worker",
        "cluster_id": "3f0c",
    }
    assert result["drift"] == {"worker": ["its join, or a reset, was interrupted"]}


@needs_root
def test_a_kubelet_that_someone_else_joined_is_refused(run_module: RunModule, record: Path) -> None:
    (record.parent / "kubelet.conf").touch()
    result = run_module("node_state", documents=wants(record, "long content"))
    assert result["failed"]
    assert "Kubewright has no record of having joined" in result["msg"]
    assert "long content" not in json.dumps(result)


PREFLIGHT: dict[str, Any] = {
    "role": "worker",
    "architectures": ["none"],
    "cgroup_versions": [1, 2],
    "allow_swap": True,
    "python": "3.10",
    "cpus": 1,
    "memory_mib": 1,
    "mtu": 1,
    "image": True,
}


@needs_root
def test_a_new_machine_is_checked_and_that_is_no_drift(run_module: RunModule, record: Path) -> None:
    documents = {"preflight": PREFLIGHT, "good": {"files": []}}
    result = run_module("node_state", documents=documents)
    assert "architecture" in [one["check"] for one in result["findings"]]
    assert result["drift"] == {}
    joined(record, "worker")
    assert run_module("node_state", documents=documents)["findings"] == []


@needs_root
def test_another_kubelet_is_one_finding_among_others(run_module: RunModule, record: Path) -> None:
    (record.parent / "kubelet.conf").touch()
    result = run_module("node_state", documents={"preflight": PREFLIGHT})
    assert result["membership"]["phase"] == "none"
    assert "architecture" in [one["check"] for one in result["findings"]]


@pytest.mark.parametrize("content", ["", "[]", '{"phase": "finished"}'])
def test_a_damaged_record_is_said(run_module: RunModule, record: Path, content: str) -> None:
    record.write_text(content)
    result = run_module("node_state")
    assert result["failed"]
    assert f"{record} is damaged" in result["msg"]


def hold_lock() -> int:
    """Take the node's lock as another process would; closing the descriptor gives it back."""
    path = fencing.LOCK_DIRECTORY / "node.lock"
    path.parent.mkdir(parents=True)
    fd = os.open(path, os.O_RDWR | os.O_CREAT, 0o600)
    fcntl.flock(fd, fcntl.LOCK_EX)
    return fd


@needs_root
def test_a_change_that_does_not_end_is_an_error(run_module: RunModule) -> None:
    fd = hold_lock()
    try:
        result = run_module("node_state", lock_timeout=0)
    finally:
        os.close(fd)
    assert result["failed"] and result["busy"]
    assert f"process {os.getpid()}" in result["msg"]


@needs_root
def test_a_change_under_way_is_waited_for(run_module: RunModule, tmp_path: Path) -> None:
    path, fd = tmp_path / "config", hold_lock()

    def change() -> None:
        """Write when the module waits: the kernel lists who does."""
        end = time.monotonic() + 30
        waiting = f" {os.getpid()} "
        while time.monotonic() < end and not any(
            "-> FLOCK" in line and waiting in line
            for line in Path("/proc/locks").read_text().splitlines()
        ):
            time.sleep(0.01)
        path.write_text("new\n")
        os.close(fd)

    thread = threading.Thread(target=change)
    thread.start()
    result = run_module("node_state", documents=wants(path, "new\n"), lock_timeout=60)
    thread.join()
    assert result["drift"] == {}


def test_who_is_not_root_compares_nothing(
    run_module: RunModule, tmp_path: Path, node: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    documents = {**wants(tmp_path / "config", "x"), "other": {"files": []}}
    result = run_module("node_state", documents={**documents, "preflight": PREFLIGHT})
    assert "root" in [one["check"] for one in result["findings"]]
    assert result["drift"] == {role: [node_state.NOT_ROOT] for role in documents}
    assert (result["machine"]["root"], result["diff"]) == (False, [])
    assert not node.exists(), "there is no lock to take"


NODE_PATH = "/api/v1/nodes/web-1"
NODE = {
    "metadata": {"name": "web-1", "labels": {"kubernetes.io/hostname": "web-1"}},
    "spec": {},
    "status": {"nodeInfo": {"kubeletVersion": "v1.37.2"}},
}


@needs_root
def test_a_control_plane_asks_its_own_api_server_first(
    run_module: RunModule, record: Path, server: Server
) -> None:
    joined(record, "control_plane")
    server.answer("/readyz", "ok")
    server.answer("/api/v1", {"resources": []})
    server.answer(NODE_PATH, NODE)
    thing = {"apiVersion": "v1", "kind": "Thing", "metadata": {"name": "x"}}
    result = run_module(
        "node_state",
        documents={"worker": {"node": {"name": "web-1"}}, "cni": {"objects": [thing]}},
        address=OWN,
        api_servers=[NOBODY],
        api_name=NAME,
    )
    assert (result["api_ready"], result["unknown"]) == (True, [])
    assert result["node"]["kubelet"] == "v1.37.2"
    assert result["drift"] == {"cni": ["Thing x: the API has no v1 Thing"]}
    assert server.asked == [
        ("", "/readyz"),
        (KUBELET, NODE_PATH),
        (ADMINISTRATOR, "/api/v1"),
    ]


@needs_root
@pytest.mark.parametrize("containerd", [True, False])
def test_flushed_packet_rules_are_drift_where_their_owners_can_be_asked_for(
    run_module: RunModule,
    record: Path,
    server: Server,
    monkeypatch: pytest.MonkeyPatch,
    containerd: bool,
) -> None:
    joined(record, "worker")
    server.answer(NODE_PATH, NODE)
    server.answer(packet_rules.SERVICE, {"spec": {"clusterIP": "10.96.0.1"}})
    monkeypatch.setattr(packet_rules, "_proxy_mode", lambda: "nftables")
    monkeypatch.setattr(containers.Containerd, "listens", lambda _: containerd)
    monkeypatch.setattr(
        packet_rules.PacketRules,
        "converge",
        lambda rules, check_mode: [f"{one.question} {check_mode}" for one in rules.owners],
    )
    documents = {"worker": {"node": {"name": "web-1"}}}
    result = run_module("node_state", documents=documents, api_servers=[HERE], api_name=NAME)
    (asked,) = result["drift"].get("worker", [""])
    assert asked.endswith("{ 10.96.0.1 . tcp . 443 } True") is containerd


@needs_root
def test_an_api_server_that_starts_is_waited_for(
    run_module: RunModule, record: Path, server: Server
) -> None:
    joined(record, "control_plane")
    server.answer("/readyz", "etcd", "informers", status=500)
    server.answer("/readyz", "ok")
    assert run_module("node_state", address=OWN)["api_ready"] is False
    assert run_module("node_state", address=OWN, wait_for_api=60)["api_ready"] is True
    assert len(server.asked) == 3


@needs_root
def test_an_api_server_that_is_not_ready_is_not_asked(
    run_module: RunModule, record: Path, server: Server
) -> None:
    joined(record, "control_plane")
    server.answer("/readyz", "etcd", status=500)
    server.answer(NODE_PATH, NODE)
    asked = {
        "documents": {"control_plane": {"node": {"name": "web-1"}}},
        "address": OWN,
        "api_name": NAME,
    }
    alone = run_module("node_state", api_servers=[OWN], **asked)
    assert (alone["drift"], alone["node"]) == ({}, {})
    assert "no API server answers (none is known)" in alone["unknown"][0]
    others = run_module("node_state", api_servers=[OWN, HERE], **asked)
    assert (others["unknown"], others["node"]["kubelet"]) == ([], "v1.37.2")
    assert others["api_ready"] is False


@needs_root
@pytest.mark.parametrize("role", ["worker", None])
def test_who_has_no_api_server_does_not_wait_for_one(
    run_module: RunModule, record: Path, server: Server, role: str | None
) -> None:
    if role:
        joined(record, role)
    result = run_module("node_state", address=OWN, wait_for_api=2)
    assert result["api_ready"] is False
    assert server.asked == []


@pytest.mark.parametrize("argument", [{"lock_timeout": "long"}, {"documents": 1}, {"role": []}])
def test_arguments_that_cannot_be_read(run_module: RunModule, argument: dict[str, Any]) -> None:
    result = run_module("node_state", **argument)
    assert result["failed"]
    assert next(iter(argument)) in result["msg"]


@needs_root
def test_an_api_server_whose_certificates_have_expired_is_not_waited_for(
    run_module: RunModule, record: Path, server: Server, good_certificates: Path
) -> None:
    """It was, for a minute on every control plane; and then nobody knew why."""
    joined(record, "control_plane")
    server.answer("/readyz", "etcd", status=500)
    now = datetime.datetime.now(datetime.UTC)
    shutil.rmtree(good_certificates)
    certified.lay(good_certificates, but={"pki/apiserver.crt": -1}, now=now)
    documents = {"control_plane": {"certificates": True}}
    began = time.monotonic()
    result = run_module("node_state", address=OWN, wait_for_api=60, documents=documents)
    assert time.monotonic() - began < 30
    assert (result["api_ready"], result["certificates"]["serves"]) == (False, False)
    (reason,) = result["drift"]["control_plane"]
    assert "the certificate of the API server" in reason and " expired on " in reason


@needs_root
def test_an_expired_kubelet_is_no_reason_to_ask_the_api_with_its_certificate(
    run_module: RunModule, record: Path, server: Server, good_certificates: Path
) -> None:
    """It said: the API server answered 401."""
    joined(record, "worker")
    now = datetime.datetime.now(datetime.UTC)
    shutil.rmtree(good_certificates)
    certified.lay(
        good_certificates, control_plane=False, but={"kubelet-client-current.pem": -1}, now=now
    )
    documents = {"worker": {"certificates": True, "node": {"name": "web-1"}}}
    result = run_module("node_state", api_servers=[HERE], api_name=NAME, documents=documents)
    (reason,) = result["drift"]["worker"]
    assert "the certificate of the kubelet" in reason and " expired on " in reason
    assert result["unknown"] == ["Node web-1: the kubelet's certificate must be renewed first"]
    assert server.asked == []
