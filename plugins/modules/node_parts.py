#!/usr/bin/python
# Copyright: the Kubewright authors
# Apache License 2.0 (see LICENSE or https://www.apache.org/licenses/LICENSE-2.0)
"""The parts of a node as its roles desire them, in one call."""

from __future__ import annotations

DOCUMENTATION = r"""
module: node_parts
short_description: Converge the components of a node to what its roles desire, in one call
version_added: 0.1.0
author: The Kubewright authors (@kubewright)
description:
  - Takes the documents of several roles, which M(kubewright.cluster.node_state) compares, and
    applies them in order. They describe the system volume, files, the system image, systemd units,
    the API endpoint of the node's own clients, container images, the kubelet's settings, and the
    Node object with its pod network.
  - Compares the actual bytes of files each time. Each file is written to a temporary file, synced
    to disk and renamed. A killed run leaves each file either old or new, and the next run finishes.
  - Restarts do not depend on a handler, which a killed run would lose. Each run compares the files
    that a unit reads with the unit's start.
  - On a node that has joined a cluster, the kubelet must stay up and healthy with new settings. If
    not, the old ones are restored, and the module fails with the kubelet's own reason.
  - An action plugin of the same name renders the documents of O(roles) on the controller, and sends
    the system image between two calls if the node lacks it.
options:
  roles:
    description:
      - Roles of this collection whose C(<role>_desired) to apply, in this order. Their variables
        are taken from the play and the inventory, as for the role.
    type: list
    elements: str
    default: []
  documents:
    description:
      - What the roles desire, by role. Set by the action plugin for O(roles), or given directly.
      - A document is a mapping of sections. C(plugins/module_utils/_parts/parts.py) has their list.
    type: dict
    default: {}
  secrets:
    description:
      - Content of the files with C(secret=true) in the documents, by path. Set by the action
        plugin.
      - It travels as the module's input. With pipelining on it is never written to a temporary
        file on the node. It never appears in logs, diffs or the module's result.
    type: dict
    default: {}
  transfer:
    description: Size and owner of the system image that the action plugin sends.
    type: dict
    default: {}
  node:
    description: Name of the Node; without it, the API is not queried.
    type: str
    default: ""
  api_servers:
    description: Addresses of API servers, tried in this order.
    type: list
    elements: str
    default: []
  api_name:
    description: The name in the API servers' certificates.
    type: str
    default: ""
extends_documentation_fragment:
  - kubewright.cluster.fence
attributes:
  check_mode:
    description: Predicts what would be done.
    support: full
  diff_mode:
    description: Shows files, units and images before and after. Of a secret, only that it differs.
    support: full
  idempotent:
    description: A node that is as desired is left alone.
    support: full
"""

EXAMPLES = r"""
- name: Converge the load balancer and the container runtime
  kubewright.cluster.node_parts:
    roles: [load_balancer, container_runtime]
    node: "{{ inventory_hostname }}"
    api_servers: [192.0.2.11, 192.0.2.12]
    api_name: api.demo.internal

- name: Mount the active image
  kubewright.cluster.node_parts:
    documents:
      system_volume:
        units:
          - name: opt-kubewright.mount
            state: started
            restart_after: [/var/lib/kubewright/system/active]
"""

RETURN = r"""
parts:
  description: What was done, or would be in check mode, by role.
  returned: success, and if a component failed
  type: dict
  sample: {container_runtime: [/etc/crictl.yaml is missing, containerd.service (started)]}
"""

from typing import Any

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.kubewright.cluster.plugins.module_utils._base import commands, limits
from ansible_collections.kubewright.cluster.plugins.module_utils._base.errors import (
    FORESEEN,
    failure,
)
from ansible_collections.kubewright.cluster.plugins.module_utils._fence import fencing
from ansible_collections.kubewright.cluster.plugins.module_utils._parts.parts import (
    Cluster,
    ImageAwaited,
    Parts,
)


def outcome(module: AnsibleModule, parts: Parts) -> dict[str, Any]:
    """What was done; of the options which parts were meant, not what is in them."""
    hidden = {name: sorted(module.params[name]) for name in ("documents", "secrets")}
    return {
        "changed": bool(parts.done),
        "parts": parts.done,
        "invocation": {"module_args": {**module.params, **hidden}},
        **({"diff": parts.diffs} if module._diff else {}),
    }


def main() -> None:
    """Compare and make under the node's lock."""
    module = AnsibleModule(
        argument_spec={
            "roles": {"type": "list", "elements": "str", "default": []},
            "documents": {"type": "dict", "default": {}},
            "secrets": {"type": "dict", "default": {}, "no_log": True},
            "transfer": {"type": "dict", "default": {}},
            "node": {"type": "str", "default": ""},
            "api_servers": {"type": "list", "elements": "str", "default": []},
            "api_name": {"type": "str", "default": ""},
            "epoch": {"type": "int"},
            "run": {"type": "str"},
            "lock_timeout": {"type": "int", "default": 600},
        },
        supports_check_mode=True,
    )
    params, check_mode = module.params, module.check_mode
    parts = Parts(
        commands.SystemRunner(),
        Cluster(params["node"], params["api_servers"], params["api_name"]),
        params["secrets"],
        params["transfer"],
        check_mode,
    )
    awaited: dict[str, Any] = {}
    try:
        with fencing.node_lock(
            fencing.claim_of(params),
            params["lock_timeout"],
            limit=limits.work("node_parts", params),
            check_mode=check_mode,
        ) as fence:
            parts.run = commands.SystemRunner(fence.pass_fds)
            parts.converge(params["documents"])
    except ImageAwaited as image:
        awaited = image.told
    except FORESEEN as error:
        # What was done before stays done.
        module.fail_json(**failure(error), **outcome(module, parts))
    module.exit_json(**awaited, **outcome(module, parts))


if __name__ == "__main__":
    main()
