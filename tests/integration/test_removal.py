# SPDX-License-Identifier: Apache-2.0
"""Workers leave: one of the user's choice, one that is dead, while the command is killed.

A cluster of its own, which has to shrink.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import kube as api
import machines
import pods
import pytest
import workload
from cluster import Cluster
from kube import Kube
from waiting import NotYet, until

from kubewright.cli.exits import ExitCode

LIMIT = 180.0


@pytest.fixture(scope="module")
def large(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    """One control plane and three workers."""
    made = Cluster("kwgone", tmp_path_factory.mktemp("removal"), control_plane_size=1, pool_size=3)
    try:
        made.write()
        made.clear_away()
        made.apply().succeeded()
        workload.give_image(made.workers, tmp_path_factory.mktemp("workload"))
        yield made
    finally:
        made.destroy().succeeded()


@pytest.fixture(scope="module")
def kube(large: Cluster, kubectl: Path, tmp_path_factory: pytest.TempPathFactory) -> Kube:
    """Its clients."""
    path = tmp_path_factory.mktemp("kubeconfig") / "removal.yaml"
    path.write_text(large.run("kubeconfig").succeeded().stdout)
    return Kube(path, kubectl)


def nodes(kube: Kube) -> set[str]:
    """The names of all Nodes."""
    with api.tolerant():
        return {one.metadata.name for one in kube.core.list_node(_request_timeout=5).items}


def shrunk(made: Cluster, size: int) -> Cluster:
    """Write down that its pool has a size."""
    smaller = replace(made, pool_size=size)
    smaller.write()
    return smaller


def test_one_that_the_file_wants_stays(large: Cluster, kube: Kube) -> None:
    refused = large.run("node", "remove", large.workers[0], "--yes", limit=LIMIT)
    assert refused.status == ExitCode.REFUSED, refused.stderr
    assert large.workers[0] in nodes(kube)


def test_one_of_the_users_choice(
    large: Cluster, kube: Kube, measured: Callable[[str, object], None]
) -> None:
    first, *others = large.workers
    smaller = shrunk(large, 2)
    found = smaller.plan().succeeded().document["findings"]
    assert [(one["host"], one["check"]) for one in found] == [(others[-1], "machine")]
    with pods.running(kube, first, pods.of("Deployment", "moves", pods.pod("moves", first))):
        ended = smaller.run("node", "remove", first, "--yes", limit=LIMIT).succeeded()
    measured("a worker drained and removed with its machine", ended.seconds)
    assert nodes(kube) == {*large.control_planes, *others}
    assert first not in smaller.addresses
    again = smaller.apply().succeeded().document
    assert (again["changed"], again["findings"]) == (False, [])


def test_one_that_is_dead_by_a_command_that_is_killed(large: Cluster, kube: Kube) -> None:
    _, dead, last = large.workers
    guarded = [
        pods.of("Deployment", "guarded", pods.pod("guarded", dead)),
        pods.budget("guarded", 1),
    ]
    with pods.running(kube, dead, *guarded):
        machines.power_off(dead)
        until("the Node is lost", lambda: _lost(kube, dead), limit=90)
        smaller = shrunk(large, 1)
        with smaller.begin("node", "remove", dead, "--yes") as running:
            running.wait_for_line("keeps its pods", limit=LIMIT)
            running.kill()
        smaller.run("node", "remove", dead, "--yes", limit=LIMIT).succeeded()
    assert nodes(kube) == {*large.control_planes, last}
    assert smaller.apply().succeeded().document["changed"] is False


def test_a_name_that_is_free_is_given_again(large: Cluster, kube: Kube) -> None:
    first, _, last = large.workers
    shrunk(large, 2).apply().succeeded()
    assert nodes(kube) == {*large.control_planes, first, last}


def test_a_control_plane_is_refused_by_the_playbook(large: Cluster, kube: Kube) -> None:
    plane = large.control_planes[0]
    words = ("-e", f"kubewright_target={plane}", "-e", f"kubewright_confirm_remove={plane}")
    ended = large.begin_playbook("node_remove", *words).ended(LIMIT)
    assert ended.status != 0
    assert "Kubewright can only remove workers yet" in ended.stdout
    assert plane in nodes(kube)


def _lost(kube: Kube, name: str) -> None:
    with api.tolerant():
        node = kube.core.read_node(name, _request_timeout=5)
    if all(one.status == "True" for one in node.status.conditions if one.type == "Ready"):
        raise NotYet("still Ready")
