# SPDX-License-Identifier: Apache-2.0
"""Settings of kubelets roll: a wrong one stops at the first node that gets it, and nobody notices.

A cluster of its own, since it takes a pool of three. Throughout, each probe is a new connection:
to the API through balancers on nodes, and from pods of the pool to a Service whose pods run there.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

import fingerprints
import kube as api
import pytest
import workload
import yaml
from cluster import API_PORT, Cluster, Ended
from drifts import DROP_IN, KUBELET
from fingerprints import Fingerprint
from kube import Kube
from machines import run_on
from probing import Probe, Throughout, of_api
from waiting import NotYet, until

from kubewright.cli.exits import ExitCode

NAMESPACE, SERVICE = "default", "web"
ROLLED = "Change running nodes, wave by wave"
WAITED = "Wait until the node is healthy again"
CONTROL_PLANE, POOL = "control_plane", "pool"
Measured = Callable[[str, object], None]


@dataclass(frozen=True)
class Wrong:
    """A setting with which no kubelet lives, and what it says of it."""

    setting: Mapping[str, Any]
    reason: str


WRONG = {
    CONTROL_PLANE: Wrong(
        {"featureGates": {"NoSuchGate": True}}, "unrecognized feature gate: NoSuchGate"
    ),
    POOL: Wrong(
        {"cpuManagerPolicy": "static"},
        "unable to determine reserved CPU resources for static policy",
    ),
}
GOOD = {CONTROL_PLANE: {"maxPods": 101}, POOL: {"maxPods": 102}}


@dataclass(frozen=True)
class Rolling:
    """The cluster, and who asks what of it all the time."""

    cluster: Cluster
    kube: Kube
    probes: tuple[Probe, ...]

    def nodes(self, place: str) -> list[str]:
        """The names of the nodes of a place."""
        return self.cluster.control_planes if place == CONTROL_PLANE else self.cluster.workers

    def write(self, settings: Mapping[str, Mapping[str, Any]]) -> None:
        """Write cluster.yml with settings for the kubelets of places."""
        self.cluster.write()
        path = self.cluster.directory / "cluster.yml"
        spec = yaml.safe_load(path.read_text())
        places = {CONTROL_PLANE: spec["control_plane"], POOL: spec["pools"][0]}
        for place, setting in settings.items():
            places[place]["kubelet_args"] = dict(setting)
        path.write_text(yaml.safe_dump(spec, sort_keys=False))


@pytest.fixture(scope="module")
def rolling(
    kubectl: Path, tmp_path_factory: pytest.TempPathFactory, measured: Measured
) -> Iterator[Rolling]:
    """Three control planes, and a pool of three whose pods serve HTTP."""
    made = Cluster("kwroll", tmp_path_factory.mktemp("rolling"), pool_size=3)
    made.write()
    made.clear_away()
    try:
        measured("apply of six nodes", made.apply().succeeded().seconds)
        path = tmp_path_factory.mktemp("kubeconfig") / "rolling.yaml"
        path.write_text(made.run("kubeconfig").succeeded().stdout)
        kube = Kube(path, kubectl)
        workload.give_image(made.workers, tmp_path_factory.mktemp("workload"))
        kube.apps.create_namespaced_daemon_set(NAMESPACE, workload.daemon_set(SERVICE))
        kube.core.create_namespaced_service(NAMESPACE, workload.service(SERVICE))
        pods = until("serving", serving(kube, frozenset(made.workers)), limit=120)
        address = kube.core.read_namespaced_service(SERVICE, NAMESPACE).spec.cluster_ip
        credentials = kube.credentials()
        # From a node that a wave begins with, and from one of the last.
        ends = (made.workers[0], made.workers[-1])
        asked = [of_api(node, credentials, made.api_name, API_PORT) for node in ends]
        asked += [Probe(node, address, 80, "/", f"{SERVICE}-", pod=pods[node]) for node in ends]
        yield Rolling(made, kube, tuple(asked))
    finally:
        made.destroy().succeeded()


@pytest.mark.parametrize("place", [CONTROL_PLANE, POOL])
def test_a_wrong_setting_stops_at_one_node(
    rolling: Rolling, place: str, measured: Measured
) -> None:
    cluster, wrong = rolling.cluster, WRONG[place]
    before = fingerprints.look_at(cluster.nodes)
    since = api.now()
    rolling.write({place: wrong.setting})
    with Throughout(rolling.probes) as asked:
        ended = cluster.apply()
        status = cluster.run("status", "-o", "json")
        ready = api.all_ready(rolling.kube, frozenset(cluster.nodes), since=since)
        until("Ready", ready, limit=60)
    measured(f"wrong setting for the {place}: apply", ended.seconds)
    measured(f"wrong setting for the {place}: slowest probe", asked.slowest)

    said = f"{ended.stdout}\n{ended.stderr}"
    assert ended.status == ExitCode.FAILED, said
    message = ended.document["error"]["message"]
    assert wrong.reason in message, said
    assert "The old ones were restored, and it is healthy with them" in message, said

    after = fingerprints.look_at(cluster.nodes)
    saw = [node for node in cluster.nodes if rewritten(before[node], after[node], DROP_IN)]
    assert len(saw) == 1, saw
    assert saw[0] in rolling.nodes(place), saw
    # It has its old settings and runs with them; of the others nothing was touched.
    problems = [
        f"{node}: {problem}"
        for node in cluster.nodes
        for problem in fingerprints.differences(
            before[node],
            after[node],
            frozenset({DROP_IN} if node in saw else ()),
            frozenset({KUBELET} if node in saw else ()),
        )
    ]
    assert not problems, "\n".join(problems)
    told = [node for node in cluster.nodes if wrong.reason in journal(node, since)]
    assert told == saw
    counts = ended.document["host_task_counts"]
    assert {node for node, count in counts.items() if count > 1} == set(saw), counts
    assert status.status == ExitCode.OK, status.stdout
    assert status.document["healthy"] is True
    asked.none_failed()


def test_a_good_setting_rolls(rolling: Rolling, measured: Measured) -> None:
    cluster = rolling.cluster
    before = fingerprints.look_at(cluster.nodes)
    rolling.write(GOOD)
    with Throughout(rolling.probes) as asked:
        ended = cluster.apply().succeeded()
    measured("another setting for six nodes: apply", ended.seconds)
    measured("another setting for six nodes: slowest probe", asked.slowest)

    after = fingerprints.look_at(cluster.nodes)
    for place, setting in GOOD.items():
        for node in rolling.nodes(place):
            assert rewritten(before[node], after[node], DROP_IN), node
            item = rolling.kube.core.read_node(node)
            assert item.status.capacity["pods"] == str(setting["maxPods"]), node
    in_turn(rolling, ended)
    asked.none_failed()


def in_turn(rolling: Rolling, ended: Ended) -> None:
    """Assert who was changed before whom: each wave ends before the next one begins."""
    run = ended.document["run"]
    trace = rolling.cluster.run("history", "show", run, "-o", "json").succeeded().document
    tasks = [task for task in trace["tasks"] if task["phase"] == ROLLED]
    nodes = dict.fromkeys(task["host"] for task in tasks)
    assert set(nodes) == set(rolling.cluster.nodes)
    began = {node: min(task["began"] for task in tasks if task["host"] == node) for node in nodes}
    over = {
        node: max(task["began"] + task["seconds"] for task in tasks if task["host"] == node)
        for node in nodes
    }
    waited = {task["host"] for task in tasks if task["task"] == WAITED}
    order = sorted(nodes, key=lambda node: began[node])
    first = rolling.cluster.workers[0]
    assert set(order[:3]) == set(rolling.cluster.control_planes), order
    assert order[3] == first, order
    # Healthy again, too, before the next one.
    assert set(order[:4]) <= waited, (order, waited)
    ends = [over[node] for node in order[:4]]
    begins = [began[node] for node in order[1:4]] + [min(began[node] for node in order[4:])]
    assert all(end <= begin for end, begin in zip(ends, begins, strict=True)), (began, over)


def rewritten(before: Fingerprint, after: Fingerprint, path: str) -> bool:
    """Whether a file was written in between."""
    return bool(before.files[path]["when"] != after.files[path]["when"])


def journal(node: str, since: datetime) -> str:
    """What a node's kubelet has said since then."""
    moment = f"--since=@{since.timestamp():.0f}"
    return run_on(node, ["journalctl", f"--unit={KUBELET}", moment, "--output=cat", "--no-pager"])


def serving(kube: Kube, nodes: frozenset[str]) -> Callable[[], dict[str, str]]:
    """A look for a ready pod on each of the nodes; gives their names by node."""

    def look() -> dict[str, str]:
        with api.tolerant():
            selector = f"app={SERVICE}"
            pods = kube.core.list_namespaced_pod(NAMESPACE, label_selector=selector).items
        ready = {
            pod.spec.node_name: pod.metadata.name
            for pod in pods
            if all(status.ready for status in pod.status.container_statuses or [])
            and pod.status.container_statuses
        }
        if set(ready) != nodes:
            raise NotYet(f"pods are ready on {sorted(ready)}")
        return ready

    return look
