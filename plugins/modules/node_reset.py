#!/usr/bin/python
# Copyright: the Kubewright authors
# Apache License 2.0 (see LICENSE or https://www.apache.org/licenses/LICENSE-2.0)
"""Restore a machine to its state before Kubewright."""

from __future__ import annotations

DOCUMENTATION = r"""
module: node_reset
short_description: Restore a machine to its state before Kubewright
version_added: 0.1.0
author: The Kubewright authors (@kubewright)
description:
  - Stops and removes everything that Kubewright and Kubernetes have put on a
    machine, and restores what the first run recorded. No reboot is needed.
  - Everything else on it is left alone, and a machine that no run has changed is
    not touched.
  - Needs no system image, no container runtime and no working API server. The next reset
    finishes an interrupted one.
  - It does not remove the node from its cluster, see M(kubewright.cluster.cluster_member).
options:
  cluster_id:
    description: The cluster's id. A node of another cluster is refused. Not checked when not given.
    type: str
  state:
    description:
      - The desired state of the node. V(absent) is the machine that it was.
      - V(leaving) is still a node, but marked as incomplete. Set it before removing the
        node from its cluster, so that the run after an interruption joins it again, instead
        of waiting for a Node that does not come back.
    type: str
    choices: [absent, leaving]
    default: absent
extends_documentation_fragment:
  - kubewright.cluster.fence
attributes:
  check_mode:
    description:
      - Predicts what would be removed, except directories that would become empty.
    support: full
  diff_mode:
    description: Lists what is or would be removed.
    support: full
  idempotent:
    description: A machine that is not a node is not changed.
    support: full
"""

EXAMPLES = r"""
- name: Mark it as leaving its cluster
  kubewright.cluster.node_reset:
    state: leaving

- name: Restore the machine
  kubewright.cluster.node_reset:
"""

RETURN = r"""
removed:
  description: What was removed, stopped or restored, in order.
  returned: success
  type: list
  elements: str
  sample: [unit kubelet.service, mount /opt/kubewright, sysctl net/ipv4/ip_forward]
"""

import os
import pwd
import sys
from pathlib import Path

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.kubewright.cluster.plugins.module_utils._base import commands, limits
from ansible_collections.kubewright.cluster.plugins.module_utils._base.errors import (
    FORESEEN,
    KubewrightError,
    failure,
)
from ansible_collections.kubewright.cluster.plugins.module_utils._cluster import claims
from ansible_collections.kubewright.cluster.plugins.module_utils._fence import fencing
from ansible_collections.kubewright.cluster.plugins.module_utils._kube import memberships
from ansible_collections.kubewright.cluster.plugins.module_utils._machine import before
from ansible_collections.kubewright.cluster.plugins.module_utils._reset import steps


def running_from() -> frozenset[str]:
    """Where Ansible has unpacked this very process."""
    return frozenset(
        str(parent) for entry in sys.path for parent in (Path(entry), *Path(entry).parents)
    )


def read_membership(cluster_id: str | None, warnings: list[str]) -> memberships.Membership:
    """What the node is; raises for one of another cluster, and warns of a damaged record."""
    try:
        now = memberships.read_membership()
    except memberships.DamagedRecord as error:
        warnings.append(f"{error} The node was reset all the same.")
        return memberships.Membership("partial")
    if cluster_id and now.cluster_id not in (None, cluster_id):
        raise KubewrightError(
            f"This node belongs to the cluster with id {now.cluster_id}, not to {cluster_id}. "
            "Nothing was changed. Use another machine, or give the id of that cluster."
        )
    return now


def leave(cluster_id: str | None, check_mode: bool, warnings: list[str]) -> bool:
    """Only record that the node is half of one; gives whether that is new."""
    now = read_membership(cluster_id, warnings)
    if not check_mode:
        mark(now)
    return now.phase == "joined"


def mark(now: memberships.Membership) -> None:
    """Record that the node is half of one: where a reset was cut, an apply joins it anew."""
    if now.phase == "joined":
        memberships.write_membership(
            "started", str(now.operation), str(now.role), str(now.cluster_id)
        )


def reset(
    machine: before.Machine, cluster_id: str | None, check_mode: bool, warnings: list[str]
) -> list[str]:
    """Everything, to the last record; gives what went. *warnings* gets what is to be said."""
    now = read_membership(cluster_id, warnings)
    job = steps.Reset(machine, running_from())
    if not check_mode:
        mark(now)
    report = job.converge(check_mode)
    warnings += report.warnings
    if not check_mode:
        job.forget()
    return report.removed


def main() -> None:
    """Hold both of the node's locks, so that no import of images is in progress; reset."""
    module = AnsibleModule(
        argument_spec={
            "cluster_id": {"type": "str"},
            "state": {"type": "str", "choices": ["absent", "leaving"], "default": "absent"},
            "epoch": {"type": "int"},
            "run": {"type": "str"},
            "lock_timeout": {"type": "int", "default": 600},
        },
        supports_check_mode=True,
    )
    params, check_mode = module.params, module.check_mode
    leaves = params["state"] == "leaving"
    changed = False
    removed: list[str] = []
    warnings: list[str] = []
    try:
        # Asked before the fence writes its records.
        is_node = steps.is_node(claims.EPOCH_PATH.parent)
        with (
            fencing.node_lock(
                fencing.claim_of(params),
                params["lock_timeout"],
                limit=limits.work("node_reset", params),
                check_mode=check_mode,
                writes=is_node,
                opens=False,
            ) as fence,
            fencing.node_lock(
                None,
                params["lock_timeout"],
                limit=limits.work("node_reset", params),
                check_mode=check_mode,
                scope="images",
                writes=False,
            ) as images,
        ):
            machine = before.Machine(
                commands.SystemRunner((*fence.pass_fds, *images.pass_fds)),
                home=pwd.getpwuid(os.geteuid()).pw_dir,
            )
            if is_node and leaves:
                changed = leave(params["cluster_id"], check_mode, warnings)
            elif is_node:
                removed = reset(machine, params["cluster_id"], check_mode, warnings)
                changed = bool(removed)
            elif not check_mode:
                steps.remove_locks(machine)
    except FORESEEN as error:
        for text in warnings:
            module.warn(text)
        module.fail_json(**failure(error))
    else:
        for text in warnings:
            module.warn(text)
        diff = {
            "before_header": "what makes this machine a node",
            "after_header": "what makes this machine a node",
            "before": "".join(f"{line}\n" for line in removed),
            "after": "",
        }
        module.exit_json(changed=changed, removed=removed, diff=diff)


if __name__ == "__main__":
    main()
