#!/usr/bin/python
# Copyright: the Kubewright authors
# Apache License 2.0 (see LICENSE or https://www.apache.org/licenses/LICENSE-2.0)
"""What an inventory says of a cluster."""

from __future__ import annotations

DOCUMENTATION = r"""
module: cluster_inventory
short_description: Read a cluster's inventory, and refuse what can't work
description:
  - Finds the nodes, which are the hosts of the groups C(control_plane) and C(pool_<name>),
    and fills in what a plain inventory omits.
  - Lists all errors at once that no single host can detect. Among them are an even number of
    control planes, names that are not DNS labels, duplicate addresses or addresses in the
    cluster's own networks, overlapping networks, a version that is not a release, a volume that
    is too small, and disabled SSH host key checks.
  - Runs as an action plugin on the controller, whatever the host.
version_added: 0.1.0
author: The Kubewright authors (@kubewright)
options:
  refuse:
    description:
      - Whether to fail on errors. A cluster that is to be removed may have some.
      - Hosts whose SSH host keys would not be checked are always refused, and so is
        a C(kubewright_state_dir) in the extra variables that is not an absolute path.
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
leaving:
  description: The same of the machines in the group C(leaving), which are no nodes any more.
  returned: success
  type: dict
own:
  description:
    - How to reach your own machines of a C(cluster.yml), for M(kubewright.cluster.machines_file).
  returned: success
  type: list
  elements: dict
images:
  description: Digest and path of the system image by role, of those in C(kubewright_image_dir).
  returned: success
  type: dict
problems:
  description: The errors, each in one or more sentences.
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
        msg="cluster_inventory only works through its action plugin. Call it as "
        "kubewright.cluster.cluster_inventory, with the complete collection installed."
    )


if __name__ == "__main__":
    main()
