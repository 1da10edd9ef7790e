# SPDX-License-Identifier: Apache-2.0
"""Nodes are cordoned, drained, rebooted and uncordoned, with real pods on them."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import machines
import pods
import pytest
from cluster import Cluster
from kube import Kube
from waiting import NotYet, until

#: Seconds: what a drain is given, and what it may take more than that on a busy host.
TIME, MORE = 10, 60.0
LIMIT = 240.0


@pytest.fixture(autouse=True)
def _uncordoned(cluster: Cluster, kube: Kube, test_image: str) -> Iterator[None]:
    yield
    for node in cluster.nodes:
        if cordoned(kube, node):
            kube.kubectl("uncordon", node)
    assert [node for node in cluster.nodes if marked(kube, node)] == []


def cordoned(kube: Kube, node: str) -> bool:
    return bool(kube.core.read_node(node).spec.unschedulable)


def marked(kube: Kube, node: str) -> bool:
    return "kubewright.io/drain" in (kube.core.read_node(node).metadata.annotations or {})


def test_all_leave_but_what_belongs_to_the_node(cluster: Cluster, kube: Kube) -> None:
    node = cluster.workers[0]
    free = pods.pod("free", node, pods.DEAF, grace=3)
    objects = [
        pods.of("Deployment", "free", free),
        pods.of("DaemonSet", "each", pods.pod("each", node)),
        pods.bare("bare", node),
    ]
    with pods.running(kube, node, *objects):
        done = cluster.run("node", "drain", node, "--yes", limit=LIMIT).succeeded()
        assert f"{node} keeps its pods default/bare (no controller" in done.stderr
        assert set(pods.on(kube, node).values()) == {"each", "bare"}
        assert cordoned(kube, node)
        cluster.run("node", "uncordon", node, limit=LIMIT).succeeded()
        assert not cordoned(kube, node)
        bare_too = ("node", "drain", node, "--yes", "--evict-bare-pods")
        cluster.run(*bare_too, limit=LIMIT).succeeded()
        assert set(pods.on(kube, node).values()) == {"each"}


#: Name, what a pod is held by, and what is said of it while it waits.
BUDGET, HELD = "PodDisruptionBudget guarded allows no disruption now", "its finalizers"


@pytest.mark.parametrize("held", ["budget", "finalizer"])
@pytest.mark.parametrize("on_timeout", ["abort", "force"])
def test_what_does_not_leave(cluster: Cluster, kube: Kube, held: str, on_timeout: str) -> None:
    """A budget that can never be met; a finalizer that nobody takes away."""
    node = cluster.workers[0]
    holds = [pods.FINALIZER] if held == "finalizer" else []
    objects = [pods.of("Deployment", "guarded", pods.pod("guarded", node), finalizers=holds)]
    objects += [pods.budget("guarded", 1)] if held == "budget" else []
    options = ("--timeout", str(TIME), "--on-timeout", on_timeout)
    with pods.running(kube, node, *objects):
        ended = cluster.run("node", "drain", node, "--yes", *options, limit=LIMIT)
        assert (BUDGET if held == "budget" else HELD) in ended.stderr
        assert ended.seconds < TIME + pods_end(on_timeout) + MORE, ended
        if on_timeout == "force":
            ended.succeeded()
            assert "guarded" not in pods.on(kube, node).values()
            assert cordoned(kube, node)
        else:
            assert ended.status != 0
            assert "The node was uncordoned again." in ended.stderr
            assert not cordoned(kube, node)


def pods_end(on_timeout: str) -> float:
    return 30.0 if on_timeout == "force" else 0.0


def test_a_node_whose_kubelet_does_not_answer(cluster: Cluster, kube: Kube) -> None:
    node = cluster.workers[0]
    options = ("--timeout", str(TIME), "--on-timeout", "force")
    with pods.running(kube, node, pods.of("Deployment", "lost", pods.pod("lost", node))):
        machines.power_off(node)
        try:
            until("not Ready", lambda: _not_ready(kube, node), limit=90)
            ended = cluster.run("node", "drain", node, "--yes", *options, limit=LIMIT).succeeded()
            assert "the kubelet of its node does not answer" in ended.stderr
        finally:
            machines.power_on(node)
            until("Ready", lambda: _ready(kube, node), limit=120)


def _not_ready(kube: Kube, node: str) -> None:
    if _is_ready(kube, node):
        raise NotYet(f"{node} is Ready")


def _ready(kube: Kube, node: str) -> None:
    if not _is_ready(kube, node):
        raise NotYet(f"{node} is not Ready")


def _is_ready(kube: Kube, node: str) -> bool:
    conditions = kube.core.read_node(node).status.conditions
    return any(one.type == "Ready" and one.status == "True" for one in conditions)


def test_a_drain_that_was_killed_is_taken_back(cluster: Cluster, kube: Kube) -> None:
    node = cluster.workers[0]
    guarded = [pods.of("Deployment", "guarded", pods.pod("guarded", node))]
    with pods.running(kube, node, *guarded, pods.budget("guarded", 1)):
        with cluster.begin("node", "drain", node, "--yes") as drain:
            until("cordoned", lambda: _cordoned(kube, node), limit=60)
            drain.kill()
        plan = cluster.plan().succeeded()
        (changed,) = [one for one in plan.document["nodes"] if one["state"] == "drifted"]
        assert changed["name"] == node
        assert "an interrupted drain left it cordoned" in str(changed), changed
        cluster.apply().succeeded()
        assert not cordoned(kube, node)


def _cordoned(kube: Kube, node: str) -> None:
    if not cordoned(kube, node):
        raise NotYet(f"{node} takes pods")


def test_what_a_person_has_cordoned_stays_so(cluster: Cluster, kube: Kube) -> None:
    node = cluster.workers[0]
    cluster.run("node", "cordon", node, limit=LIMIT).succeeded()
    assert cluster.apply().succeeded().document["changed"] is False
    assert cordoned(kube, node)
    cluster.run("node", "reboot", node, "--yes", limit=LIMIT * 2).succeeded()
    assert cordoned(kube, node), "it was before it was rebooted"


def test_a_reboot_drains_before_and_lets_pods_in_after(
    cluster: Cluster, kube: Kube, measured: Callable[[str, object], None]
) -> None:
    node = cluster.workers[0]
    boot = machines.started(node)
    with pods.running(kube, node, pods.of("Deployment", "moves", pods.pod("moves", node))):
        (before,) = [name for name, app in pods.on(kube, node).items() if app == "moves"]
        ended = cluster.run("node", "reboot", node, "--yes", limit=LIMIT * 2).succeeded()
        measured("a worker drained and rebooted", ended.seconds)
        assert machines.started(node) != boot
        assert not cordoned(kube, node)
        until("back", lambda: _another(kube, node, before), limit=60)


def _another(kube: Kube, node: str, before: str) -> None:
    found = [name for name, app in pods.on(kube, node).items() if app == "moves"]
    if not found or before in found:
        raise NotYet(f"{found}")
