#!/usr/bin/python
# Copyright: the Kubewright authors
# Apache License 2.0 (see LICENSE or https://www.apache.org/licenses/LICENSE-2.0)
"""Say what a node is, in one call."""

from __future__ import annotations

DOCUMENTATION = r"""
module: node_state
short_description: Report a node's state and its drift from its roles' desired state, in one call
version_added: 0.1.0
author: The Kubewright authors (@kubewright)
description:
  - Reads the machine's facts and the node's join state, and compares files, units,
    kernel settings, images and the Node object with the roles' desired state. Changes nothing.
  - An action plugin of the same name renders the documents of O(roles) on the controller, so that
    each node takes one call.
  - Actual content is compared. For secrets only the SHA-256 is transferred.
  - If it has joined one, reports when its certificates expire, and does not wait
    for an API server that can't serve with them.
  - If it has not joined a cluster, and O(roles) include preflight, the machine is
    checked as well. Such findings are not drift.
  - Waits until a change in progress on the node has finished, so that the result is consistent.
options:
  roles:
    description:
      - Roles of this collection whose C(<role>_desired) is compared, in the order in which
        they would run. Their variables come from the play and the inventory, as for the role.
    type: list
    elements: str
    default: []
  documents:
    description: The desired state, by role. Set by the action plugin.
    type: dict
    default: {}
  address:
    description: The node's own address, where its API server listens if it has one.
    type: str
  api_servers:
    description:
      - Addresses of API servers, to query what only the API knows. The node's own comes first.
    type: list
    elements: str
    default: []
  api_name:
    description: The name in the API servers' certificates.
    type: str
    default: ""
  traffic:
    description:
      - What to check the traffic of this node with; empty for no check. The
        options of M(kubewright.cluster.node_traffic), except its timeout.
    type: dict
    default: {}
  damaged_ok:
    description:
      - Whether to accept a damaged membership record. Its node then counts as one
        whose join to an unknown cluster was interrupted. For a node that is to be reset.
    type: bool
    default: false
  wait_for_api:
    description: Seconds to wait for the API server of a joined control plane.
    type: int
    default: 0
  lock_timeout:
    description: Seconds to wait for a change that is in progress.
    type: int
    default: 600
attributes:
  check_mode:
    support: full
    description: It only reads.
  diff_mode:
    support: full
    description:
      - Shows the files that differ. For a secret it only shows that it differs.
  idempotent:
    support: full
    description: It only reads.
"""

EXAMPLES = r"""
- name: Compare the node with its desired state
  kubewright.cluster.node_state:
    roles: [system_volume, load_balancer, container_runtime]
    address: 192.0.2.11
  register: node
"""

RETURN = r"""
drift:
  description: The differences, by role. Only roles that drifted.
  type: dict
  returned: always
  sample: {container_runtime: [/etc/kubewright/containerd/config.toml has other content]}
unknown:
  description: What could not be checked.
  type: list
  elements: str
  returned: always
findings:
  description:
    - Problems that prevent this machine from becoming a node; on a node that has joined,
      what is without effect on it. Each has
      C(check), C(severity) (fatal, warning), C(text) and C(remedy).
  type: list
  elements: dict
  returned: always
  sample:
    - check: swap
      severity: fatal
      text: Swap is on (/dev/sda2).
      remedy: Turn it off with `swapoff -a` and remove it from /etc/fstab.
traffic:
  description:
    - Traffic problems of a node that has joined a cluster. Each has
      C(text), C(remedy) and C(about), the other nodes concerned.
  type: list
  elements: dict
  returned: always
  sample:
    - text: Cluster DNS (10.96.0.10) does not answer here (no answer within 2 s).
      remedy: "`kubectl -n kube-system get pods -o wide -l k8s-app=kube-dns` shows whether it runs."
      about: []
clock:
  description:
    - How many seconds this machine's clock is ahead of the controller's, at C(least)
      and at C(most), since the query takes some time; and the difference that is C(tolerated).
  type: dict
  returned: always
  sample: {least: -0.4, most: 0.3, tolerated: 1.0}
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
node:
  description: C(ready), C(unschedulable) and C(kubelet) of its Node; empty if unknown.
  type: dict
  returned: always
  sample: {ready: true, unschedulable: false, kubelet: v1.37.2}
certificates:
  description:
    - For a node that has joined, C(due) (whether some must be renewed, or a renewal was
      interrupted), C(serves) (whether an API server and a kubelet can run with them) and a
      C(list) with C(file), C(holder), C(ends), C(due), C(over) and C(text) of each.
  type: dict
  returned: always
  sample: {due: false, serves: true, list: []}
node_missing:
  description: Whether this node has joined, but its Node does not exist.
  type: bool
  returned: always
pod_networks:
  description: Pod networks that this node's pods have addresses in, if it knows them.
  type: list
  elements: str
  returned: always
  sample: [10.244.3.0/24]
api_ready:
  description: Whether this node's own API server is ready.
  type: bool
  returned: always
fence:
  description: C(epoch) and C(run) of the last run that wrote to this node.
  type: dict
  returned: always
  sample: {epoch: 7, run: 20260102T030405-1a2b3c4d}
"""

import os
import time
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.kubewright.cluster.plugins.module_utils._base import commands, limits
from ansible_collections.kubewright.cluster.plugins.module_utils._base.errors import (
    FORESEEN,
    failure,
)
from ansible_collections.kubewright.cluster.plugins.module_utils._check import (
    moved,
    preflight,
    survey,
)
from ansible_collections.kubewright.cluster.plugins.module_utils._drift import drift
from ansible_collections.kubewright.cluster.plugins.module_utils._fence import fencing
from ansible_collections.kubewright.cluster.plugins.module_utils._kube import (
    apiserver,
    kubelet,
    memberships,
)
from ansible_collections.kubewright.cluster.plugins.module_utils._machine import facts
from ansible_collections.kubewright.cluster.plugins.module_utils._onnode import (
    certificates,
    check,
    flannel,
)
from ansible_collections.kubewright.cluster.plugins.module_utils._onnode.traffic import Request

