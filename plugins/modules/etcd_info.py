#!/usr/bin/python
# Copyright: the Kubewright authors
# Apache License 2.0 (see LICENSE or https://www.apache.org/licenses/LICENSE-2.0)
"""Who etcd's members are, and which of them are healthy."""

from __future__ import annotations

DOCUMENTATION = r"""
module: etcd_info
short_description: List etcd's members and their health
version_added: 0.1.0
author: The Kubewright authors (@kubewright)
description:
  - Runs on a control plane whose etcd runs. Changes nothing, and takes no lock.
  - A member is healthy if it answers a read that needs a quorum of members. Without a quorum
    no member is healthy, or the module fails.
options: {}
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
- name: Query the health of etcd's members
  kubewright.cluster.etcd_info:
  register: etcd
"""

RETURN = r"""
members:
  description:
    - Each member's C(name) (that of its Node; before its first start, its URL), C(addresses),
      whether it is a C(voter), and C(healthy).
  returned: success
  type: list
  elements: dict
  sample: [{name: demo-cp-1, addresses: [192.0.2.11], voter: true, healthy: true}]
"""

from typing import Any

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.kubewright.cluster.plugins.module_utils._base import commands, limits
from ansible_collections.kubewright.cluster.plugins.module_utils._base.errors import (
    FORESEEN,
    failure,
)
from ansible_collections.kubewright.cluster.plugins.module_utils._kube import etcd


def run(command: commands.Runner) -> list[dict[str, Any]]:
    """All members, as the module returns them."""
    listed = etcd.members(command)
    healthy = etcd.healthy(command)
    return [
        {
            "name": member.title,
            "addresses": member.addresses,
            "voter": not member.learner,
            "healthy": bool(healthy.intersection(member.client_urls)),
        }
        for member in listed
    ]


def main() -> None:
    """Ask, and answer."""
    module = AnsibleModule(argument_spec={}, supports_check_mode=True)
    try:
        with limits.ends_within(limits.work("etcd_info", module.params)):
            found = run(commands.SystemRunner())
    except FORESEEN as error:
        module.fail_json(**failure(error))
    else:
        module.exit_json(changed=False, members=found)


if __name__ == "__main__":
    main()
