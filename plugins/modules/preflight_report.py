#!/usr/bin/python
# Copyright: the Kubewright authors
# Apache License 2.0 (see LICENSE or https://www.apache.org/licenses/LICENSE-2.0)
"""All that speaks against the machines of a cluster, in one table."""

from __future__ import annotations

DOCUMENTATION = r"""
module: preflight_report
short_description: Say all that speaks against the machines of a cluster, before anything is written
version_added: 0.1.0
author: The Kubewright authors (@kubewright)
description:
  - Takes what M(kubewright.cluster.node_state) found on each machine, adds what shows only beside
    the others (copies, clocks, packet sizes, other clusters) and who does not answer, and fails
    with a table of it where a finding is fatal. In check mode it never fails.
  - What is fatal for a new node is a warning for one that has joined.
  - A machine that does not answer is left out with a warning where the cluster has begun; until
    then it is fatal, unless O(skip_unreachable) is set and more than half of the control planes
    answer.
  - An action plugin of the same name does it in Ansible's own process. It needs no connection.
options:
  answers:
    description:
      - The registered result of M(kubewright.cluster.node_state) by host; empty for a host whose
        machine is missing. The filter C(kubewright.cluster.answers) collects them.
    type: dict
    required: true
  control_planes:
    description: Which of all hosts are control planes.
    type: list
    elements: str
    default: []
  cluster_name:
    description: Name of the cluster.
    type: str
    default: ""
  cluster_id:
    description: The cluster's id. Empty where nodes of another cluster are not looked for.
    type: str
    default: ""
  state_dir:
    description: Where the id is from, for the message.
    type: str
    default: ""
  begun:
    description: Whether the cluster has been whole once.
    type: bool
    default: false
  nodes:
    description:
      - What M(kubewright.cluster.cluster_inventory) says of each host. Its C(provider) decides how
        a machine that is off is switched on.
    type: dict
    default: {}
  skip_unreachable:
    description: Begin the cluster without the machines that do not answer.
    type: bool
    default: false
  in_no_pool:
    description: Machines of the cluster that no pool has, as entries of C(machines.json).
    type: list
    elements: dict
    default: []
  claimed:
    description: Names of machines that had no cluster's id until this run.
    type: list
    elements: str
    default: []
attributes:
  check_mode:
    support: full
    description: The same findings, and it does not fail.
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
    - What was found, fatal ones first. Each has C(host), C(check), C(severity) (fatal, warning),
      C(text) and C(remedy).
  type: list
  elements: dict
  returned: always
  sample:
    - host: cp-1
      check: swap
      severity: fatal
      text: Swap is on (/dev/sda2).
      remedy: Switch it off with `swapoff -a` and take it out of /etc/fstab.
left_out:
  description: Hosts that did not answer, and what is known of why, by host.
  type: dict
  returned: always
  sample: {web-2: It does not answer at its address (timed out). It is left out.}
incomplete:
  description:
    - Whether any of them is left out without O(skip_unreachable), or answered and failed.
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
        f"{len(fatal)} finding{'s' if len(fatal) > 1 else ''} on {named(refused)} must be "
        "fixed first. Nothing has been changed on any machine."
        if fatal
        else "Nothing here stops the machines from being nodes."
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
