# Copyright: the Kubewright authors
# Apache License 2.0 (see LICENSE or https://www.apache.org/licenses/LICENSE-2.0)
"""The Node of a node, kept as `node_object` says, and made again where somebody has deleted it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager
from typing import Any

from ansible_collections.kubewright.cluster.plugins.module_utils._base.errors import KubewrightError
from ansible_collections.kubewright.cluster.plugins.module_utils._cluster import labels as rules
from ansible_collections.kubewright.cluster.plugins.module_utils._kube import client, node_object

#: The kubelet writes to its Node too. Each try begins with what is there then.
TRIES = 5
CONFLICT = 409


def credentials(api_servers: Sequence[str], api_name: str) -> AbstractContextManager[client.Api]:
    """The API as the administrator where that is possible, else as the kubelet."""
    speak = client.as_administrator if client.ADMINISTRATOR.is_file() else client.as_kubelet
    return speak(api_servers, api_name)


def keep(
    api: client.Api,
    name: str,
    labels: Mapping[str, str],
    taints: Sequence[node_object.Taint],
    create: Mapping[str, Any] | None = None,
    predict: bool = False,
) -> list[str]:
    """Add what the Node lacks; gives it in words.

    *create*: what one that is missing is made with: ``provider_id`` and ``pod_networks``; without
    it a missing one raises `KubewrightError`. *predict*: nothing is changed, and one that is
    missing would have been made before.
    """
    path = client.node_path(name)
    rules.check(labels)
    for tried in range(1, TRIES + 1):
        live = api.get(path)
        if live is None and predict:
            return [missing(name)]
        if live is None and create is not None:
            if _make(api, name, labels, taints, create):
                return [missing(name)]
            continue
        if live is None:
            raise KubewrightError(
                f"The cluster has no Node {name}. Is the kubelet running? See "
                "`systemctl status kubelet` on the node."
            )
        reasons = node_object.reasons(live, labels, taints)
        if not reasons or predict:
            return reasons
        body = node_object.patch(live, labels, taints)
        try:
            api.request("PATCH", path, body, "application/merge-patch+json")
        except client.ApiError as error:
            if error.status != CONFLICT or tried == TRIES:
                raise
        else:
            return reasons
    return []


def read(api: client.Api, name: str) -> Mapping[str, Any]:
    """The Node. Raises `KubewrightError` where there is none."""
    node = api.get(client.node_path(name))
    if node is None:
        raise KubewrightError(f"The cluster has no Node {name}. Run it again.")
    return node


def missing(name: str) -> str:
    """What is said of a Node that has to be made."""
    return f"Node {name} is missing"


def _make(
    api: client.Api,
    name: str,
    labels: Mapping[str, str],
    taints: Sequence[node_object.Taint],
    create: Mapping[str, Any],
) -> bool:
    """Make the Node; False where the kubelet has just done so itself."""
    others = api.request("GET", client.NODES)["items"]
    networks = create["pod_networks"] if node_object.free(create["pod_networks"], others) else []
    body = node_object.new(name, labels, taints, create["provider_id"], networks)
    try:
        api.request("POST", client.NODES, body)
    except client.ApiError as error:
        if error.status != CONFLICT:
            raise
        return False
    return True
