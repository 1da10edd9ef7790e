# SPDX-License-Identifier: Apache-2.0
"""System images on nodes, by the command and as the nodes themselves have them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from cluster import Cluster, Ended
from kube import Kube
from machines import run_on
from waiting import NotYet

ORDER = "/var/lib/kubewright/trial.json"
Containers = dict[str, tuple[str, int]]


def install(cluster: Cluster, digest: str, node: str) -> None:
    """Bring an image to a node; what runs is not touched."""
    before = active(node)
    words = ["node", "image", "install", digest[:12], "--node", node]
    cluster.run(*words, limit=120).succeeded()
    assert active(node) == before


def activate(cluster: Cluster, digest: str, node: str) -> Ended:
    """Run a node from an image."""
    words = ["node", "image", "activate", digest[:12], "--node", node]
    return cluster.run(*words, "--yes", "-o", "json", limit=400)


def listed(cluster: Cluster, node: str) -> list[dict[str, Any]]:
    """What the command says of the node's images."""
    words = ["node", "image", "list", "--node", node, "-o", "json"]
    document = cluster.run(*words).succeeded().document
    found: list[dict[str, Any]] = document["images"][node]
    return found


def active(node: str) -> str:
    """The digest of the image that a node is to run from."""
    link = "/var/lib/kubewright/system/active/image.squashfs"
    return Path(run_on(node, ["readlink", "--canonicalize", link]).strip()).stem


def runs(node: str, digest: str) -> bool:
    """Whether a node runs from an image, and all is at work; raises NotYet."""
    if active(node) != digest:
        raise NotYet(f"{active(node)} is active")
    units = ["containerd.service", "kubelet.service", "kubewright-balancer.service"]
    said = run_on(node, ["sh", "-c", f"systemctl is-active {' '.join(units)} || true"])
    if said.split() != ["active"] * 3:
        raise NotYet(said)
    return True


def decided(node: str) -> None:
    """Return when the node has decided on its image."""
    if run_on(node, ["sh", "-c", f"test -e {ORDER} && echo there || true"]):
        raise NotYet("it tries it still")


def containers(kube: Kube, node: str) -> Containers:
    """The containers of a node's pods with their restarts, by pod and name."""
    pods = kube.core.list_pod_for_all_namespaces(field_selector=f"spec.nodeName={node}").items
    return {
        f"{pod.metadata.namespace}/{pod.metadata.name}/{one.name}": (
            str(one.container_id),
            int(one.restart_count),
        )
        for pod in pods
        for one in pod.status.container_statuses or []
    }
