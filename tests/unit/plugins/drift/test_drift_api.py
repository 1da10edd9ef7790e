# SPDX-License-Identifier: Apache-2.0
"""What only the API knows against what roles desire: a Node, and objects of the whole cluster."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from ansible_collections.kubewright.cluster.plugins.module_utils._base import commands
from ansible_collections.kubewright.cluster.plugins.module_utils._drift import drift
from ansible_collections.kubewright.cluster.plugins.module_utils._kube import memberships
from api_server import ADMINISTRATOR, HERE, KUBELET, NAME, NOBODY, Server, serving

JOINED = memberships.Membership("joined", "join", "worker", "3f0c")
NODE_PATH, MAP_PATH = "/api/v1/nodes/web-1", "/api/v1/namespaces/net/configmaps/flannel"
TAINT = {"key": "example.org/busy", "effect": "NoSchedule"}
NODE = {"name": "web-1", "labels": {"kubewright.io/pool": "web"}, "taints": [TAINT]}
MAP = {
    "apiVersion": "v1",
    "kind": "ConfigMap",
    "metadata": {"name": "flannel", "namespace": "net"},
    "data": {"net-conf.json": "{}"},
}
RESOURCES = {"resources": [{"kind": "ConfigMap", "name": "configmaps", "namespaced": True}]}


@pytest.fixture
def server(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    with serving(tmp_path, monkeypatch) as made:
        yield made


def compare(
    *servers: str, membership: memberships.Membership = JOINED, **document: Any
) -> drift.Findings:
    run = commands.SystemRunner()
    comparison = drift.Comparison(run, membership, servers or (HERE,), NAME)
    return comparison.compare({"role": document})


def live(
    labels: dict[str, str], *taints: dict[str, str], ready: str = "True", cordoned: bool = False
) -> dict[str, Any]:
    """A Node as the API gives it back."""
    return {
        "metadata": {"name": "web-1", "labels": {"kubernetes.io/hostname": "web-1", **labels}},
        "spec": {"taints": list(taints), **({"unschedulable": True} if cordoned else {})},
        "status": {
            "conditions": [
                {"type": "MemoryPressure", "status": "False"},
                {"type": "Ready", "status": ready},
            ],
            "nodeInfo": {"kubeletVersion": "v1.37.2"},
        },
    }


def test_a_node_that_is_as_desired(server: Server) -> None:
    server.answer(NODE_PATH, live({"kubewright.io/pool": "web", "mine": "x"}, TAINT, cordoned=True))
    found = compare(node=NODE)
    assert (found.drift, found.unknown) == ({}, [])
    assert found.node == {"ready": True, "unschedulable": True, "kubelet": "v1.37.2"}
    assert server.asked == [(KUBELET, NODE_PATH)]


def test_a_taint_that_counts_at_the_join_alone_is_told(server: Server) -> None:
    """It is no drift: an apply would change nothing."""
    server.answer(NODE_PATH, live({"kubewright.io/pool": "web"}, TAINT))
    gpu = {"key": "dedicated", "value": "gpu", "effect": "NoSchedule"}
    found = compare(node={**NODE, "register_taints": [TAINT, gpu, {"key": "half"}]})
    assert found.drift == {}
    (told,) = found.findings
    assert (told.check, told.severity) == ("taints", "warning")
    assert told.text.startswith("It lacks the taint dedicated=gpu:NoSchedule: registerWithTaints")
    assert "`kubectl taint node web-1 dedicated=gpu:NoSchedule`" in told.remedy


def test_labels_and_taints_that_differ(server: Server) -> None:
    server.answer(NODE_PATH, live({"kubewright.io/pool": "db"}, ready="Unknown"))
    found = compare(node=NODE)
    assert found.drift == {
        "role": [
            "label kubewright.io/pool is 'db' instead of 'web'",
            "taint example.org/busy:NoSchedule is missing",
        ]
    }
    assert found.node == {"ready": False, "unschedulable": False, "kubelet": "v1.37.2"}


def test_a_node_of_which_only_the_name_is_desired(server: Server) -> None:
    server.answer(NODE_PATH, live({}))
    assert compare(node={"name": "web-1"}).drift == {}


def test_a_node_that_is_gone_is_drift(server: Server) -> None:
    found = compare(node=NODE)
    words = "Node web-1 is missing and will be registered again"
    assert (found.drift, found.node) == ({"role": [words]}, {})
    assert found.node_missing


def test_a_node_that_no_kubelet_has_registered_with_is_drift(server: Server) -> None:
    """The run that made it again was cut before the kubelet was restarted."""
    server.answer(NODE_PATH, {**live({}, TAINT), "metadata": {"name": "web-1"}})
    found = compare(node={"name": "web-1"})
    assert found.drift == {"role": ["the kubelet has not registered with its Node"]}
    assert not found.node_missing


def test_what_nobody_answers_is_unknown_and_no_drift(server: Server) -> None:
    found = compare(NOBODY, node=NODE, objects=[MAP])
    assert (found.drift, found.node) == ({}, {})
    assert [text.split(": ")[0] for text in found.unknown] == [
        "Node web-1",
        "objects of the cluster",
    ]
    assert all(f"no API server answers ({NOBODY}: " in text for text in found.unknown)


def test_what_is_refused_is_unknown_and_no_drift(server: Server) -> None:
    refusal = {"message": "you may not"}
    for path in (NODE_PATH, "/api/v1"):
        server.answer(path, refusal, status=403)
    found = compare(node=NODE, objects=[MAP])
    assert found.drift == {}
    assert len(found.unknown) == 2
    assert all("403: you may not" in text for text in found.unknown)


def test_without_credentials_all_is_unknown(server: Server, tmp_path: Path) -> None:
    (tmp_path / "kubelet.pem").unlink()
    (tmp_path / "admin.conf").unlink()
    found = compare(node=NODE, objects=[MAP])
    assert found.drift == {}
    assert "kubelet.pem can't be used as credentials" in found.unknown[0]
    assert "admin.conf can't be read" in found.unknown[1]
    assert server.asked == []


def test_objects_of_the_cluster(server: Server) -> None:
    server.answer("/api/v1", RESOURCES)
    assert compare(objects=[MAP]).drift == {"role": ["ConfigMap flannel is missing"]}
    server.answer(MAP_PATH, {**MAP, "data": {"net-conf.json": "{}", "more": "x"}})
    assert compare(objects=[MAP]) == drift.Findings()
    assert {user for user, _path in server.asked} == {ADMINISTRATOR}
    wanted = {**MAP, "data": {"net-conf.json": "[]"}}
    assert compare(objects=[wanted]).drift == {
        "role": ["ConfigMap flannel differs in .data.net-conf.json"]
    }


def test_an_object_without_a_name_is_for_a_person_to_mend(server: Server) -> None:
    found = compare(objects=[{**MAP, "metadata": {}}])
    assert "has no apiVersion, kind or metadata.name" in found.drift["role"][0]
    assert found.unknown == []


@pytest.mark.parametrize("phase", ["none", "partial"])
def test_a_node_that_has_not_joined_does_not_ask_for_objects(server: Server, phase: str) -> None:
    found = compare(membership=memberships.Membership(phase, "init"), objects=[MAP])
    assert (found.drift, found.unknown) == ({"role": ["the cluster does not exist yet"]}, [])
    assert server.asked == []
