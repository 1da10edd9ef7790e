# SPDX-License-Identifier: Apache-2.0
"""Labels and taints of a Node: what is lacking is added, what others added stays."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from ansible_collections.kubewright.cluster.plugins.module_utils._kube import (
    client,
    drain,
    node_object,
)

RunModule = Callable[..., dict[str, Any]]
TAINT = {"key": "node-role.kubernetes.io/control-plane", "value": "", "effect": "NoSchedule"}
OTHER = {"key": "example.org/busy", "value": "yes", "effect": "NoExecute"}
LABELS = {"kubewright.io/pool": "web", "zone": "a"}


def node(labels: dict[str, str] | None = None, *taints: dict[str, str]) -> dict[str, Any]:
    spec = {"taints": list(taints)} if taints else {}
    metadata: dict[str, Any] = {"name": "web-1", "resourceVersion": "5"}
    return {"metadata": metadata | ({"labels": labels} if labels else {}), "spec": spec}


def test_reasons() -> None:
    assert node_object.reasons(node(), LABELS, [TAINT]) == [
        "label kubewright.io/pool is missing",
        "label zone is missing",
        "taint node-role.kubernetes.io/control-plane:NoSchedule is missing",
    ]
    live = node({"kubewright.io/pool": "db", "zone": "a", "mine": "x"}, OTHER)
    assert node_object.reasons(live, LABELS, []) == [
        "label kubewright.io/pool is 'db' instead of 'web'"
    ]
    whole = node({**LABELS, "mine": "x"}, OTHER, TAINT)
    assert node_object.reasons(whole, LABELS, [TAINT]) == []


def test_an_empty_value_of_a_taint_may_be_absent() -> None:
    served = {"key": TAINT["key"], "effect": TAINT["effect"]}
    assert node_object.missing_taints(node(None, served), [TAINT]) == []
    assert node_object.missing_taints(node(None, TAINT), [served]) == []


@pytest.mark.parametrize("field", ["value", "effect"])
def test_a_taint_with_another_value_or_effect_is_missing(field: str) -> None:
    live = node(None, {**OTHER, field: "PreferNoSchedule"})
    assert node_object.missing_taints(live, [OTHER]) == [OTHER]


def test_an_empty_label_has_to_be_there() -> None:
    assert node_object.reasons(node({"a": "b"}), {"role": ""}, []) == ["label role is missing"]


def test_patch_keeps_what_others_added() -> None:
    outdated = {**TAINT, "value": "old"}
    body = node_object.patch(node({"mine": "x"}, OTHER, outdated), LABELS, [TAINT])
    assert body["metadata"] == {"labels": LABELS, "resourceVersion": "5"}
    assert body["spec"]["taints"] == [OTHER, TAINT], "the outdated one makes room"


@pytest.mark.parametrize(("cordoned", "left"), [(True, "left it cordoned"), (False, "annotation")])
def test_what_a_drain_that_was_cut_off_has_left_goes(cordoned: bool, left: str) -> None:
    live = node(LABELS, OTHER, TAINT)
    live["spec"]["unschedulable"] = True
    live["metadata"]["annotations"] = {drain.ANNOTATION: drain.Mark("run", "", cordoned).text}
    (reason,) = node_object.reasons(live, LABELS, [TAINT])
    assert left in reason
    body = node_object.patch(live, LABELS, [TAINT])
    assert body["metadata"]["annotations"] == {drain.ANNOTATION: None}
    assert body.get("spec") == ({"unschedulable": None} if cordoned else None)


def test_a_node_that_a_person_has_cordoned_stays_so() -> None:
    live = node(LABELS, TAINT)
    live["spec"]["unschedulable"] = True
    assert node_object.reasons(live, LABELS, [TAINT]) == []


def test_patch_leaves_taints_alone_that_are_there() -> None:
    assert "spec" not in node_object.patch(node(None, OTHER, TAINT), LABELS, [TAINT])


class Cluster:
    """An API with one Node; each patch but the last ones meets another writer first."""

    def __init__(self, live: dict[str, Any] | None, conflicts: int = 0) -> None:
        self.live, self.conflicts = live, conflicts
        self.patches: list[dict[str, Any]] = []
        self.status = 409
        self.spoke = ""
        self.others: list[dict[str, Any]] = []
        self.made: list[dict[str, Any]] = []
        #: What a kubelet has made in the meantime.
        self.overtaken: dict[str, Any] | None = None

    def get(self, path: str) -> Any:
        assert path == "/api/v1/nodes/web-1"
        return copy.deepcopy(self.live)

    def request(
        self, method: str, path: str, body: Any = None, content_type: str = "application/json"
    ) -> Any:
        if path == "/api/v1/nodes":
            return self.list_or_make(method, path, body)
        assert (method, content_type) == ("PATCH", "application/merge-patch+json")
        self.patches.append(body)
        if self.conflicts:
            self.conflicts -= 1
            raise client.ApiError(method, path, self.status, "the object has been modified")
        assert self.live is not None
        self.live["metadata"].setdefault("labels", {}).update(body["metadata"]["labels"])
        self.live["spec"].update(body.get("spec", {}))
        return self.live

    def list_or_make(self, method: str, path: str, body: Any) -> Any:
        if method == "GET":
            return {"items": self.others}
        self.made.append(body)
        if self.overtaken is not None:
            self.live = self.overtaken
            raise client.ApiError(method, path, 409, "exists")
        self.live = body
        return body


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

        monkeypatch.setattr(client, "as_administrator", speak("administrator"))
        monkeypatch.setattr(client, "as_kubelet", speak("kubelet"))
        monkeypatch.setattr(client, "ADMINISTRATOR", tmp_path / "admin.conf")
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


CREATE = {"provider_id": "local://demo/web-1", "pod_networks": ["10.244.3.0/24"]}


def test_a_node_that_was_deleted_is_made_again_as_it_was(run_module: RunModule, use: Use) -> None:
    cluster = use(Cluster(None))
    cluster.others = [{"spec": {"podCIDR": "10.244.4.0/24"}}, {"spec": {}}]
    predicted = run(run_module, check=True, taints=[TAINT], create=CREATE)
    assert (predicted["created"], cluster.made) == (True, [])
    result = run(run_module, taints=[TAINT], create=CREATE)
    assert (result["created"], result["changed"]) == (True, True)
    assert result["reasons"] == ["Node web-1 is missing"]
    (made,) = cluster.made
    assert made["metadata"] == {"name": "web-1", "labels": LABELS}
    assert made["spec"] == {
        "taints": [TAINT],
        "providerID": "local://demo/web-1",
        "podCIDR": "10.244.3.0/24",
        "podCIDRs": ["10.244.3.0/24"],
    }


@pytest.mark.parametrize("taken", ["10.244.3.0/24", "10.244.2.0/23", "10.244.3.128/25"])
def test_a_pod_network_that_another_node_has_by_now_is_left_to_it(
    run_module: RunModule, use: Use, taken: str
) -> None:
    cluster = use(Cluster(None))
    cluster.others = [{"spec": {"podCIDRs": ["fd00::/64", taken]}}]
    run(run_module, create=CREATE)
    assert "podCIDR" not in cluster.made[0]["spec"]
    assert cluster.made[0]["spec"]["providerID"] == "local://demo/web-1"


def test_a_kubelet_that_registers_in_the_meantime_is_no_error(
    run_module: RunModule, use: Use
) -> None:
    cluster = use(Cluster(None))
    cluster.overtaken = node({"mine": "x"})
    result = run(run_module, create=CREATE)
    assert (result["created"], len(result["reasons"])) == (False, 2)
    assert cluster.live is not None
    assert cluster.live["metadata"]["labels"] == {"mine": "x", **LABELS}
