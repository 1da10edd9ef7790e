#!/usr/bin/python
# Copyright: the Kubewright authors
# Apache License 2.0 (see LICENSE or https://www.apache.org/licenses/LICENSE-2.0)
"""Take a node out of the cluster's books."""

from __future__ import annotations

DOCUMENTATION = r"""
module: cluster_member
short_description: Take a node out of the cluster's books
version_added: 0.1.0
author: The Kubewright authors (@kubewright)
description:
  - Removes a node's etcd member and its Node. Runs on another control plane, which acts for the
    cluster.
  - The member is removed first, while it may still be running, so that it never counts as a lost
    vote.
options:
  name:
    description: The Node's name.
    type: str
    required: true
  address:
    description:
      - The node's own IP address. An etcd member that has not begun has no name yet, and is known
        by this one alone.
    type: str
    required: true
  state:
    description: A member can only be taken out here; it comes in by joining.
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
    description: Names the etcd member and the Node that go.
  idempotent:
    support: full
    description: What is not there is not removed.
"""

EXAMPLES = r"""
- name: Forget a control plane that is gone
  kubewright.cluster.cluster_member:
    name: demo-cp-3
    address: 192.0.2.13
  delegate_to: demo-cp-1
"""

RETURN = r"""
removed:
  description: What was removed, in words.
  type: list
  elements: str
  returned: always
  sample: [etcd member demo-cp-3, Node demo-cp-3]
"""

import json
from typing import Any

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.kubewright.cluster.plugins.module_utils import _command, _fence
from ansible_collections.kubewright.cluster.plugins.module_utils._errors import (
    FORESEEN,
    KubewrightError,
    failure,
)

BINARIES = "/opt/kubewright/bin"
PKI = "/etc/kubernetes/pki/etcd"
ETCDCTL = [
    f"{BINARIES}/etcdctl",
    "--endpoints=https://127.0.0.1:2379",
    f"--cacert={PKI}/ca.crt",
    f"--cert={PKI}/server.crt",
    f"--key={PKI}/server.key",
    "--command-timeout=20s",
]
KUBECTL = [
    f"{BINARIES}/kubectl",
    "--kubeconfig=/etc/kubernetes/admin.conf",
    "--request-timeout=30s",
]


def members(run: _command.Runner) -> list[dict[str, Any]]:
    """etcd's members as etcdctl lists them."""
    result = run([*ETCDCTL, "member", "list", "--write-out=json"])
    listed: list[dict[str, Any]] = json.loads(_command.check(result, "List etcd's members").stdout)[
        "members"
    ]
    return listed


def find_etcd_member(run: _command.Runner, name: str, address: str) -> dict[str, Any] | None:
    """The etcd member of the Node `name`, or the one whose peer URL is at `address`, or None.

    kubeadm names a member as its Node; the address may have changed since.
    """
    peer = f"https://{address}:2380"
    listed = members(run)
    found = [member for member in listed if member.get("name") == name]
    found += [member for member in listed if peer in member.get("peerURLs", [])]
    return next(iter(found), None)


def refuse_to_break_quorum(run: _command.Runner, leaving: dict[str, Any]) -> None:
    """Raise when those that stay would be no majority that is healthy; learners don't vote."""
    if leaving.get("isLearner"):
        return
    stay = [
        member
        for member in members(run)
        if member["ID"] != leaving["ID"] and not member.get("isLearner")
    ]
    # Its status says whether all are healthy; what it prints says who is.
    result = run([*ETCDCTL, "endpoint", "health", "--cluster", "--write-out=json"])
    try:
        answers = json.loads(result.stdout)
    except ValueError as error:
        raise _command.CommandFailed("Ask etcd's members for their health", result) from error
    healthy = {answer["endpoint"] for answer in answers if answer.get("health")}
    well = [member for member in stay if healthy.intersection(member.get("clientURLs", []))]
    if len(well) <= len(stay) // 2:
        names = ", ".join(member.get("name") or member["peerURLs"][0] for member in stay)
        raise KubewrightError(
            f"etcd member {leaving.get('name') or leaving['peerURLs'][0]} was not removed: of "
            f"those that stay ({names or 'none'}) {len(well)} of {len(stay)} are healthy, and more "
            "than half must be. Bring the others back first (`kubewright status` tells who), or "
            "reset all nodes of the cluster in one run."
        )


def find_node(run: _command.Runner, name: str) -> bool:
    """Whether a Node of that name exists."""
    result = run([*KUBECTL, "get", "node", name, "--ignore-not-found", "--output=name"])
    return bool(_command.check(result, "Look for the Node").stdout.strip())


def remove(run: _command.Runner, name: str, address: str, check_mode: bool) -> list[str]:
    """Remove member and Node, each if it is there. Returns what went, in words."""
    removed = []
    member = find_etcd_member(run, name, address)
    if member is not None:
        refuse_to_break_quorum(run, member)
        if not check_mode:
            # etcdctl takes the id in hexadecimal and prints it in decimal as JSON.
            result = run([*ETCDCTL, "member", "remove", format(int(member["ID"]), "x")])
            _command.check(result, "Remove the etcd member")
        removed.append(f"etcd member {member.get('name') or member['peerURLs'][0]}")
    if find_node(run, name):
        if not check_mode:
            _command.check(
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
        with _fence.node_lock(
            _fence.claim_of(params), params["lock_timeout"], check_mode=module.check_mode
        ) as fence:
            run = _command.SystemRunner(fence.pass_fds)
            removed = remove(run, params["name"], params["address"], module.check_mode)
    except FORESEEN as error:
        module.fail_json(**failure(error))
    else:
        diff = {"before": "".join(f"{line}\n" for line in removed), "after": ""}
        module.exit_json(changed=bool(removed), removed=removed, diff=diff)


if __name__ == "__main__":
    main()
