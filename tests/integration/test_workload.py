# SPDX-License-Identifier: Apache-2.0
"""What a user runs: pods that find each other by name across nodes, exec and logs."""

from __future__ import annotations

import pytest
import workload
from cluster import Cluster
from conftest import SERVERS
from kube import Kube
from waiting import until


@pytest.mark.parametrize(("client", "server"), [SERVERS, SERVERS[::-1]])
def test_a_pod_reaches_a_service_on_the_other_worker_by_name(
    cluster: Cluster, kube: Kube, servers: dict[str, str], client: str, server: str
) -> None:
    placed = {
        pod.metadata.name: pod.spec.node_name
        for pod in kube.core.list_namespaced_pod("default").items
    }
    assert {placed[servers[name]] for name in SERVERS} == set(cluster.workers)
    # The rules of a new Service take a moment to reach a node.
    until(f"answered by {server}", workload.reaches(kube, servers, client, server), limit=15)


def test_exec_runs_in_the_pod(kube: Kube, servers: dict[str, str]) -> None:
    for pod in servers.values():
        assert kube.kubectl("exec", pod, "--", "hostname").strip() == pod


def test_logs_are_the_pods_output(kube: Kube, servers: dict[str, str]) -> None:
    for pod in servers.values():
        assert kube.kubectl("logs", pod).strip() == "serving"
