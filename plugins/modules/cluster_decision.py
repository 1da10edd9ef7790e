#!/usr/bin/python
# Copyright: the Kubewright authors
# Apache License 2.0 (see LICENSE or https://www.apache.org/licenses/LICENSE-2.0)
"""What a run does, to which nodes, and in what order."""

from __future__ import annotations

DOCUMENTATION = r"""
module: cluster_decision
short_description: Decide what a run does, to which nodes, and in what order
version_added: 0.1.0
author: The Kubewright authors (@kubewright)
description:
  - Elects the control plane that acts for the cluster, and orders the nodes that need a
    change so that the cluster keeps working. The same input always gives the same decision.
  - New nodes are prepared and joined together. Running nodes are changed in
    waves. First the broken ones, then one control plane at a time, then one node of
    each pool, then all others.
  - Runs as an action plugin in Ansible's own process, without a connection.
options:
  states:
    description: What M(kubewright.cluster.node_state) returned, by the nodes that answered.
    type: dict
    required: true
  groups:
    description: The inventory's groups. Nodes are in C(control_plane) and in C(pool_<name>).
    type: dict
    required: true
  initial_node:
    description: The node recorded to initialize the cluster, if any.
    type: str
    default: ""
  begun:
    description: Whether the cluster is recorded as initialized.
    type: bool
    default: false
  findings:
    description: What M(kubewright.cluster.preflight_report) found.
    type: list
    elements: dict
    default: []
attributes:
  check_mode:
    description:
      - It only decides. In check mode no control plane is elected if none has answered, or
        if a finding is fatal.
    support: full
  diff_mode:
    description: There is nothing to show.
    support: none
  idempotent:
    description: It only decides.
    support: full
"""

EXAMPLES = r"""
- name: Decide what to do
  kubewright.cluster.cluster_decision:
    states: "{{ kubewright_states }}"
    groups: "{{ groups }}"
    begun: true
  register: decision
"""

RETURN = r"""
actor:
  description:
    - The control plane that acts for the cluster. Empty if none was elected, in check mode.
  returned: success
  type: str
touched:
  description: All nodes that need a change.
  returned: success
  type: list
  elements: str
fresh:
  description: Those that are not part of the cluster yet.
  returned: success
  type: list
  elements: str
waves:
  description: The running nodes, in the order in which they are changed; each wave at once.
  returned: success
  type: list
  elements: list
  sample: [[demo-cp-2], [demo-cp-1], [demo-web-1], [demo-web-2, demo-web-3]]
proven:
  description: The nodes that must be healthy before the next wave starts.
  returned: success
  type: list
  elements: str
tries:
  description: The nodes that get another image, and roll back if it does not run.
  returned: success
  type: list
  elements: str
renewing:
  description: The control planes whose certificates must be renewed first.
  returned: success
  type: list
  elements: str
unsettled:
  description: The nodes to check at the end of the run.
  returned: success
  type: list
  elements: str
"""

from dataclasses import asdict
from typing import Any

from ansible_collections.kubewright.cluster.plugins.module_utils._base.findings import FATAL
from ansible_collections.kubewright.cluster.plugins.module_utils._base.standalone import run_module
from ansible_collections.kubewright.cluster.plugins.module_utils._decide.decision import decide
from ansible_collections.kubewright.cluster.plugins.module_utils._decide.election import actor
from ansible_collections.kubewright.cluster.plugins.module_utils._decide.situation import Situation

argument_spec: dict[str, Any] = {
    "states": {"type": "dict", "required": True},
    "groups": {"type": "dict", "required": True},
    "initial_node": {"type": "str", "default": ""},
    "begun": {"type": "bool", "default": False},
    "findings": {"type": "list", "elements": "dict", "default": []},
}


def run(params: dict[str, Any], check_mode: bool) -> dict[str, Any]:
    """Decide; in check mode machines that are missing or off were not asked.

    Nor does it end with an error then, such as that no API server is ready, where a fatal finding
    says already why nothing would be done.
    """
    situation = Situation.of(
        params["states"],
        params["groups"],
        params["initial_node"],
        params["begun"],
        params["findings"],
    )
    refused = any(finding.get("severity") == FATAL for finding in params["findings"])
    nobody = check_mode and (refused or not situation.control_planes)
    acting = "" if nobody else actor(situation)
    return {"changed": False, **asdict(decide(situation, acting))}


def main() -> None:
    """The same as a process of its own; the action plugin does without."""
    run_module(argument_spec, run)


if __name__ == "__main__":
    main()
