# SPDX-License-Identifier: Apache-2.0
"""The cluster is what its file says, although the first ``apply`` was killed half-way."""

from __future__ import annotations

import json
from collections.abc import Callable

import checks
import etcd
import kube as api
from cluster import POOL, VERSION, Cluster
from conftest import Creation
from kube import Kube
from machines import IMAGE_ROOT, run_on

#: Of a new cluster of three control planes and two workers, its machines included.
HOST_TASKS = 45


def test_all_nodes_are_ready(cluster: Cluster, kube: Kube) -> None:
    nodes = api.all_ready(kube, frozenset(cluster.nodes))()
    assert {node.version for node in nodes.values()} == {f"v{VERSION}"}
    control_planes = {
        node.name
        for node in nodes.values()
        if "node-role.kubernetes.io/control-plane" in node.labels
    }
    assert control_planes == set(cluster.control_planes)


def test_nodes_are_the_machines_of_the_file(cluster: Cluster, kube: Kube) -> None:
    listed = json.loads((cluster.state / "machines.json").read_text())["machines"]
    nodes = api.nodes(kube)
    assert {node.name: node.provider_id for node in nodes.values()} == {
        machine["name"]: machine["id"] for machine in listed
    }
    assert {nodes[name].labels.get("kubewright.io/pool") for name in cluster.workers} == {POOL}
    for machine in listed:
        labels = nodes[machine["name"]].labels
        assert labels["topology.kubernetes.io/region"] == machine["region"]
        assert labels["topology.kubernetes.io/zone"] == machine["zone"]


def test_api_server_has_the_version(kube: Kube) -> None:
    assert kube.version.get_code(_request_timeout=5).git_version == f"v{VERSION}"


def test_dns_is_available(kube: Kube) -> None:
    api.available(kube, "kube-system", "coredns")()


def test_dns_outlives_any_node(kube: Kube) -> None:
    pods = kube.core.list_namespaced_pod("kube-system", label_selector="k8s-app=kube-dns").items
    placed = [pod.spec.node_name for pod in pods if pod.status.phase == "Running"]
    assert len(placed) >= 2 and len(set(placed)) == len(placed), placed


def test_there_is_one_cluster_with_three_voters(cluster: Cluster) -> None:
    expected = frozenset(cluster.control_planes)
    for machine in cluster.control_planes:
        seen = etcd.healthy_voters(machine, expected)
        assert len(seen.cluster_ids) == 1, seen
    # Each API server, asked itself, serves the same cluster.
    kubectl = [f"{IMAGE_ROOT}/bin/kubectl", "--kubeconfig=/etc/kubernetes/admin.conf"]
    ask = ["get", "namespace", "kube-system", "--output=jsonpath={.metadata.uid}"]
    ids = {
        run_on(machine, [*kubectl, "--server=https://127.0.0.1:6443", *ask])
        for machine in cluster.control_planes
    }
    assert len(ids) == 1, ids


def test_the_second_apply_finished_the_killed_one(creation: Creation) -> None:
    checks.repaired(creation.second, creation.killed_run)
    answer = creation.second.document
    assert answer["host_tasks"]["failed"] == answer["host_tasks"]["unreachable"] == 0
    assert sum(answer["host_task_counts"].values()) <= HOST_TASKS


def test_apply_again_changes_nothing(
    creation: Creation, measured: Callable[[str, object], None]
) -> None:
    begun = api.now()
    again = creation.cluster.apply()
    measured("apply with nothing to do", again.seconds)
    checks.changes_nothing(again, creation.cluster.nodes)
    checks.whole(creation.cluster, creation.killed_run, creation.settled, begun)
