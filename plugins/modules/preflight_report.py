#!/usr/bin/python
# Copyright: the Kubewright authors
# Apache License 2.0 (see LICENSE or https://www.apache.org/licenses/LICENSE-2.0)
"""All that speaks against the machines of a cluster, in one table."""

from __future__ import annotations

DOCUMENTATION = r"""
module: preflight_report
short_description: List all problems of a cluster's machines before anything is changed
version_added: 0.1.0
author: The Kubewright authors (@kubewright)
description:
  - Takes what M(kubewright.cluster.node_state) found on each machine, adds what only shows in
    comparison (clones, clocks, packet sizes, other clusters) and the machines that do not answer,
    and fails with a table of all problems if one is fatal. In check mode it never fails.
  - What is fatal for a new node is a warning for one that has joined.
  - A machine that does not answer is left out with a warning if the cluster is initialized;
    until then it is fatal, unless O(skip_unreachable) is set and more than half of the control
    planes answer.
  - Runs as an action plugin in Ansible's own process, without a connection.
options:
  answers:
    description:
      - The registered result of M(kubewright.cluster.node_state) by host; empty for a host whose
        machine is missing. The filter C(kubewright.cluster.answers) collects them.
    type: dict
    required: true
  control_planes:
    description: The hosts that are control planes.
    type: list
    elements: str
    default: []
  cluster_name:
    description: Name of the cluster.
    type: str
    default: ""
  cluster_id:
    description: The cluster's id. Empty to skip the check for nodes of other clusters.
    type: str
    default: ""
  state_dir:
    description: Where the id comes from, for the message.
    type: str
    default: ""
  begun:
    description: Whether the cluster is initialized.
    type: bool
    default: false
  nodes:
    description:
      - What M(kubewright.cluster.cluster_inventory) returned for each host. Its C(provider)
        decides how a machine is powered on.
    type: dict
    default: {}
  skip_unreachable:
    description: Initialize the cluster without the machines that do not answer.
    type: bool
    default: false
  in_no_pool:
    description: Machines of the cluster that are in no pool, as entries of C(machines.json).
    type: list
    elements: dict
    default: []
  claimed:
    description: Names of machines that had no cluster id until this run.
    type: list
    elements: str
    default: []
attributes:
  check_mode:
    support: full
    description: Returns the same findings without failing.
  diff_mode:
    support: none
    description: It changes nothing.
  idempotent:
    support: full
    description: It changes nothing.
"""

EXAMPLES = r"""
- name: Refuse machines that cannot be nodes
  kubewright.cluster.preflight_report:
    answers: "{{ hostvars | kubewright.cluster.answers(groups.all) }}"
    control_planes: "{{ groups.control_plane }}"
  register: preflight
"""

RETURN = r"""
findings:
  description:
    - The findings, fatal ones first. Each has C(host), C(check), C(severity) (fatal, warning),
      C(text) and C(remedy).
  type: list
  elements: dict
  returned: always
  sample:
    - host: cp-1
      check: swap
      severity: fatal
      text: Swap is on (/dev/sda2).
      remedy: Turn it off with `swapoff -a` and remove it from /etc/fstab.
left_out:
  description: Hosts that did not answer, with the reason if known, by host.
  type: dict
  returned: always
  sample: {web-2: It does not answer at its address (timed out). It is left out.}
incomplete:
  description:
    - Whether a host was left out without O(skip_unreachable), or answered and failed.
  type: bool
  returned: always
msg:
  description: The table, in lines of text.
  type: str
  returned: when there are findings
"""

from typing import Any

from ansible_collections.kubewright.cluster.plugins.module_utils._base.findings import FATAL, table
from ansible_collections.kubewright.cluster.plugins.module_utils._base.standalone import run_module
from ansible_collections.kubewright.cluster.plugins.module_utils._check.fleet import (
    Fleet,
    examine,
    named,
)

argument_spec: dict[str, Any] = {
    "answers": {"type": "dict", "required": True},
    "control_planes": {"type": "list", "elements": "str", "default": []},
    "cluster_name": {"type": "str", "default": ""},
    "cluster_id": {"type": "str", "default": ""},
    "state_dir": {"type": "str", "default": ""},
    "begun": {"type": "bool", "default": False},
    "nodes": {"type": "dict", "default": {}},
    "skip_unreachable": {"type": "bool", "default": False},
    "in_no_pool": {"type": "list", "elements": "dict", "default": []},
    "claimed": {"type": "list", "elements": "str", "default": []},
}


def run(params: dict[str, Any], check_mode: bool) -> dict[str, Any]:
    """Examine all machines; the result fails where a finding is fatal, but not in check mode."""
    spare = {str(one["name"]): str(one["provider"]) for one in params["in_no_pool"]}
    fleet = Fleet(**{**params, "in_no_pool": spare})
    findings = examine(fleet)
    fatal = [one for one in findings if one["severity"] == FATAL]
    refused = sorted({one["host"] for one in fatal})
    silent: dict[str, str] = {}
    for one in findings:
        if one["host"] in fleet.left_out:
            silent.setdefault(one["host"], one["text"])
    result: dict[str, Any] = {
        "changed": False,
        "findings": findings,
        "left_out": silent,
        "incomplete": fleet.incomplete,
    }
    if not findings:
        return result
    heading = (
        f"{len(fatal)} finding{'s' if len(fatal) > 1 else ''} on {named(refused)} must "
        "be fixed first. No machine was changed."
        if fatal
        else "No problems found."
    )
    return {
        **result,
        "msg": f"{heading}\n\n{table(findings)}",
        "failed": bool(fatal) and not check_mode,
    }


def main() -> None:
    """The same as a process of its own; the action plugin does without."""
    run_module(argument_spec, run)


if __name__ == "__main__":
    main()
