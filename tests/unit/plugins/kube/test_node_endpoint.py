# SPDX-License-Identifier: Apache-2.0
"""A node of an early version, whose clients asked for the API by a name in /etc/hosts."""

from __future__ import annotations

import json
import stat
from pathlib import Path
from typing import Any

import pytest
from ansible_collections.kubewright.cluster.plugins.module_utils._base import commands
from ansible_collections.kubewright.cluster.plugins.module_utils._drift import drift
from ansible_collections.kubewright.cluster.plugins.module_utils._kube import (
    client,
    endpoint,
    memberships,
)
from api_server import HERE, serving
from making import RunModule, make

NAME, ADDRESS = "api.demo.internal", "127.0.0.1"
MAPS = "/api/v1/namespaces/{}/configmaps/{}"
ENDPOINT = {"name": NAME, "address": ADDRESS}


def kubeconfig(server: str) -> str:
    return f"clusters:\n- cluster:\n    server: https://{server}:7443\n  name: {NAME}\n"


@pytest.fixture
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The node's files: the controller manager has always asked its own API server."""
    found = tmp_path / "root"
    for one in endpoint.KUBECONFIGS:
        (found / one).parent.mkdir(parents=True, exist_ok=True)
        (found / one).write_text(kubeconfig(NAME))
        (found / one).chmod(0o600)
    (found / "etc/kubernetes/controller-manager.conf").write_text(kubeconfig("192.0.2.11"))
    (found / "etc/kubernetes/scheduler.conf").unlink()
    monkeypatch.setattr(endpoint, "ROOT", found)
    monkeypatch.setattr(client, "ADMINISTRATOR", found / "nobody")
    return found


@pytest.fixture
def calls(monkeypatch: pytest.MonkeyPatch, fake_runner: Any) -> list[list[str]]:
    runner = fake_runner(lambda argv: (0, "", ""))
    monkeypatch.setattr(commands, "SystemRunner", lambda _fds=(): runner)
    found: list[list[str]] = runner.calls
    return found


def run(run_module: RunModule, **more: Any) -> dict[str, Any]:
    result = make(run_module, "endpoint", ENDPOINT, api_servers=[HERE], api_name=NAME, **more)
    return {**result, "reasons": result["done"]}


def test_predicted_and_replaced_once(
    run_module: RunModule, root: Path, calls: list[list[str]]
) -> None:
    predicted = run(run_module, check=True)
    assert [text.partition(" ")[0] for text in predicted["reasons"]] == [
        "/etc/kubernetes/admin.conf",
        "/etc/kubernetes/super-admin.conf",
        "/var/lib/kubelet/kubelet.conf",
    ]
    assert calls == []
    found = drift.Comparison(lambda *_: None, memberships.Membership("none"))  # type: ignore[arg-type,return-value]
    assert found.compare({"x": {"endpoint": ENDPOINT}}).drift == {"x": predicted["reasons"]}
    result = run(run_module)
    assert (predicted["changed"], result["changed"]) == (True, True)
    assert result["reasons"] == predicted["reasons"]
    assert calls == [
        ["systemctl", "stop", "kubelet.service"],
        ["systemctl", "start", "kubelet.service"],
    ]
    for one in ("etc/kubernetes/admin.conf", endpoint.KUBELET):
        assert (root / one).read_text() == kubeconfig(ADDRESS)
        assert stat.S_IMODE((root / one).stat().st_mode) == 0o600
    assert run(run_module)["changed"] is False
    assert len(calls) == 2


def test_a_kubelet_that_asks_its_own_api_server_goes_on(
    run_module: RunModule, root: Path, calls: list[list[str]]
) -> None:
    (root / endpoint.KUBELET).write_text(kubeconfig("192.0.2.11"))
    assert run(run_module)["changed"] is True
    assert calls == []


def test_a_cut_leaves_a_kubelet_that_the_next_run_starts(
    run_module: RunModule, root: Path, calls: list[list[str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    """It never runs on with what it read before."""
    seen = []
    monkeypatch.setattr(endpoint, "lead", lambda one, *_: seen.append((one, len(calls))))
    run(run_module)
    assert (endpoint.KUBELET, 1) in seen, "while it is stopped"


def test_what_the_cluster_tells_others_comes_first(
    run_module: RunModule,
    root: Path,
    calls: list[list[str]],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """New nodes learn the endpoint from it; a run that was cut then is done again."""
    with serving(tmp_path, monkeypatch, name=NAME) as server:
        for namespace, one in endpoint.CONFIG_MAPS[:2]:
            data = {"kubeconfig": kubeconfig(NAME), "jws-kubeconfig-abcdef": "eyJh..x"}
            told = {"metadata": {"resourceVersion": "7"}, "data": data}
            server.answer(MAPS.format(namespace, one), told)
            server.answer(MAPS.format(namespace, one), {}, method="PATCH")
        result = run(run_module)
        patched = [request for request in server.requests if request.method == "PATCH"]
    assert [request.path for request in patched] == [
        MAPS.format(*one) for one in endpoint.CONFIG_MAPS[:2]
    ]
    assert json.loads(patched[0].body) == {
        "metadata": {"resourceVersion": "7"},
        "data": {"kubeconfig": kubeconfig(ADDRESS)},
    }
    assert result["reasons"][-1] == "ConfigMap kube-public/cluster-info"


def test_an_api_that_is_away_leaves_the_files_for_the_next_run(
    run_module: RunModule,
    root: Path,
    calls: list[list[str]],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    with serving(tmp_path, monkeypatch, name=NAME):
        pass
    result = run(run_module)
    assert result["failed"] is True
    assert (root / endpoint.KUBELET).read_text() == kubeconfig(NAME)
    assert calls == []


def test_only_what_names_the_endpoint_is_replaced() -> None:
    data = {
        "kubeconfig.conf": kubeconfig(NAME),
        "ClusterConfiguration": f"controlPlaneEndpoint: {NAME}:7443\ncertSANs:\n- {NAME}\n",
        "config.conf": "mode: nftables\n",
        "jws-kubeconfig-abcdef": "eyJhbGciOiJIUzI1NiJ9..c2lnbmF0dXJl",
    }
    assert endpoint.replaced(data, NAME, ADDRESS) == {
        "kubeconfig.conf": kubeconfig(ADDRESS),
        "ClusterConfiguration": f"controlPlaneEndpoint: {ADDRESS}:7443\ncertSANs:\n- {NAME}\n",
    }
