#!/usr/bin/python
# Copyright: the Kubewright authors
# Apache License 2.0 (see LICENSE or https://www.apache.org/licenses/LICENSE-2.0)
"""The network of a node's pods."""

from __future__ import annotations

DOCUMENTATION = r"""
module: pod_network
short_description: Keep a node's pod network in line with its Node
version_added: 0.1.0
author: The Kubewright authors (@kubewright)
description:
  - Compares flannel's network and address on this node, and the bridge of its pods, with
    its Node. If they differ, restarts flannel's container and the pods with addresses
    of another network, and recreates the bridge. Does nothing if flannel does not run.
  - If the packet rules of kube-proxy or flannel are missing from nftables, for
    instance after C(nft flush ruleset), restarts their containers, which write them.
options:
  node:
    description: Name of the Node.
    type: str
    required: true
  address:
    description: The node's own IP address, which the other nodes must have for it.
    type: str
    required: true
  timeout:
    description: Seconds that flannel or kube-proxy may take to restart.
    type: int
    default: 120
extends_documentation_fragment:
  - kubewright.cluster.api
  - kubewright.cluster.fence
attributes:
  check_mode:
    support: full
    description: Reports what differs; changes nothing.
  diff_mode:
    support: full
    description: Names what differs.
  idempotent:
    support: full
    description: A network that matches the Node is left alone.
"""

EXAMPLES = r"""
- name: Keep the network of the node's pods
  kubewright.cluster.pod_network:
    node: web-1
    address: 192.0.2.21
    api_servers: [192.0.2.11, 192.0.2.12]
    api_name: api.demo.internal
"""

RETURN = r"""
reasons:
  description: What differed.
  type: list
  elements: str
  returned: success
  sample: ["cni0 has 10.244.3.1, and the Node's pod network is 10.244.7.0/24"]
"""

from collections.abc import Mapping
from typing import Any

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.kubewright.cluster.plugins.module_utils._base import commands, limits
from ansible_collections.kubewright.cluster.plugins.module_utils._base.errors import (
    FORESEEN,
    KubewrightError,
    failure,
)
from ansible_collections.kubewright.cluster.plugins.module_utils._fence import fencing
from ansible_collections.kubewright.cluster.plugins.module_utils._kube import (
    client,
    packet_rules,
    pod_network,
)


def read(api: client.Api, name: str) -> Mapping[str, Any]:
    """The Node."""
    node = api.get(client.node_path(name))
    if node is None:
        raise KubewrightError(f"The cluster has no Node {name}. Run it again.")
    return node


def main() -> None:
    """Compare and repair under the node's lock."""
    module = AnsibleModule(
        argument_spec={
            "node": {"type": "str", "required": True},
            "address": {"type": "str", "required": True},
            "timeout": {"type": "int", "default": 120},
            "api_servers": {"type": "list", "elements": "str", "required": True},
            "api_name": {"type": "str", "required": True},
            "epoch": {"type": "int"},
            "run": {"type": "str"},
            "lock_timeout": {"type": "int", "default": 600},
        },
        supports_check_mode=True,
    )
    params, check_mode = module.params, module.check_mode
    try:
        with (
            fencing.node_lock(
                fencing.claim_of(params),
                params["lock_timeout"],
                limit=limits.work("pod_network", params),
                check_mode=check_mode,
            ) as fence,
            client.as_kubelet(params["api_servers"], params["api_name"]) as api,
        ):
            network = pod_network.PodNetwork(
                commands.SystemRunner(fence.pass_fds),
                lambda: read(api, params["node"]),
                params["address"],
                params["timeout"],
            )
            rules = packet_rules.of(network.run, api, params["timeout"])
            reasons = [*network.converge(check_mode), *rules.converge(check_mode)]
    except FORESEEN as error:
        module.fail_json(**failure(error))
    else:
        diff = {"before": "".join(f"{line}\n" for line in reasons), "after": ""}
        module.exit_json(changed=bool(reasons), reasons=reasons, diff=diff)


if __name__ == "__main__":
    main()
