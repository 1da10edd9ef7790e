# SPDX-License-Identifier: Apache-2.0
"""Pods that leave a node in all sorts of ways, and what keeps them there."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import kube as api
from kube import Kube
from waiting import NotYet, until
from workload import IMAGE

#: No real controller takes it away.
FINALIZER = "kubewright.test/held"
SLEEP = ["sleep", "100000"]
#: Takes SIGTERM for nothing.
DEAF = ["sh", "-c", "trap '' TERM; while true; do sleep 1; done"]


def pod(name: str, node: str, command: list[str] | None = None, grace: int = 1) -> dict[str, Any]:
    """The spec of a pod with a node of its own, to be put into something, or made as it is."""
    container = {
        "name": name,
        "image": IMAGE,
        "imagePullPolicy": "Never",
        "command": command or SLEEP,
    }
    return {
        "terminationGracePeriodSeconds": grace,
        "containers": [container],
        "nodeSelector": {"kubernetes.io/hostname": node},
    }


def bare(name: str, node: str) -> dict[str, Any]:
    """A pod without a controller."""
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": name, "labels": {"app": name}},
        "spec": pod(name, node),
    }


def of(
    kind: str, name: str, spec: dict[str, Any], finalizers: Sequence[str] = ()
) -> dict[str, Any]:
    """A Deployment of one pod, or a DaemonSet."""
    labels = {"app": name}
    metadata = {"labels": labels, "finalizers": list(finalizers)}
    return {
        "apiVersion": "apps/v1",
        "kind": kind,
        "metadata": {"name": name},
        "spec": {
            "selector": {"matchLabels": labels},
            "template": {"metadata": metadata, "spec": spec},
        },
    }


def budget(name: str, available: int) -> dict[str, Any]:
    """A PodDisruptionBudget of the Deployment of that name."""
    return {
        "apiVersion": "policy/v1",
        "kind": "PodDisruptionBudget",
        "metadata": {"name": name},
        "spec": {"minAvailable": available, "selector": {"matchLabels": {"app": name}}},
    }


@contextmanager
def running(kube: Kube, node: str, *objects: dict[str, Any]) -> Iterator[None]:
    """Make objects, wait until their pods run on the node, and remove them, whatever holds them."""
    documents = json.dumps({"apiVersion": "v1", "kind": "List", "items": list(objects)})
    names = {one["metadata"]["name"] for one in objects if one["kind"] != "PodDisruptionBudget"}
    kube.kubectl("create", "-f", "-", input=documents)
    try:
        until(f"running: {names}", _there(kube, node, names), limit=60)
        yield
    finally:
        kube.kubectl("delete", "-f", "-", "--wait=false", "--ignore-not-found", input=documents)
        until("gone", lambda: _gone(kube, names), limit=90)


def on(kube: Kube, node: str) -> dict[str, str]:
    """The pods on a node: which application each is of, by its name."""
    with api.tolerant():
        pods = kube.core.list_namespaced_pod("default", _request_timeout=5).items
    return {
        one.metadata.name: (one.metadata.labels or {}).get("app", "")
        for one in pods
        if one.spec.node_name == node and not one.metadata.deletion_timestamp
    }


def _there(kube: Kube, node: str, names: set[str]) -> Any:
    def look() -> None:
        with api.tolerant():
            pods = kube.core.list_namespaced_pod("default", _request_timeout=5).items
        up = {
            one.metadata.labels["app"]
            for one in pods
            if one.spec.node_name == node and one.status.phase == "Running"
        }
        if not names <= up:
            raise NotYet(f"{sorted(up)} run there")

    return look


def _gone(kube: Kube, names: set[str]) -> None:
    with api.tolerant():
        pods = kube.core.list_namespaced_pod("default", _request_timeout=5).items
    left = [one for one in pods if (one.metadata.labels or {}).get("app") in names]
    for one in left:
        if one.metadata.finalizers:
            kube.kubectl(
                "patch", "pod", one.metadata.name, "--type=merge",
                '--patch={"metadata":{"finalizers":null}}',
            )  # fmt: skip
    if left:
        raise NotYet(f"{[one.metadata.name for one in left]} are there")
