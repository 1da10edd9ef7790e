# SPDX-License-Identifier: Apache-2.0
"""A Node is cordoned, drained and uncordoned. The API is a model of its own, with evictions."""

from __future__ import annotations

import copy
import datetime
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any
from unittest import mock

import pytest
from ansible_collections.kubewright.cluster.plugins.module_utils._kube import client, drain
from ansible_collections.kubewright.cluster.plugins.modules import node_drain
from test_drain import BARE, ENDS, STATIC, pod

RunModule = Callable[..., dict[str, Any]]
BUDGET = {
    "metadata": {"name": "guard"},
    "spec": {"selector": {"matchLabels": {"app": "web"}}},
    "status": {"disruptionsAllowed": 0, "currentHealthy": 2, "desiredHealthy": 2},
}
NEITHER = {"evict_bare_pods": False, "removes_node": False}
GUARDED = pod("guarded", metadata={"labels": {"app": "web"}})


class Cluster:
    """One Node `a` and its pods. `refusals`: status by pod, of the eviction API."""

    def __init__(self, *pods: dict[str, Any], ready: str = "True") -> None:
        self.node: dict[str, Any] | None = {
            "metadata": {"name": "a", "resourceVersion": "5", "annotations": {}},
            "spec": {},
            "status": {"conditions": [{"type": "Ready", "status": ready}]},
        }
        self.pods = {one["metadata"]["name"]: copy.deepcopy(one) for one in pods}
        self.refusals: dict[str, int] = {}
        self.conflicts = 0
        self.told: list[tuple[str, dict[str, Any]]] = []
        #: Pods that end at once when they are told to.
        self.obedient = True

    def get(self, path: str) -> Any:
        assert path == "/api/v1/nodes/a"
        return copy.deepcopy(self.node)

    def request(
        self, method: str, path: str, body: Any = None, content_type: str = "application/json"
    ) -> Any:
        if path == "/api/v1/pods?fieldSelector=spec.nodeName%3Da":
            return {"items": copy.deepcopy(list(self.pods.values()))}
        if path.endswith("/poddisruptionbudgets"):
            return {"items": [BUDGET]}
        if path == "/api/v1/nodes/a":
            return self.patch(body)
        name = path.split("/")[6]
        evicts = path.endswith("/eviction")
        assert method == ("POST" if evicts else "DELETE")
        if evicts and name in self.refusals:
            raise client.ApiError(method, path, self.refusals[name], "not now")
        options = body["deleteOptions"] if evicts else body
        assert options["preconditions"] == {"uid": name}
        self.told.append((name, options))
        if self.obedient:
            del self.pods[name]
        else:
            self.pods[name]["metadata"] |= ENDS
        return {}

    def patch(self, body: dict[str, Any]) -> Any:
        assert self.node is not None
        if self.conflicts:
            self.conflicts -= 1
            raise client.ApiError("PATCH", "", 409, "the object has been modified")
        assert body["metadata"].pop("resourceVersion") == "5"
        for part in ("metadata", "spec"):
            for key, value in body[part].items():
                self.node[part][key] = value
        self.node["spec"] = {key: one for key, one in self.node["spec"].items() if one is not None}
        return copy.deepcopy(self.node)

    @property
    def cordoned(self) -> bool:
        return bool(self.node and drain.cordoned(self.node))

    @property
    def mark(self) -> drain.Mark | None:
        return drain.Mark.of(self.node) if self.node else None


@pytest.fixture
def use(monkeypatch: pytest.MonkeyPatch) -> Callable[[Cluster], Cluster]:
    def install(cluster: Cluster) -> Cluster:
        @contextmanager
        def opened(_servers: list[str], _name: str) -> Iterator[Cluster]:
            yield cluster

        monkeypatch.setattr(client, "as_administrator", opened)
        return cluster

    return install


Use = Callable[[Cluster], Cluster]


def run(run_module: RunModule, **more: Any) -> dict[str, Any]:
    given = {"name": "a", "api_servers": ["192.0.2.1"], "api_name": "api", "patience": 0}
    return run_module("node_drain", **{**given, "epoch": 3, "run": "run-1", **more})


def test_drained_once(run_module: RunModule, use: Use) -> None:
    cluster = use(Cluster(pod("one"), pod("each", "DaemonSet"), STATIC, BARE))
    first = run(run_module)
    assert (first["changed"], first["drained"], cluster.cordoned) == (True, False, True)
    assert first["waiting"] == [{"pod": "default/one", "why": "terminating"}]
    assert [name for name, _ in cluster.told] == ["one"]
    assert [one["pod"] for one in first["left"]] == ["default/bare"]
    again = run(run_module)
    assert (again["changed"], again["drained"]) == (False, True)


