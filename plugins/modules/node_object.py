#!/usr/bin/python
# Copyright: the Kubewright authors
# Apache License 2.0 (see LICENSE or https://www.apache.org/licenses/LICENSE-2.0)
"""Labels and taints of this node's Node object."""

from __future__ import annotations

DOCUMENTATION = r"""
module: node_object
short_description: Keep labels and taints of this node's Node object
description:
  - Adds missing labels and taints to the Node object of the node that it runs on. Other
    labels and taints are left alone.
  - A worker uses its kubelet's credentials, a control plane the administrator's.
version_added: 0.1.0
author: The Kubewright authors (@kubewright)
options:
  name:
    description: Name of the Node.
    type: str
    required: true
  labels:
    description: Labels that it must have.
    type: dict
    default: {}
  taints:
    description: Taints that it must have. Only a control plane may set them.
    type: list
    elements: dict
    default: []
    suboptions:
      key:
        description: The taint's key.
        type: str
        required: true
      value:
        description: The taint's value.
        type: str
        default: ""
      effect:
        description: Its effect on pods without a toleration.
        type: str
        choices: [NoSchedule, PreferNoSchedule, NoExecute]
        required: true
  create:
    description:
      - With what to create a missing Node, beside O(labels) and O(taints), so
        that a running kubelet finds it when it registers. Without it, a missing Node is
        an error. Only a control plane may create it.
    type: dict
    suboptions:
      provider_id:
        description: The machine's id at its provider.
        type: str
        default: ""
      pod_networks:
        description:
          - Pod networks of its running pods. If another Node has taken one of them,
            it gets a new one from the cluster.
        type: list
        elements: str
        default: []
extends_documentation_fragment:
  - kubewright.cluster.api
  - kubewright.cluster.fence
attributes:
  check_mode:
    description: Predicts what would be added, and changes nothing.
    support: full
  diff_mode:
    description: Names what is added.
    support: full
  idempotent:
    description: A complete Node is left alone.
    support: full
"""

EXAMPLES = r"""
- name: Keep the node's labels
  kubewright.cluster.node_object:
    name: web-1
    labels: {kubewright.io/pool: web}
    api_servers: [192.0.2.11, 192.0.2.12]
    api_name: api.demo.internal
"""

RETURN = r"""
created:
  description: Whether the Node was created.
  type: bool
  returned: success
reasons:
  description: What the Node lacked.
  type: list
  elements: str
  returned: success
  sample: [label kubewright.io/pool is missing]
"""

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.kubewright.cluster.plugins.module_utils._base.errors import (
    FORESEEN,
    failure,
)
from ansible_collections.kubewright.cluster.plugins.module_utils._fence import fencing
from ansible_collections.kubewright.cluster.plugins.module_utils._kube import own_node


def main() -> None:
    """Compare and patch under the node lock."""
    module = AnsibleModule(
        argument_spec={
            "name": {"type": "str", "required": True},
            "labels": {"type": "dict", "default": {}},
            "taints": {
                "type": "list",
                "elements": "dict",
                "default": [],
                "options": {
                    "key": {"type": "str", "required": True, "no_log": False},
                    "value": {"type": "str", "default": ""},
                    "effect": {
                        "type": "str",
                        "choices": ["NoSchedule", "PreferNoSchedule", "NoExecute"],
                        "required": True,
                    },
                },
            },
            "create": {
                "type": "dict",
                "options": {
                    "provider_id": {"type": "str", "default": ""},
                    "pod_networks": {"type": "list", "elements": "str", "default": []},
                },
            },
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
                fencing.claim_of(params), params["lock_timeout"], check_mode=check_mode
            ),
            own_node.credentials(params["api_servers"], params["api_name"]) as api,
        ):
            reasons = own_node.keep(
                api,
                params["name"],
                params["labels"],
                params["taints"],
                params["create"],
                check_mode,
            )
    except FORESEEN as error:
        module.fail_json(**failure(error))
    else:
        diff = {"before": "".join(f"{line}\n" for line in reasons), "after": ""}
        created = reasons == [own_node.missing(params["name"])]
        module.exit_json(changed=bool(reasons), created=created, reasons=reasons, diff=diff)


if __name__ == "__main__":
    main()
