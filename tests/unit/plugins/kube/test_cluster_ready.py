# SPDX-License-Identifier: Apache-2.0
"""Waiting for nodes and DNS, against a real HTTPS server in the place of the API server."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from ansible_collections.kubewright.cluster.plugins.modules import cluster_ready
from api_server import ADMINISTRATOR, HERE, NAME, NOBODY, Server, serving

RunModule = Callable[..., dict[str, Any]]
NODES, CSI_NODES = "/api/v1/nodes", "/apis/storage.k8s.io/v1/csinodes"
DNS = "/apis/apps/v1/namespaces/kube-system/deployments/coredns"
GIVEN = {"nodes": ["cp-1", "web-1"], "api_servers": [HERE], "api_name": NAME, "timeout": 0}


@pytest.fixture
def server(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    monkeypatch.setattr(cluster_ready, "POLL", 0.01)
    with serving(tmp_path, monkeypatch) as made:
        yield made


def listed(*items: dict[str, Any]) -> dict[str, Any]:
    return {"items": list(items)}


def node(name: str, ready: str = "True", message: str = "") -> dict[str, Any]:
    said = {"message": message} if message else {}
    conditions = [
        {"type": "DiskPressure", "status": "False", "message": "the disk is fine"},
        {"type": "Ready", "status": ready, **said},
    ]
    return {"metadata": {"name": name}, "status": {"conditions": conditions}}


def started(*names: str) -> dict[str, Any]:
    """The CSINodes of kubelets that are done with starting."""
    return listed(*({"metadata": {"name": name}} for name in names))


def dns(available: int | None, wanted: int = 2) -> dict[str, Any]:
    status = {} if available is None else {"availableReplicas": available}
    return {"spec": {"replicas": wanted}, "status": status}


def ready(run_module: RunModule, **more: Any) -> dict[str, Any]:
    return run_module("cluster_ready", **{**GIVEN, **more})


def all_is_well(server: Server) -> None:
    server.answer(NODES, listed(node("cp-1"), node("web-1")))
    server.answer(CSI_NODES, started("cp-1", "web-1"))
    server.answer(DNS, dns(2))


@pytest.mark.parametrize("check", [True, False])
def test_a_cluster_that_is_ready(run_module: RunModule, server: Server, check: bool) -> None:
    all_is_well(server)
    result = ready(run_module, check=check)
    assert (result["changed"], result["missing"]) == (False, [])
    assert [path for _user, path in server.asked] == [NODES, CSI_NODES, DNS]
    assert {user for user, _path in server.asked} == {ADMINISTRATOR}


@pytest.mark.parametrize(
    ("live", "expected"),
    [
        (node("web-2"), "web-1 has not registered"),
        (node("web-1", "False"), "web-1 is not Ready"),
        (node("web-1", "Unknown", "no CNI"), "web-1 is not Ready (no CNI)"),
        ({"metadata": {"name": "web-1"}, "status": {}}, "web-1 is not Ready"),
    ],
)
def test_a_node_that_is_not_ready(
    run_module: RunModule, server: Server, live: dict[str, Any], expected: str
) -> None:
    server.answer(NODES, listed(node("cp-1"), live))
    all_is_well(server)
    assert ready(run_module, check=True)["missing"] == [expected]


@pytest.mark.parametrize("csi_nodes", [started("cp-1"), {"items": None}])
def test_a_kubelet_that_is_still_starting(
    run_module: RunModule, server: Server, csi_nodes: dict[str, Any]
) -> None:
    server.answer(CSI_NODES, csi_nodes)
    all_is_well(server)
    assert ready(run_module, check=True, nodes=["web-1"])["missing"] == [
        "the kubelet of web-1 is still starting (it has no CSINode)"
    ]


def test_nodes_that_were_not_asked_for_are_left_out(run_module: RunModule, server: Server) -> None:
    server.answer(NODES, listed(node("cp-1"), node("web-1"), node("web-2", "False")))
    all_is_well(server)
    assert ready(run_module)["missing"] == []


@pytest.mark.parametrize(
    ("deployment", "expected"),
    [
        (dns(1), "1 of 2 pods of DNS are available"),
        (dns(None), "0 of 2 pods of DNS are available"),
        (None, "0 of 1 pods of DNS are available"),
    ],
)
def test_all_of_dns_has_to_be_available(
    run_module: RunModule, server: Server, deployment: dict[str, Any] | None, expected: str
) -> None:
    if deployment:
        server.answer(DNS, deployment)
    server.answer(NODES, listed(node("cp-1")))
    server.answer(CSI_NODES, started("cp-1"))
    assert ready(run_module, check=True, nodes=["cp-1"])["missing"] == [expected]
    asked = len(server.asked)
    assert ready(run_module, nodes=["cp-1"], dns=False)["missing"] == []
    assert DNS not in [path for _user, path in server.asked[asked:]]


def test_waits_until_the_last_is_ready(run_module: RunModule, server: Server) -> None:
    server.answer(NODES, listed(), listed(node("cp-1"), node("web-1", "False")))
    server.answer(CSI_NODES, started(), started("cp-1"), started("cp-1"))
    server.answer(DNS, dns(None), dns(0), dns(1), dns(1))
    all_is_well(server)
    result = ready(run_module, timeout=60)
    assert (result["changed"], result["missing"]) == (False, [])
    assert [path for _user, path in server.asked].count(NODES) == 5


def test_check_mode_looks_once(run_module: RunModule, server: Server) -> None:
    server.answer(NODES, listed())
    all_is_well(server)
    result = ready(run_module, check=True, timeout=60)
    assert result["missing"] == ["cp-1 has not registered", "web-1 has not registered"]
    assert "failed" not in result


def test_check_mode_does_not_fail_without_an_api(run_module: RunModule, server: Server) -> None:
    result = ready(run_module, check=True, api_servers=[NOBODY])
    assert f"no API server answers ({NOBODY}: " in result["missing"][0]
    assert "failed" not in result


def test_an_api_server_that_comes_back_is_waited_for(run_module: RunModule, server: Server) -> None:
    server.answer(NODES, {"message": "etcd is down"}, status=503)
    all_is_well(server)
    assert ready(run_module, timeout=60)["missing"] == []


def test_when_time_has_run_out_all_that_is_missing_is_said(
    run_module: RunModule, server: Server
) -> None:
    server.answer(NODES, listed(node("cp-1", "False", "no CNI")))
    server.answer(CSI_NODES, started())
    server.answer(DNS, dns(1))
    result = ready(run_module)
    assert result["failed"]
    assert result["msg"] == (
        "After 0 s the cluster is not ready: cp-1 is not Ready (no CNI); web-1 has not registered; "
        "1 of 2 pods of DNS are available. "
        "See `kubectl describe node`, and `journalctl -u kubelet` on the node."
    )


def test_an_api_that_does_not_answer_is_what_is_missing(
    run_module: RunModule, server: Server
) -> None:
    assert (
        f"not ready: no API server answers ({NOBODY}: "
        in (ready(run_module, api_servers=[NOBODY])["msg"])
    )
    server.answer(NODES, {"message": "etcd is down"}, status=503)
    assert (
        "not ready: GET /api/v1/nodes: the API server answered 503: etcd is down"
        in (ready(run_module)["msg"])
    )


def test_a_node_without_the_administrators_credentials_does_not_wait(
    run_module: RunModule, server: Server, tmp_path: Path
) -> None:
    (tmp_path / "admin.conf").unlink()
    result = ready(run_module, timeout=2)
    assert result["failed"]
    assert result["msg"].endswith("admin.conf can't be read: No such file or directory")
    # A prediction is made before the node has started anything.
    predicted = ready(run_module, check=True)
    assert predicted["missing"] == [result["msg"]]
    assert "failed" not in predicted


@pytest.mark.parametrize("missing", ["nodes", "api_servers", "api_name"])
def test_who_and_where_has_to_be_said(run_module: RunModule, missing: str) -> None:
    given = {name: value for name, value in GIVEN.items() if name != missing}
    result = run_module("cluster_ready", **given)
    assert result["failed"]
    assert result["msg"] == f"missing required arguments: {missing}"