def test_check_mode_names_who_would_leave(run_module: RunModule, use: Use) -> None:
    cluster = use(Cluster(pod("one"), BARE))
    result = run(run_module, check=True, evict_bare_pods=True)
    assert [one["pod"] for one in result["waiting"]] == ["default/one", "default/bare"]
    assert result["changed"] and "it is cordoned" in result["diff"]["after"]
    assert not cluster.cordoned and cluster.told == []


def test_a_budget_is_kept_to_and_named(run_module: RunModule, use: Use) -> None:
    cluster = use(Cluster(GUARDED))
    cluster.refusals["guarded"] = 429
    result = run(run_module)
    (waiting,) = result["waiting"]
    assert waiting["pod"] == "default/guarded"
    assert waiting["why"] == (
        "PodDisruptionBudget guard allows no disruption now (2 healthy, 2 needed)"
    )
    assert (result["drained"], cluster.told) == (False, [])


def test_another_refusal_is_told_in_the_servers_words(run_module: RunModule, use: Use) -> None:
    cluster = use(Cluster(pod("one")))
    cluster.refusals["one"] = 500
    (waiting,) = run(run_module)["waiting"]
    assert waiting["why"] == "the API server refused to evict it: not now"


@pytest.mark.parametrize("status", [404, 409])
def test_who_is_gone_or_another_one_by_now_is_not_waited_for(
    run_module: RunModule, use: Use, status: int
) -> None:
    cluster = use(Cluster(pod("one")))
    cluster.refusals["one"] = status
    assert run(run_module)["drained"] is True


def late(cluster: Cluster, run: str = "run-1", cordoned: bool = True) -> Cluster:
    """The time of its drain is over."""
    assert cluster.node is not None
    mark = drain.Mark(run, "2020-01-01T00:00:00+00:00", cordoned)
    cluster.node["metadata"]["annotations"] = {drain.ANNOTATION: mark.text}
    cluster.node["spec"] = {"unschedulable": True}
    return cluster


def test_abort_uncordons_and_names_what_was_in_the_way(run_module: RunModule, use: Use) -> None:
    cluster = use(late(Cluster(GUARDED)))
    cluster.refusals["guarded"] = 429
    result = run(run_module)
    assert result["failed"] and "default/guarded (PodDisruptionBudget guard" in result["msg"]
    assert "The node was uncordoned again." in result["msg"]
    assert (cluster.cordoned, cluster.mark) == (False, None)


def test_abort_leaves_a_node_cordoned_that_a_person_had(run_module: RunModule, use: Use) -> None:
    cluster = use(late(Cluster(GUARDED), cordoned=False))
    cluster.refusals["guarded"] = 429
    assert "The node is still cordoned, as it was before." in run(run_module)["msg"]
    assert (cluster.cordoned, cluster.mark) == (True, None)


def test_another_run_has_its_own_time(run_module: RunModule, use: Use) -> None:
    cluster = use(late(Cluster(GUARDED), run="run-0"))
    cluster.refusals["guarded"] = 429
    assert run(run_module)["drained"] is False
    assert cluster.mark is not None and cluster.mark.cordoned, "it stays whose it was"


def test_wait_goes_on(run_module: RunModule, use: Use) -> None:
    cluster = use(late(Cluster(GUARDED)))
    cluster.refusals["guarded"] = 429
    result = run(run_module, on_timeout="wait")
    assert (result["drained"], result.get("failed", False)) == (False, False)


def test_force_deletes_whatever_the_budget_says(run_module: RunModule, use: Use) -> None:
    slow = pod("slow", spec={"terminationGracePeriodSeconds": 3600})
    quick = pod("quick", spec={"terminationGracePeriodSeconds": 1})
    cluster = use(late(Cluster(GUARDED, slow, quick)))
    cluster.refusals["guarded"] = 429
    run(run_module, on_timeout="force")
    assert {name: told["gracePeriodSeconds"] for name, told in cluster.told} == {
        "guarded": 30,
        "slow": 30,
        "quick": 1,
    }


def test_force_leaves_behind_what_can_not_end(run_module: RunModule, use: Use) -> None:
    held = pod("held", metadata={**ENDS, "finalizers": ["a/b"]}, status={"containerStatuses": []})
    use(late(Cluster(held)))
    result = run(run_module, on_timeout="force")
    assert (result["drained"], [one["pod"] for one in result["left"]]) == (True, ["default/held"])


@pytest.mark.parametrize(("on_timeout", "drained"), [("force", True), ("wait", False)])
def test_a_kubelet_that_does_not_answer(
    run_module: RunModule, use: Use, on_timeout: str, drained: bool
) -> None:
    cluster = use(late(Cluster(pod("one"), ready="Unknown")))
    cluster.obedient = False
    run(run_module, on_timeout=on_timeout)
    result = run(run_module, on_timeout=on_timeout)
    assert result["drained"] is drained
    told = result["left"] if drained else result["waiting"]
    assert "kubelet of its node does not answer" in told[0]["why"]


