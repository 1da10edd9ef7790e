#!/usr/bin/python
# Copyright: the Kubewright authors
# Apache License 2.0 (see LICENSE or https://www.apache.org/licenses/LICENSE-2.0)
"""Wait until a node is back after its machine was restarted."""

from __future__ import annotations

DOCUMENTATION = r"""
module: node_up
short_description: Wait until a node is back after its machine was restarted
version_added: 0.1.0
author: The Kubewright authors (@kubewright)
description:
  - Runs on the node once SSH answers again. Changes nothing, and takes no lock.
  - The machine must be in a new boot. On a node that has joined a cluster, the kubelet must run
    and have reported to the API since its start, and its Node must be Ready; on a control plane,
    the API server and the etcd member must be healthy as well.
  - On a machine that has not joined a cluster nothing else is checked.
options:
  boot:
    description:
      - The previous boot, as returned by M(kubewright.cluster.node_claim). Empty if the machine
        did not answer.
    type: str
    default: ""
  node:
    description: Name of the Node.
    type: str
    required: true
  address:
    description: The node's own address, where its API server listens if it has one.
    type: str
    required: true
  timeout:
    description: Time limit in seconds.
    type: int
    default: 300
extends_documentation_fragment:
  - kubewright.cluster.api
attributes:
  check_mode:
    description: It only reads.
    support: full
  diff_mode:
    description: There is nothing to show.
    support: none
  idempotent:
    description: It only reads.
    support: full
"""

EXAMPLES = r"""
- name: Wait until the node is back
  kubewright.cluster.node_up:
    boot: "{{ claimed.boot }}"
    node: demo-cp-1
    address: 192.0.2.11
    api_servers: [192.0.2.11, 192.0.2.12]
    api_name: api.demo.internal
"""

RETURN = r"""
seconds:
  description: How long the module waited.
  returned: success
  type: float
  sample: 21.4
"""

import time
from typing import Any

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.kubewright.cluster.plugins.module_utils._base import commands, limits
from ansible_collections.kubewright.cluster.plugins.module_utils._base.errors import (
    FORESEEN,
    KubewrightError,
    failure,
)
from ansible_collections.kubewright.cluster.plugins.module_utils._cluster import inventory
from ansible_collections.kubewright.cluster.plugins.module_utils._kube import (
    apiserver,
    client,
    etcd,
    kubelet,
    memberships,
)
from ansible_collections.kubewright.cluster.plugins.module_utils._machine import facts

#: Seconds between two looks at etcd.
POLL = 0.5


def run(params: dict[str, Any], command: commands.Runner) -> None:
    """Return when the node is back; `KubewrightError` says what is missing."""
    end = time.monotonic() + params["timeout"]
    if params["boot"] and params["boot"] == facts.boot():
        raise KubewrightError(
            "The machine answers, but was not restarted: it is still in the "
            "same boot. See `last -x` and `journalctl --list-boots` there."
        )
    membership = memberships.read_membership()
    if membership.phase != "joined":
        return
    missing = ""
    if membership.role == inventory.CONTROL_PLANE:
        missing = control_plane_trouble(params, command, end)
    if missing := missing or kubelet_trouble(params, command, end):
        raise KubewrightError(
            f"{params['node']} is not back {params['timeout']} s after its machine came up: "
            f"{missing}. The remaining machines were not touched. See `journalctl -u kubelet` "
            "and `crictl ps -a` there; `kubewright status` shows when it is healthy."
        )


def control_plane_trouble(params: dict[str, Any], command: commands.Runner, end: float) -> str:
    """What its API server or etcd's member still lacks when time has run out; "" for nothing."""
    if not apiserver.wait_for_api(params["address"], client.CA, max(0.0, end - time.monotonic())):
        return "its API server is not ready"
    while True:
        try:
            members = etcd.members(command)
            own = etcd.find(members, params["node"], params["address"])
            if own is None:
                return "etcd has no member for it"
            if etcd.healthy(command).intersection(own.client_urls):
                return ""
            why = "its etcd member is not healthy"
        except commands.CommandFailed as error:
            why = str(error)
        if time.monotonic() >= end:
            return why
        time.sleep(POLL)


def kubelet_trouble(params: dict[str, Any], command: commands.Runner, end: float) -> str:
    """What its kubelet still lacks when time has run out; "" for nothing."""
    watch = kubelet.Watch(
        command,
        name=params["node"],
        api_servers=params["api_servers"],
        api_name=params["api_name"],
        seconds=max(0.0, end - time.monotonic()),
    )
    if trouble := watch.trouble(was_ready=True):
        return trouble
    # One that is well by all that can be known on the node has passed as well.
    return "" if watch.see().ready else "no API server can tell whether its Node is Ready"


def main() -> None:
    """Wait."""
    module = AnsibleModule(
        argument_spec={
            "boot": {"type": "str", "default": ""},
            "node": {"type": "str", "required": True},
            "address": {"type": "str", "required": True},
            "api_servers": {"type": "list", "elements": "str", "required": True},
            "api_name": {"type": "str", "required": True},
            "timeout": {"type": "int", "default": 300},
        },
        supports_check_mode=True,
    )
    began = time.monotonic()
    try:
        with limits.ends_within(limits.work("node_up", module.params)):
            run(module.params, commands.SystemRunner())
    except FORESEEN as error:
        module.fail_json(**failure(error))
    else:
        module.exit_json(changed=False, seconds=round(time.monotonic() - began, 1))


if __name__ == "__main__":
    main()
