# SPDX-License-Identifier: Apache-2.0
"""Which pods leave a node, and what keeps those that don't: the pure part."""

from __future__ import annotations

import datetime
from typing import Any

import pytest
from ansible_collections.kubewright.cluster.plugins.module_utils._kube import drain, eviction

NOW = datetime.datetime(2026, 1, 2, 3, 4, 5, tzinfo=datetime.UTC)


def pod(name: str = "web-1", kind: str = "ReplicaSet", **more: Any) -> dict[str, Any]:
    owners = [{"kind": kind, "name": "web", "controller": True}] if kind else []
    metadata = {"name": name, "namespace": "default", "uid": name, "ownerReferences": owners}
    status = {"phase": "Running", "containerStatuses": [{"state": {"running": {}}}]}
    return {
        "metadata": metadata | more.get("metadata", {}),
        "spec": more.get("spec", {}),
        "status": status | more.get("status", {}),
    }


def node(unschedulable: bool = False, mark: str | None = None) -> dict[str, Any]:
    annotations = {drain.ANNOTATION: mark} if mark is not None else {}
    return {
        "metadata": {"name": "a", "resourceVersion": "5", "annotations": annotations},
        "spec": {"unschedulable": True} if unschedulable else {},
    }


STATIC = pod("etcd-a", "Node", metadata={"annotations": {drain.STATIC_POD: "x"}})
BARE = pod("bare", "")
ENDS = {"deletionTimestamp": "2026-01-02T03:04:35Z"}


def test_who_leaves() -> None:
    plain, each = pod(), pod("each", "DaemonSet")
    done = pod("done", "", status={"phase": "Succeeded"})
    going = pod("going", "", metadata=ENDS)
    everyone = [plain, each, STATIC, BARE, done, going]
    assert drain.leaving(everyone, bare_too=False) == [plain, done, going]
    assert drain.leaving(everyone, bare_too=True) == [plain, BARE, done, going]


def test_an_owner_that_does_not_control_is_no_controller() -> None:
    owned = pod(metadata={"ownerReferences": [{"kind": "ReplicaSet", "name": "x"}]})
    assert drain.leaving([owned], bare_too=False) == []


@pytest.mark.parametrize(
    ("found", "ready", "words"),
    [
        (pod(metadata=ENDS), True, "terminating, 30 s left"),
        (pod(metadata={"deletionTimestamp": "2026-01-02T03:04:05Z"}), True, "terminating, overdue"),
        (pod(metadata=ENDS), False, "the kubelet of its node does not answer"),
        (
            pod(metadata={**ENDS, "finalizers": ["a/b", "c/d"]}, status={"containerStatuses": []}),
            True,
            "terminated, and kept by its finalizers: a/b, c/d",
        ),
        # While it runs its finalizers are not what it waits for.
        (pod(metadata={**ENDS, "finalizers": ["a/b"]}), True, "terminating, 30 s left"),
    ],
)
def test_what_a_pod_waits_for(found: dict[str, Any], ready: bool, words: str) -> None:
    assert words in drain.reason(found, ready, NOW)


def test_whom_force_leaves_behind() -> None:
    ended = pod(metadata=ENDS, status={"containerStatuses": [{"state": {"terminated": {}}}]})
    assert drain.gone_enough(ended, node_ready=True)
    assert not drain.gone_enough(pod(metadata=ENDS), node_ready=True), "it runs"
    assert drain.gone_enough(pod(metadata=ENDS), node_ready=False), "nobody could say so"
    assert not drain.gone_enough(pod(), node_ready=False), "it was told nothing"


def test_a_mark_says_who_cordoned_the_node_and_when() -> None:
    mark = drain.mark(node(), "run-1", NOW)
    assert mark == drain.Mark("run-1", NOW.isoformat(), cordoned=True)
    assert drain.Mark.of(node(mark=mark.text)) == mark
    assert mark.seconds(NOW + datetime.timedelta(seconds=7)) == 7
    assert drain.mark(node(unschedulable=True), "run-1", NOW).cordoned is False


def test_the_same_run_goes_on_and_another_one_begins_again() -> None:
    mark = drain.mark(node(), "run-1", NOW)
    later = NOW + datetime.timedelta(minutes=1)
    marked = node(unschedulable=True, mark=mark.text)
    assert drain.mark(marked, "run-1", later) == mark
    taken = drain.mark(marked, "run-2", later)
    assert (taken.run, taken.began, taken.cordoned) == ("run-2", later.isoformat(), True)


@pytest.mark.parametrize("text", ["", "{}", "[]", "no JSON", '{"run": 1}', "null"])
def test_a_mark_that_nobody_can_read_is_none(text: str) -> None:
    assert drain.Mark.of(node(mark=text)) is None


def test_a_mark_with_a_time_that_nobody_can_read_has_just_begun() -> None:
    assert drain.Mark("run", "yesterday", cordoned=True).seconds(NOW) == 0


def test_a_patch_is_for_the_node_that_was_seen() -> None:
    mark = drain.mark(node(), "run-1", NOW)
    body = drain.patch(node(), unschedulable=True, mark=mark)
    assert body["metadata"] == {
        "resourceVersion": "5",
        "annotations": {drain.ANNOTATION: mark.text},
    }
    assert body["spec"] == {"unschedulable": True}
    there = node(unschedulable=True, mark=mark.text)
    assert drain.patch(there, unschedulable=True, mark=mark) == {}
    back = drain.patch(there, unschedulable=False, mark=None)
    assert back["metadata"]["annotations"] == {drain.ANNOTATION: None}
    assert back["spec"] == {"unschedulable": None}


@pytest.mark.parametrize(
    ("selector", "selected"),
    [
        (None, False),
        ({}, True),
        ({"matchLabels": {"app": "web"}}, True),
        ({"matchLabels": {"app": "db"}}, False),
        ({"matchExpressions": [{"key": "app", "operator": "In", "values": ["web"]}]}, True),
        ({"matchExpressions": [{"key": "app", "operator": "NotIn", "values": ["web"]}]}, False),
        ({"matchExpressions": [{"key": "tier", "operator": "NotIn", "values": ["x"]}]}, True),
        ({"matchExpressions": [{"key": "app", "operator": "Exists"}]}, True),
        ({"matchExpressions": [{"key": "app", "operator": "DoesNotExist"}]}, False),
        (
            {
                "matchLabels": {"app": "web"},
                "matchExpressions": [{"key": "tier", "operator": "Exists"}],
            },
            False,
        ),
    ],
)
def test_whom_a_selector_means(selector: dict[str, Any] | None, selected: bool) -> None:
    assert eviction.selects(selector, {"app": "web"}) is selected