def test_states(run_module: RunModule, use: Use) -> None:
    cluster = use(Cluster())
    assert run(run_module, state="cordoned")["changed"]
    assert run(run_module, state="cordoned")["changed"] is False
    assert (cluster.cordoned, cluster.mark) == (True, None)
    assert run(run_module, state="released")["changed"] is False
    assert cluster.cordoned, "no drain had cordoned it"
    assert run(run_module, state="uncordoned")["changed"]
    assert not cluster.cordoned


def test_released_where_a_drain_had_cordoned_it(run_module: RunModule, use: Use) -> None:
    cluster = use(Cluster())
    run(run_module)
    assert cluster.mark is not None and cluster.mark.run == "run-1"
    assert run(run_module, state="released", epoch=4, run="run-2")["changed"]
    assert (cluster.cordoned, cluster.mark) == (False, None)


def test_a_person_who_cordons_takes_a_drain_over(run_module: RunModule, use: Use) -> None:
    cluster = use(Cluster())
    run(run_module)
    run(run_module, state="cordoned")
    run(run_module, state="released")
    assert cluster.cordoned


def test_another_writer_is_waited_for(run_module: RunModule, use: Use) -> None:
    cluster = use(Cluster())
    cluster.conflicts = 7
    assert run(run_module, state="cordoned")["changed"]


def test_a_node_that_there_is_not(run_module: RunModule, use: Use) -> None:
    cluster = use(Cluster())
    cluster.node = None
    assert "The cluster has no Node a" in run(run_module)["msg"]
    released = run(run_module, state="released")
    assert (released["changed"], released["found"]) == (False, False)


def test_rounds_go_on_for_as_long_as_the_module_has_patience(use: Use) -> None:
    cluster = Cluster(pod("one"))
    cluster.obedient = False
    slept: list[float] = []

    def sleep(seconds: float) -> None:
        slept.append(seconds)
        cluster.pods.clear()

    params = {"name": "a", "timeout_seconds": 300, "on_timeout": "abort", "patience": 60}
    found = node_drain.evict(cluster, {**params, **NEITHER}, sleep)  # type: ignore[arg-type]
    assert found.drained and len(slept) == 1


def test_the_clock_counts_from_the_mark() -> None:
    mark = drain.Mark("run", "2026-01-02T03:04:05+00:00", cordoned=True)
    now = datetime.datetime(2026, 1, 2, 3, 5, 5, tzinfo=datetime.UTC)
    assert mark.seconds(now) == 60


def test_it_is_called_until_the_node_is_drained_and_told_once(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    from ansible_collections.kubewright.cluster.plugins.action import node_drain as action

    shown: list[str] = []
    waits = {"changed": False, "waiting": [{"pod": "default/one", "why": "terminating"}]}
    bare = [{"pod": "default/bare", "why": "it is alone"}]
    results = [{**waits, "changed": True}, waits, {"changed": False, "waiting": [], "left": bare}]
    made = action.ActionModule.__new__(action.ActionModule)
    made._task = type("Task", (), {"check_mode": False})()
    begun: list[int] = []
    made._begin_again = lambda: begun.append(1)
    made._display = mock.Mock(display=shown.append)
    monkeypatch.setattr(action.NodeAction, "ask", lambda *_: results.pop(0))
    result = made.ask({"name": "a"}, {"inventory_hostname": "cp-1"})
    assert (result["changed"], len(begun)) == (True, 2)
    assert shown == [
        "kubewright: a: waits for default/one (terminating)",
        "kubewright: a: keeps its pods default/bare (it is alone)",
    ]


@pytest.mark.parametrize("ends", [{"failed": True, "msg": "no"}, {"drained": True}])
def test_it_ends_where_there_is_nothing_to_wait_for(
    monkeypatch: pytest.MonkeyPatch, ends: dict[str, Any]
) -> None:
    from ansible_collections.kubewright.cluster.plugins.action import node_drain as action

    made = action.ActionModule.__new__(action.ActionModule)
    made._task = type("Task", (), {"check_mode": False})()
    monkeypatch.setattr(action.NodeAction, "ask", lambda *_: dict(ends))
    assert made.ask({"name": "a"}, {}) == {**ends, "changed": False}


@pytest.mark.parametrize(("ready", "waits"), [("True", True), ("Unknown", False)])
def test_of_a_node_that_goes_for_good_nobody_waits_for_a_dead_kubelet(
    run_module: RunModule, use: Use, ready: str, waits: bool
) -> None:
    cluster = use(Cluster(pod("stuck"), GUARDED, ready=ready))
    cluster.obedient = False
    cluster.refusals = {"guarded": 429}
    run(run_module, removes_node=True)
    again = run(run_module, removes_node=True)
    assert again["drained"] is not waits
    assert ({one["pod"] for one in again["waiting"]} == set()) is not waits
