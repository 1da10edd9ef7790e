# SPDX-License-Identifier: Apache-2.0
"""Labels and taints of a Node: what is lacking is added, what others added stays."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from ansible_collections.kubewright.cluster.plugins.module_utils import _api, _node_object

RunModule = Callable[..., dict[str, Any]]
TAINT = {"key": "node-role.kubernetes.io/control-plane", "value": "", "effect": "NoSchedule"}
OTHER = {"key": "example.org/busy", "value": "yes", "effect": "NoExecute"}
LABELS = {"kubewright.io/pool": "web", "zone": "a"}


def node(labels: dict[str, str] | None = None, *taints: dict[str, str]) -> dict[str, Any]:
    spec = {"taints": list(taints)} if taints else {}
    metadata: dict[str, Any] = {"name": "web-1", "resourceVersion": "5"}
    return {"metadata": metadata | ({"labels": labels} if labels else {}), "spec": spec}


def test_reasons() -> None:
    assert _node_object.reasons(node(), LABELS, [TAINT]) == [
        "label kubewright.io/pool is missing",
        "label zone is missing",
        "taint node-role.kubernetes.io/control-plane:NoSchedule is missing",
    ]
    live = node({"kubewright.io/pool": "db", "zone": "a", "mine": "x"}, OTHER)
    assert _node_object.reasons(live, LABELS, []) == [
        "label kubewright.io/pool is 'db' instead of 'web'"
    ]
    whole = node({**LABELS, "mine": "x"}, OTHER, TAINT)
    assert _node_object.reasons(whole, LABELS, [TAINT]) == []


def test_an_empty_value_of_a_taint_may_be_absent() -> None:
    served = {"key": TAINT["key"], "effect": TAINT["effect"]}
    assert _node_object.missing_taints(node(None, served), [TAINT]) == []
    assert _node_object.missing_taints(node(None, TAINT), [served]) == []


@pytest.mark.parametrize("field", ["value", "effect"])
def test_a_taint_with_another_value_or_effect_is_missing(field: str) -> None:
    live = node(None, {**OTHER, field: "PreferNoSchedule"})
    assert _node_object.missing_taints(live, [OTHER]) == [OTHER]


def test_an_empty_label_has_to_be_there() -> None:
    assert _node_object.reasons(node({"a": "b"}), {"role": ""}, []) == ["label role is missing"]


def test_patch_keeps_what_others_added() -> None:
    outdated = {**TAINT, "value": "old"}
    body = _node_object.patch(node({"mine": "x"}, OTHER, outdated), LABELS, [TAINT])
    assert body["metadata"] == {"labels": LABELS, "resourceVersion": "5"}
    assert body["spec"]["taints"] == [OTHER, TAINT], "the outdated one makes room"


def test_patch_leaves_taints_alone_that_are_there() -> None:
    assert "spec" not in _node_object.patch(node(None, OTHER, TAINT), LABELS, [TAINT])


class Cluster:
    """An API with one Node; each patch but the last ones meets another writer first."""

    def __init__(self, live: dict[str, Any] | None, conflicts: int = 0) -> None:
        self.live, self.conflicts = live, conflicts
        self.patches: list[dict[str, Any]] = []
        self.status = 409
        self.spoke = ""

    def get(self, path: str) -> Any:
        assert path == "/api/v1/nodes/web-1"
        return copy.deepcopy(self.live)

    def request(self, method: str, path: str, body: dict[str, Any], content_type: str) -> None:
        assert (method, content_type) == ("PATCH", "application/merge-patch+json")
        self.patches.append(body)
        if self.conflicts:
            self.conflicts -= 1
            raise _api.ApiError(method, path, self.status, "the object has been modified")
        assert self.live is not None
        self.live["metadata"].setdefault("labels", {}).update(body["metadata"]["labels"])
        self.live["spec"].update(body.get("spec", {}))


@pytest.fixture
def use(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[Cluster], Cluster]:
    def install(cluster: Cluster) -> Cluster:
        def speak(who: str) -> Any:
            @contextmanager
            def opened(servers: list[str], name: str) -> Iterator[Cluster]:
                assert (servers, name) == (["192.0.2.1"], "api")
                cluster.spoke = who
                yield cluster

            return opened

        monkeypatch.setattr(_api, "as_administrator", speak("administrator"))
        monkeypatch.setattr(_api, "as_kubelet", speak("kubelet"))
        monkeypatch.setattr(_api, "ADMINISTRATOR", tmp_path / "admin.conf")
        return cluster

    return install


Use = Callable[[Cluster], Cluster]


def run(run_module: RunModule, **more: Any) -> dict[str, Any]:
    given = {"name": "web-1", "labels": LABELS, "api_servers": ["192.0.2.1"], "api_name": "api"}
    return run_module("node_object", **{**given, **more})


def test_added_once_and_predicted_the_same(run_module: RunModule, use: Use) -> None:
    cluster = use(Cluster(node({"mine": "x"})))
    predicted = run(run_module, check=True, taints=[TAINT])
    assert cluster.patches == []
    result = run(run_module, taints=[TAINT])
    assert (predicted["changed"], result["changed"]) == (True, True)
    assert predicted["reasons"] == result["reasons"]
    assert len(result["reasons"]) == 3
    assert run(run_module, taints=[TAINT])["changed"] is False
    assert len(cluster.patches) == 1


def test_who_speaks(run_module: RunModule, use: Use, tmp_path: Path) -> None:
    cluster = use(Cluster(node()))
    run(run_module, check=True)
    assert cluster.spoke == "kubelet"
    (tmp_path / "admin.conf").touch()
    run(run_module, check=True)
    assert cluster.spoke == "administrator"


def test_another_writer_is_waited_for(run_module: RunModule, use: Use) -> None:
    cluster = use(Cluster(node(), conflicts=4))
    assert run(run_module)["changed"] is True
    assert len(cluster.patches) == 5


def test_what_does_not_end_is_an_error(run_module: RunModule, use: Use) -> None:
    cluster = use(Cluster(node(), conflicts=5))
    assert "409: the object has been modified" in run(run_module)["msg"]
    assert len(cluster.patches) == 5


def test_a_refusal_is_not_tried_again(run_module: RunModule, use: Use) -> None:
    cluster = use(Cluster(node(), conflicts=1))
    cluster.status = 403
    assert "403" in run(run_module)["msg"]
    assert len(cluster.patches) == 1


def test_a_node_that_is_missing(run_module: RunModule, use: Use) -> None:
    use(Cluster(None))
    assert "The cluster has no Node web-1" in run(run_module)["msg"]
