#!/usr/bin/python
# Copyright: the Kubewright authors
# Apache License 2.0 (see LICENSE or https://www.apache.org/licenses/LICENSE-2.0)
"""What an inventory says of a cluster."""

from __future__ import annotations

DOCUMENTATION = r"""
module: cluster_inventory
short_description: Read what the inventory says of a cluster, and refuse what cannot work
description:
  - Finds the nodes, which are the hosts of the groups C(control_plane) and C(pool_<name>), and
    fills in what a plain inventory leaves out.
  - Refuses, all at once, what no single host can say is wrong. That is an even control plane, names
    that are no DNS labels, addresses that two hosts have or that lie in the cluster's own networks,
    networks that overlap, a version that is no release, a volume that is too small, a check of SSH
    host keys that is switched off.
  - Works on the controller alone, in an action plugin of the same name, whatever host it runs for.
version_added: 0.1.0
author: The Kubewright authors (@kubewright)
options:
  refuse:
    description:
      - Whether to fail for what cannot work. A cluster that is to be removed may be bad.
      - Hosts whose SSH host keys would not be checked are refused all the same, and so is a
        C(kubewright_state_dir) among the extra variables that is no absolute path.
    type: bool
    default: true
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
- name: Read the inventory
  kubewright.cluster.cluster_inventory:
  register: kubewright_inventory
"""

RETURN = r"""
settings:
  description: C(cluster_name), C(version), C(state_dir), C(pod_cidr) and C(service_cidr).
  returned: success
  type: dict
nodes:
  description: Of each node C(provider), C(address), C(port) and C(host_keys), by name.
  returned: success
  type: dict
images:
  description: Digest and path of the system image by role, of those in C(kubewright_image_dir).
  returned: success
  type: dict
problems:
  description: What cannot work, one sentence or more each.
  returned: always
  type: list
  elements: str
"""

from typing import Any

from ansible.module_utils.basic import AnsibleModule

argument_spec: dict[str, Any] = {"refuse": {"type": "bool", "default": True}}


def main() -> None:
    """Refuse: the action plugin does the work and never comes here."""
    module = AnsibleModule(argument_spec=argument_spec, supports_check_mode=True)
    module.fail_json(
        msg="cluster_inventory works in its action plugin alone. Call it as "
        "kubewright.cluster.cluster_inventory, from a collection that is installed whole."
    )


if __name__ == "__main__":
    main()
