# SPDX-License-Identifier: Apache-2.0
"""A pod on every node, control planes too: each asks all others, and the cluster's DNS."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import workload
from hosts import Host
from kube import Kube, tolerant
from waiting import NotYet

NAME = "talking"
#: Of the cluster's DNS: the tenth of the default service_cidr.
DNS = "10.96.0.10"
ASKED = "kubernetes.default.svc.cluster.local"


def prepare(hosts: list[Host], archive: Path) -> None:
    """Give the hosts' containerd the image of ``workload.make_archive``."""
    ctr = ("/opt/kubewright/bin/ctr", "--namespace", "k8s.io", "images", "import", "--local", "-")
    for host in hosts:
        host.run(*ctr, stdin=archive.read_bytes(), limit=120)


def begin(kube: Kube) -> None:
    """Have a pod on each node."""
    made: dict[str, Any] = workload.deployment(NAME)
    del made["spec"]["replicas"]
    made["spec"]["template"]["spec"]["tolerations"] = [{"operator": "Exists"}]
    kube.apps.create_namespaced_daemon_set("default", {**made, "kind": "DaemonSet"})


def all_talk(kube: Kube, nodes: frozenset[str]) -> Callable[[], None]:
    """A look for pods on ``nodes`` that all reach one another, and DNS by its Service."""

    def look() -> None:
        with tolerant():
            pods = kube.core.list_namespaced_pod(
                "default", label_selector=f"app={NAME}", _request_timeout=5
            ).items
        told = {pod.spec.node_name: pod for pod in pods if pod.status.pod_ip}
        if set(told) != nodes:
            raise NotYet(f"pods with an address are on {sorted(told)}")
        silent = [line for node in sorted(nodes) for line in _unanswered(kube, node, told)]
        if silent:
            raise NotYet("; ".join(silent))

    return look


def _unanswered(kube: Kube, node: str, pods: dict[str, Any]) -> list[str]:
    """What the pod on ``node`` has no answer from."""
    script = [
        f"printf 'GET / HTTP/1.0\\r\\n\\r\\n' | nc -w 2 {pod.status.pod_ip} {workload.PORT}"
        f" | grep -q '^{pod.metadata.name}$' || echo no answer from {other}"
        for other, pod in sorted(pods.items())
    ]
    script.append(f"nslookup {ASKED} {DNS} >/dev/null || echo no answer from DNS at {DNS}")
    try:
        said = kube.kubectl("exec", pods[node].metadata.name, "--", "sh", "-c", "\n".join(script))
    except AssertionError as error:
        return [f"{node}: {error}"]
    return [f"{node}: {line}" for line in said.splitlines()]
