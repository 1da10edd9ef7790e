#!/usr/bin/python
# Copyright: the Kubewright authors
# Apache License 2.0 (see LICENSE or https://www.apache.org/licenses/LICENSE-2.0)
"""Say what a node is, in one call."""

from __future__ import annotations

DOCUMENTATION = r"""
module: node_state
short_description: Say what a node is, in one call
version_added: 0.1.0
author: The Kubewright authors (@kubewright)
description:
  - Reads the machine's facts and how far the node came in joining a cluster. Changes nothing.
  - Waits for the end of a change that is under way on the node, so that what it says is settled.
options:
  address:
    description: The node's own address, where its API server listens if it has one.
    type: str
  wait_for_api:
    description: Seconds to wait for the API server of a joined control plane.
    type: int
    default: 0
  lock_timeout:
    description: Seconds to wait for a change that is under way.
    type: int
    default: 600
attributes:
  check_mode:
    support: full
    description: It only reads.
  diff_mode:
    support: none
    description: It changes nothing.
  idempotent:
    support: full
    description: It only reads.
"""

EXAMPLES = r"""
- name: Look at the node
  kubewright.cluster.node_state:
    address: 192.0.2.11
  register: node
"""

RETURN = r"""
machine:
  description: Facts of the machine.
  type: dict
  returned: always
  sample: {architecture: x86_64, cgroup: 2, root: true}
membership:
  description:
    - C(phase) (none, partial, joined), C(operation), C(role) and C(cluster_id) of its record.
  type: dict
  returned: always
  sample: {phase: joined, operation: join, role: worker, cluster_id: 3f0c}
api_ready:
  description: Whether this node's own API server is ready.
  type: bool
  returned: always
epoch:
  description: The newest epoch that wrote to this node.
  type: int
  returned: always
"""

import os
from pathlib import Path

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.kubewright.cluster.plugins.module_utils import _fence, _kubeadm, _node
from ansible_collections.kubewright.cluster.plugins.module_utils._errors import KubewrightError

CA = Path("/etc/kubernetes/pki/ca.crt")


def main() -> None:
    """Read everything once the node is settled."""
    module = AnsibleModule(
        argument_spec={
            "address": {"type": "str"},
            "wait_for_api": {"type": "int", "default": 0},
            "lock_timeout": {"type": "int", "default": 600},
        },
        supports_check_mode=True,
    )
    params = module.params
    # Without root there is no lock to take; preflight says so from what is returned.
    locks = os.geteuid() == 0 and not module.check_mode
    try:
        with _fence.node_lock(None, params["lock_timeout"], check_mode=not locks):
            membership = _kubeadm.read_membership()
            epoch = _fence.read_epoch()
    except KubewrightError as error:
        module.fail_json(msg=str(error))
    serves = (
        membership.phase == "joined" and membership.role == "control_plane" and params["address"]
    )
    module.exit_json(
        changed=False,
        machine=_node.machine_facts(),
        membership=membership.as_dict(),
        api_ready=bool(serves)
        and _node.wait_for_api(params["address"], CA, params["wait_for_api"]),
        epoch=epoch,
    )


if __name__ == "__main__":
    main()