CA = Path("/etc/kubernetes/pki/ca.crt")
NOT_ROOT = "Ansible is not root here, so nothing could be compared"
UNSEEN = {
    "prepared": False,
    "listeners": [],
    "modules": {},
    "disks": [],
    "volume": {},
    "resolver": {"file": "", "missing": False, "empty": False, "loopback": []},
    "leftovers": [],
}


def look(params: dict[str, Any], fence: fencing.Fence) -> dict[str, Any]:
    """Everything about the node, while nobody else changes it."""
    documents = dict(params["documents"])
    desired = documents.pop("preflight", None)
    membership = read_membership(checked=desired is not None, damaged_ok=params["damaged_ok"])
    address = params["address"]
    machine = facts.machine_facts(address=address)
    serves = membership.phase == "joined" and membership.role == "control_plane" and address
    now = datetime.now(timezone.utc)
    own = certificates.of_node() if membership.phase == "joined" else []
    told = certificates.summary(own, now)
    # It will not get ready by waiting.
    seconds = params["wait_for_api"] if told["serves"] else 0
    api_ready = bool(serves) and apiserver.wait_for_api(address, CA, seconds)
    comparison = drift.Comparison(
        commands.SystemRunner(fence.pass_fds),
        membership,
        [
            *([address] if api_ready else []),
            *(one for one in params["api_servers"] if one != address),
        ],
        params["api_name"],
        own,
        now,
    )
    found = comparison.compare(documents)
    traffic = []
    if params["traffic"] and membership.phase == "joined":
        try:
            traffic = check.troubles(Request(**params["traffic"]))
        except OSError as error:
            found.unknown.append(f"whether traffic flows: {error}")
    return {
        "findings": [
            *findings(desired, membership, machine, address),
            *(finding.as_dict() for finding in found.findings),
        ],
        "machine": machine,
        "membership": membership.as_dict(),
        "certificates": told,
        "api_ready": api_ready,
        "fence": fencing.read_claim().as_dict(),
        "drift": found.drift,
        "unknown": found.unknown,
        "node": found.node,
        "node_missing": found.node_missing,
        "pod_networks": flannel.announced(),
        "traffic": [one.as_dict() for one in traffic],
        "diff": found.diffs,
    }


def read_membership(checked: bool, damaged_ok: bool) -> memberships.Membership:
    """The node's record. Where the machine is *checked*, another's kubelet is one of the findings.

    So it is told in one list with all the rest; nothing is written where one of them is fatal.
    *damaged_ok*: see the option.
    """
    try:
        return memberships.read_membership()
    except memberships.ForeignCluster:
        if not checked:
            raise
        return memberships.Membership("none")
    except memberships.DamagedRecord:
        if not damaged_ok:
            raise
        return memberships.Membership("partial")


def findings(
    desired: dict[str, Any] | None,
    membership: memberships.Membership,
    machine: dict[str, Any],
    address: str | None,
) -> list[dict[str, str]]:
    """What speaks against this machine as a node, or against its new address as one that is."""
    if desired and membership.phase == "none":
        return objections(desired, machine, address)
    if membership.phase != "joined":
        return []
    found = moved.judge(membership.role, kubelet.flag("node-ip"), address)
    return [finding.as_dict() for finding in found]


def objections(
    desired: dict[str, Any], machine: dict[str, Any], address: str | None
) -> list[dict[str, str]]:
    """What speaks against this machine as a node. Who is not root sees the half of it."""
    facts: dict[str, Any] = dict(UNSEEN)
    if machine["root"]:
        facts = survey.survey(desired, machine)
    facts["machine"] = machine
    return [finding.as_dict() for finding in preflight.judge(desired, facts, address)]


def main() -> None:
    """Read everything once the node is settled."""
    began = time.time()
    module = AnsibleModule(
        argument_spec={
            "roles": {"type": "list", "elements": "str", "default": []},
            "documents": {"type": "dict", "default": {}},
            "address": {"type": "str"},
            "api_servers": {"type": "list", "elements": "str", "default": []},
            "api_name": {"type": "str", "default": ""},
            "traffic": {"type": "dict", "default": {}},
            "damaged_ok": {"type": "bool", "default": False},
            "wait_for_api": {"type": "int", "default": 0},
            "lock_timeout": {"type": "int", "default": 600},
        },
        supports_check_mode=True,
    )
    params = module.params
    invocation = {"module_args": {**params, "documents": sorted(params["documents"])}}
    # Without root there is no lock to take, and little to see; preflight says so from the facts.
    root = os.geteuid() == 0
    documents = {name: one for name, one in params["documents"].items() if name != "preflight"}
    if not root:
        params["documents"] = {
            name: one for name, one in params["documents"].items() if name == "preflight"
        }
    try:
        with fencing.node_lock(
            None,
            params["lock_timeout"],
            limit=limits.work("node_state", params),
            check_mode=not root,
            writes=False,
        ) as fence:
            result = look(params, fence)
    except FORESEEN as error:
        module.fail_json(**failure(error), invocation=invocation)
    if not root:  # or it would count as it should be
        result["drift"] = {role: [NOT_ROOT] for role in documents}
    if not module._diff:
        del result["diff"]
    # The action plugin compares it with the controller's.
    result["clock"] = {"first": began, "last": time.time()}
    module.exit_json(changed=False, **result, invocation=invocation)


if __name__ == "__main__":
    main()
