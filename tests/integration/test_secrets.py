# SPDX-License-Identifier: Apache-2.0
"""Secrets are where they belong and nowhere else; a machine is known by its host key."""

from __future__ import annotations

import base64
from collections.abc import Iterator
from pathlib import Path

import kube as api
import pytest
from cluster import Cluster
from conftest import TOKEN, Creation
from kube import Kube
from machines import put, run_on
from waiting import until

#: What of the state may hold secrets.
KEEPERS = ("identity", "ssh", "kubeconfig")
HOST_KEY = "/etc/ssh/ssh_host_ed25519_key"


def private_lines(cluster: Cluster, kube: Kube) -> dict[str, str]:
    """Return text that only a private key has, and whose key it is: its lines, and as base64."""
    keepers = [path for path in (cluster.state / "identity").rglob("*") if path.is_file()]
    keys = {str(path.relative_to(cluster.state)): path.read_bytes() for path in keepers}
    keys |= {"ssh": (cluster.state / "ssh/id_ed25519").read_bytes()}
    keys |= {"administrator": kube.credentials()["client.key"]}
    found: dict[str, str] = {}
    for name, content in keys.items():
        if b"PRIVATE KEY" in content:
            found |= {line: name for line in _body(content.decode())}
            found[base64.b64encode(content).decode()[40:140]] = name
    assert {"ssh", "administrator"} < set(found.values()), set(found.values())
    assert len(set(found.values())) >= 6, "authorities of Kubernetes, etcd, proxy; the signing key"
    return found


def test_no_secret_is_in_the_state_but_where_it_is_kept(cluster: Cluster, kube: Kube) -> None:
    needles = private_lines(cluster, kube)
    keepers = [cluster.state / name for name in KEEPERS]
    logs = [
        path
        for path in cluster.state_root.rglob("*")
        if path.is_file() and not any(path.is_relative_to(keeper) for keeper in keepers)
    ]
    assert any(path.is_relative_to(cluster.state / "runs") for path in logs)
    for path in logs:
        text = path.read_text(errors="replace")
        assert not _leaks(text, needles), f"{path}: {_leaks(text, needles)}"


def test_secrets_are_readable_by_their_owner_alone(cluster: Cluster) -> None:
    assert cluster.state.stat().st_mode & 0o077 == 0
    for keeper in KEEPERS:
        top = cluster.state / keeper
        for path in [top, *top.rglob("*")]:
            if path.name.endswith((".crt", ".pub")):
                continue
            assert path.stat().st_mode & 0o077 == 0, path


def test_no_secret_is_in_a_nodes_journal(cluster: Cluster, kube: Kube) -> None:
    needles = private_lines(cluster, kube)
    for node in cluster.nodes:
        journal = run_on(node, ["journalctl", "--no-pager", "--output=cat"])
        assert len(journal.splitlines()) > 100
        assert not _leaks(journal, needles), f"{node}: {_leaks(journal, needles)}"


def test_authorities_are_on_control_planes_alone(cluster: Cluster) -> None:
    find = ["find", "/etc/kubernetes", "/run/kubewright", "/tmp", "-type", "f"]
    authorities = {"ca.key", "front-proxy-ca.key", "sa.key"}
    for node in cluster.nodes:
        names = {Path(line).name for line in run_on(node, find).splitlines()}
        assert (authorities <= names) == (node in cluster.control_planes), node
        assert (authorities & names == set()) == (node in cluster.workers), node
        # What carried the token to kubeadm is gone.
        assert not names & {"kubeadm.yaml", "bootstrap-kubelet.conf"}, node


def test_no_join_token_is_in_a_process_list(creation: Creation) -> None:
    assert creation.watch.looks > 50
    assert not creation.watch.matching, "programs with a token in their arguments"


def test_no_join_token_is_left(creation: Creation, kube: Kube) -> None:
    api.no_join_token_is_left(kube, creation.settled)


@pytest.fixture
def impostor(cluster: Cluster) -> Iterator[str]:
    """A worker that answers with another host key than its own."""
    node = cluster.workers[-1]
    kept = run_on(node, ["cat", HOST_KEY]).encode()
    make = f"rm {HOST_KEY} && ssh-keygen -q -t ed25519 -N '' -f {HOST_KEY}"
    run_on(node, ["sh", "-ec", f"cp {HOST_KEY}.pub /run/kept.pub; {make}"])
    _new_connections_only(node)
    try:
        yield node
    finally:
        put(node, HOST_KEY, kept)
        run_on(node, ["cp", "/run/kept.pub", f"{HOST_KEY}.pub"])
        _new_connections_only(node)


def test_a_machine_with_another_host_key_is_refused(
    cluster: Cluster, kube: Kube, impostor: str
) -> None:
    fence = ["cat", "/var/lib/kubewright/epoch"]
    before = run_on(impostor, fence)
    ended = cluster.apply()
    assert ended.status != 0
    assert "Traceback" not in ended.stderr
    said = ended.stderr.lower()
    assert impostor in said and "host key" in said, ended.stderr
    answer = ended.document
    assert answer["changed"] is False
    assert answer["host_tasks"]["unreachable"] >= 1
    assert answer["host_tasks"]["changed"] == 0
    assert run_on(impostor, fence) == before
    until("Ready", api.all_ready(kube, frozenset(cluster.nodes)), limit=10)


def _new_connections_only(node: str) -> None:
    """Let sshd read its keys again and end its connections, which ssh would use again."""
    run_on(node, ["systemctl", "reload", "ssh"])
    run_on(node, ["sh", "-c", "pkill --full '^sshd: root' || true"])


def _body(pem: str) -> list[str]:
    """Return the long lines of a PEM text that are not its frame."""
    return [line for line in pem.splitlines() if len(line) >= 32 and "-----" not in line]


def _leaks(text: str, needles: dict[str, str]) -> list[str]:
    """Return whose private keys, and how many join tokens, are in ``text``; never the secret."""
    found = sorted({name for needle, name in needles.items() if needle in text})
    tokens = len(set(TOKEN.findall(text)))
    return [*found, *([f"{tokens} join tokens"] if tokens else [])]
