#!/usr/bin/python
# Copyright: the Kubewright authors
# Apache License 2.0 (see LICENSE or https://www.apache.org/licenses/LICENSE-2.0)
"""Let a node's own clients ask the API by an address."""

from __future__ import annotations

DOCUMENTATION = r"""
module: node_endpoint
short_description: Let a node's own clients reach the API by address instead of name
description:
  - For clusters created by an early version, whose kubeconfigs on the nodes used a host
    name from /etc/hosts. Does nothing once that name is not used any more.
  - On a control plane, the cluster's settings for new nodes and kube-proxy are changed first.
    The kubelet is restarted if its own file was changed.
version_added: 0.1.0
author: The Kubewright authors (@kubewright)
options:
  name:
    description: The host name to replace.
    type: str
    required: true
  address:
    description: The address to use instead. The API servers' certificates must contain it.
    type: str
    required: true
  api_servers:
    description: Addresses of API servers, tried in this order.
    type: list
    elements: str
    required: true
extends_documentation_fragment:
  - kubewright.cluster.fence
attributes:
  check_mode:
    support: full
    description: Predicts what would be changed.
  diff_mode:
    support: full
    description: Shows only the files' names, since they contain keys.
  idempotent:
    support: full
    description: Once nothing uses the host name, nothing is changed.
"""

EXAMPLES = r"""
- name: Point the node's own clients at the load balancer's address
  kubewright.cluster.node_endpoint:
    name: api.demo.internal
    address: 127.0.0.1
    api_servers: [192.0.2.11]
"""

RETURN = r"""
reasons:
  description: What used the host name.
  type: list
  elements: str
  returned: success
"""

from typing import Any

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.kubewright.cluster.plugins.module_utils._base import commands
from ansible_collections.kubewright.cluster.plugins.module_utils._base.errors import (
    FORESEEN,
    failure,
)
from ansible_collections.kubewright.cluster.plugins.module_utils._fence import fencing, sealed
from ansible_collections.kubewright.cluster.plugins.module_utils._kube import client, endpoint

UNIT = "kubelet.service"


def converge(params: dict[str, Any], run: commands.Runner, check_mode: bool) -> list[str]:
    """Replace the name wherever it is; gives where it was.

    The kubelet's file is the last: as long as it names the host, a run that was cut is done again.
    """
    name, address = params["name"], params["address"]
    found, there = endpoint.reasons(name), endpoint.by_name(name)
    if check_mode or not there:
        return found
    if client.ADMINISTRATOR.is_file():
        with client.as_administrator(params["api_servers"], name) as api:
            found += endpoint.lead_cluster(api, name, address)
    sealed.open_for_this_process()
    # Stopped meanwhile: one that was not restarted after a cut would go on with the name.
    if kubelet := endpoint.KUBELET in there:
        commands.check(run(["systemctl", "stop", UNIT]), "Stopping the kubelet failed")
    for one in there:
        endpoint.lead(one, name, address)
    if kubelet:
        commands.check(run(["systemctl", "start", UNIT]), "Starting the kubelet failed")
    return found


def main() -> None:
    """Look, and replace under the node's lock."""
    module = AnsibleModule(
        argument_spec={
            "name": {"type": "str", "required": True},
            "address": {"type": "str", "required": True},
            "api_servers": {"type": "list", "elements": "str", "required": True},
            "epoch": {"type": "int"},
            "run": {"type": "str"},
            "lock_timeout": {"type": "int", "default": 600},
        },
        supports_check_mode=True,
    )
    params, check_mode = module.params, module.check_mode
    try:
        with fencing.node_lock(
            fencing.claim_of(params), params["lock_timeout"], check_mode=check_mode
        ) as fence:
            found = converge(params, commands.SystemRunner(fence.pass_fds), check_mode)
    except FORESEEN as error:
        module.fail_json(**failure(error))
    else:
        diff = {"before": "".join(f"{line}\n" for line in found), "after": ""}
        module.exit_json(changed=bool(found), reasons=found, diff=diff)


if __name__ == "__main__":
    main()
