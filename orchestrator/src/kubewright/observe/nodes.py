# SPDX-License-Identifier: Apache-2.0
"""The cluster's Node objects, through an API server that lives."""

from __future__ import annotations

import base64
import json
from collections.abc import Mapping
from typing import Any

from kubewright.observe.credentials import in_memory
from kubewright.observe.model import Condition, Node

#: The label that says to which pool a node belongs.
POOL_LABEL = "kubewright.io/pool"
#: kubeadm's label on control planes.
CONTROL_PLANE_LABEL = "node-role.kubernetes.io/control-plane"
#: Seconds to connect, and to read the answer.
TIMEOUT = (3.0, 10.0)


class NodesError(Exception):
    """The nodes could not be read; the message says why."""


def read(kubeconfig: Mapping[str, Any]) -> tuple[Node, ...]:
    """Return the nodes by name, asked with a kubeconfig whose certificates are embedded.

    The library's own loader would write certificate and key to files; here they stay in memory.

    :raises NodesError: the API server did not answer as it should.
    """
    # Imported late: it takes as long as the rest of the command together.
    from kubernetes import client

    try:
        cluster, user = kubeconfig["clusters"][0]["cluster"], kubeconfig["users"][0]["user"]
        with (
            in_memory(base64.b64decode(cluster["certificate-authority-data"])) as authority,
            in_memory(base64.b64decode(user["client-certificate-data"])) as certificate,
            in_memory(base64.b64decode(user["client-key-data"])) as key,
        ):
            settings = client.Configuration()
            settings.host = cluster["server"]
            settings.tls_server_name = cluster.get("tls-server-name")
            settings.ssl_ca_cert = authority
            settings.cert_file, settings.key_file = certificate, key
            settings.retries = 0
            settings.proxy = None  # the library takes one from the environment
            with client.ApiClient(settings) as api:
                # Not as the library's models: they refuse what a newer API leaves out.
                answer: Any = client.CoreV1Api(api).list_node(
                    _request_timeout=TIMEOUT, _preload_content=False
                )
                data = _decoded(answer.data)
    except Exception as error:
        # The library raises its own, urllib3's and plain errors.
        raise NodesError(_first_line(error)) from error
    return tuple(sorted((node(item) for item in data["items"]), key=lambda found: found.name))


def _decoded(content: bytes) -> dict[str, Any]:
    data = json.loads(content)
    if not isinstance(data, dict) or not isinstance(data.get("items"), list):
        raise ValueError("the answer is no list of nodes")
    return data


def _first_line(error: Exception) -> str:
    status = getattr(error, "status", None)
    if status:
        return f"the API server answers with HTTP status {status} ({getattr(error, 'reason', '')})"
    return (str(error) or repr(error)).splitlines()[0]


def node(item: Mapping[str, Any]) -> Node:
    """Return a Node object (as in the API's JSON) in our words. Pure."""
    metadata, spec, status = item["metadata"], item.get("spec") or {}, item.get("status") or {}
    labels = metadata.get("labels") or {}
    conditions = tuple(
        Condition(each["type"], each["status"], each.get("reason") or "", each.get("message") or "")
        for each in status.get("conditions") or ()
    )
    addresses = {each["type"]: each["address"] for each in status.get("addresses") or ()}
    return Node(
        name=metadata["name"],
        pool=labels.get(POOL_LABEL, ""),
        control_plane=CONTROL_PLANE_LABEL in labels,
        version=(status.get("nodeInfo") or {}).get("kubeletVersion", ""),
        ready=any(each.type == "Ready" and each.status == "True" for each in conditions),
        cordoned=bool(spec.get("unschedulable")),
        address=addresses.get("InternalIP", ""),
        conditions=conditions,
    )
