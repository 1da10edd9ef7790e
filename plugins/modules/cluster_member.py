#!/usr/bin/python
# Copyright: the Kubewright authors
# Apache License 2.0 (see LICENSE or https://www.apache.org/licenses/LICENSE-2.0)
"""Remove a node's etcd member and Node from the cluster."""

from __future__ import annotations

DOCUMENTATION = r"""
module: cluster_member
short_description: Remove a node's etcd member and Node from the cluster
version_added: 0.1.0
author: The Kubewright authors (@kubewright)
description:
  - Removes a node's etcd member and its Node. Runs on another control plane, which acts for the
    cluster.
  - The member is removed first, while it may still be running, so that it never counts as a
    lost vote.
options:
  name:
    description: The Node's name.
    type: str
    required: true
  address:
    description:
      - The node's own IP address. An etcd member that was never started has no name yet, and is
        only known by this address.
    type: str
    required: true
  state:
    description: A member can only be removed here; it is added by joining.
    type: str
    choices: [absent]
    default: absent
extends_documentation_fragment:
  - kubewright.cluster.fence
attributes:
  check_mode:
    support: full
    description: Predicts what would be removed.
  diff_mode:
    support: full
    description: Names the etcd member and the Node that are removed.
  idempotent:
    support: full
    description: What does not exist is not removed.
"""

EXAMPLES = r"""
- name: Remove a lost control plane from the cluster
  kubewright.cluster.cluster_member:
    name: demo-cp-3
    address: 192.0.2.13
  delegate_to: demo-cp-1
"""

RETURN = r"""
removed:
  description: What was removed.
  type: list
  elements: str
  returned: always
  sample: [etcd member demo-cp-3, Node demo-cp-3]
"""


from ansible.module_utils.basic import AnsibleModule
from ansible_collections.kubewright.cluster.plugins.module_utils._base import commands
from ansible_collections.kubewright.cluster.plugins.module_utils._base.errors import (
    FORESEEN,
    KubewrightError,
    failure,
)
from ansible_collections.kubewright.cluster.plugins.module_utils._fence import fencing
from ansible_collections.kubewright.cluster.plugins.module_utils._kube import etcd

KUBECTL = [
    "/opt/kubewright/bin/kubectl",
    "--kubeconfig=/etc/kubernetes/admin.conf",
    "--request-timeout=30s",
]


def refuse_to_break_quorum(
    run: commands.Runner, leaving: etcd.Member, members: list[etcd.Member]
) -> None:
    """Raise when those that stay would be no majority that is healthy; learners don't vote.

    *members*: all of them.
    """
    if leaving.learner:
        return
    stay = [one for one in members if one.id != leaving.id and not one.learner]
    healthy = etcd.healthy(run)
    well = [member for member in stay if healthy.intersection(member.client_urls)]
    if len(well) < etcd.majority(len(stay)):
        names = ", ".join(member.title for member in stay)
        raise KubewrightError(
            f"etcd member {leaving.title} was not removed: only {len(well)} of the {len(stay)} "
            f"remaining members ({names or 'none'}) are healthy, and more than half must be. "
            "Repair the others first (see `kubewright status`), or reset all nodes of the cluster "
            "in one run."
        )


def find_node(run: commands.Runner, name: str) -> bool:
    """Whether a Node of that name exists."""
    result = run([*KUBECTL, "get", "node", name, "--ignore-not-found", "--output=name"])
    return bool(commands.check(result, "Querying the Node").stdout.strip())


def remove(run: commands.Runner, name: str, address: str, check_mode: bool) -> list[str]:
    """Remove member and Node, each if it is there. Returns what went, in words."""
    removed = []
    members = etcd.members(run)
    member = etcd.find(members, name, address)
    if member is not None:
        refuse_to_break_quorum(run, member, members)
        if not check_mode:
            # etcdctl takes the id in hexadecimal and prints it in decimal as JSON.
            result = run([*etcd.CTL, "member", "remove", format(member.id, "x")])
            commands.check(result, "Remove the etcd member")
        removed.append(f"etcd member {member.title}")
    if find_node(run, name):
        if not check_mode:
            commands.check(
                run([*KUBECTL, "delete", "node", name, "--wait=true"]), "Delete the Node"
            )
        removed.append(f"Node {name}")
    return removed


def main() -> None:
    """Read the parameters, hold the actor's lock, remove."""
    module = AnsibleModule(
        argument_spec={
            "name": {"type": "str", "required": True},
            "address": {"type": "str", "required": True},
            "state": {"type": "str", "choices": ["absent"], "default": "absent"},
            "epoch": {"type": "int"},
            "run": {"type": "str"},
            "lock_timeout": {"type": "int", "default": 600},
        },
        supports_check_mode=True,
    )
    params = module.params
    try:
        with fencing.node_lock(
            fencing.claim_of(params), params["lock_timeout"], check_mode=module.check_mode
        ) as fence:
            run = commands.SystemRunner(fence.pass_fds)
            removed = remove(run, params["name"], params["address"], module.check_mode)
    except FORESEEN as error:
        module.fail_json(**failure(error))
    else:
        diff = {"before": "".join(f"{line}\n" for line in removed), "after": ""}
        module.exit_json(changed=bool(removed), removed=removed, diff=diff)


if __name__ == "__main__":
    main()
