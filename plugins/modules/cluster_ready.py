#!/usr/bin/python
# Copyright: the Kubewright authors
# Apache License 2.0 (see LICENSE or https://www.apache.org/licenses/LICENSE-2.0)
"""Wait until the cluster is ready."""

from __future__ import annotations

DOCUMENTATION = r"""
module: cluster_ready
short_description: Wait until nodes are Ready and DNS is available
description:
  - Runs on a control plane. Changes nothing.
version_added: 0.1.0
author: The Kubewright authors (@kubewright)
options:
  nodes:
    description: Names of the nodes that must be Ready.
    type: list
    elements: str
    required: true
  dns:
    description: Whether all DNS pods must be available too.
    type: bool
    default: true
  timeout:
    description: Seconds to wait.
    type: int
    default: 180
extends_documentation_fragment:
  - kubewright.cluster.api
attributes:
  check_mode:
    support: full
    description: Checks once and reports what is missing, without waiting or failing.
  diff_mode:
    support: none
    description: It changes nothing.
  idempotent:
    support: full
    description: It only reads.
"""

EXAMPLES = r"""
- name: Wait for the nodes
  kubewright.cluster.cluster_ready:
    nodes: [web-1, web-2]
    api_servers: [192.0.2.11]
    api_name: api.demo.internal
"""

RETURN = r"""
missing:
  description: What is not ready; always empty except in check mode.
  type: list
  elements: str
  returned: success
"""

import time
from typing import Any

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.kubewright.cluster.plugins.module_utils._base import limits
from ansible_collections.kubewright.cluster.plugins.module_utils._base.errors import (
    FORESEEN,
    KubewrightError,
    failure,
)
from ansible_collections.kubewright.cluster.plugins.module_utils._kube import client

#: Seconds between two looks: a look costs the API server a millisecond.
POLL = 0.5
# A kubelet whose own API server is late reports Ready, then NotReady for a while because it could
# not write its CSINode, then Ready for good. It is done with starting when that object is there.
CSI_NODES = "/apis/storage.k8s.io/v1/csinodes"
DNS = "/apis/apps/v1/namespaces/kube-system/deployments/coredns"


def missing(api: client.Api, nodes: list[str], dns: bool) -> list[str]:
    """What is not ready now, in words."""
    listed = api.request("GET", "/api/v1/nodes")["items"]
    live = {item["metadata"]["name"]: item for item in listed}
    started = {
        item["metadata"]["name"] for item in api.request("GET", CSI_NODES).get("items") or []
    }
    found = [_node_trouble(name, live.get(name), name in started) for name in nodes]
    if dns:
        deployment = api.get(DNS)
        status = (deployment or {}).get("status") or {}
        wanted = ((deployment or {}).get("spec") or {}).get("replicas", 1)
        available = status.get("availableReplicas", 0)
        if available < wanted:
            found.append(f"{available} of {wanted} pods of DNS are available")
    return [text for text in found if text]


def _node_trouble(name: str, item: dict[str, Any] | None, started: bool) -> str:
    if item is None:
        return f"{name} has not registered"
    if client.conditions(item).get("Ready") == "True":
        return "" if started else f"the kubelet of {name} is still starting (it has no CSINode)"
    said = next(
        (
            entry.get("message", "")
            for entry in item["status"].get("conditions") or []
            if entry["type"] == "Ready"
        ),
        "",
    )
    return f"{name} is not Ready" + (f" ({said})" if said else "")


def left(api: client.Api, params: dict[str, Any]) -> list[str]:
    """What is not ready yet, and an API that does not answer is part of that."""
    try:
        return missing(api, params["nodes"], params["dns"])
    except (client.ApiUnreachable, client.ApiError) as error:
        return [str(error)]


def wait(api: client.Api, params: dict[str, Any]) -> None:
    """Return when nothing is missing; `KubewrightError` says what is when time has run out."""
    end = time.monotonic() + params["timeout"]
    while True:
        unready = left(api, params)
        if not unready:
            return
        if time.monotonic() >= end:
            raise KubewrightError(
                f"After {params['timeout']} s the cluster is not ready: {'; '.join(unready)}. "
                "See `kubectl describe node`, and `journalctl -u kubelet` on the node."
            )
        time.sleep(POLL)


def main() -> None:
    """Wait, or look once in check mode."""
    module = AnsibleModule(
        argument_spec={
            "nodes": {"type": "list", "elements": "str", "required": True},
            "dns": {"type": "bool", "default": True},
            "api_servers": {"type": "list", "elements": "str", "required": True},
            "api_name": {"type": "str", "required": True},
            "timeout": {"type": "int", "default": 180},
        },
        supports_check_mode=True,
    )
    params = module.params
    try:
        with (
            limits.ends_within(limits.work("cluster_ready", params)),
            client.as_administrator(params["api_servers"], params["api_name"]) as api,
        ):
            if module.check_mode:
                module.exit_json(changed=False, missing=left(api, params))
            wait(api, params)
    except FORESEEN as error:
        # Where nothing has been started yet, nobody has its credentials.
        if module.check_mode and isinstance(error, KubewrightError):
            module.exit_json(changed=False, missing=[str(error)])
        module.fail_json(**failure(error))
    module.exit_json(changed=False, missing=[])


if __name__ == "__main__":
    main()
