#!/usr/bin/python
# Copyright: the Kubewright authors
# Apache License 2.0 (see LICENSE or https://www.apache.org/licenses/LICENSE-2.0)
"""Machines of one's own, as entries of machines.json."""

from __future__ import annotations

DOCUMENTATION = r"""
module: static_machines
short_description: List your own machines
description:
  - Returns each machine as an entry of C(machines.json), with its SSH host keys. Runs on
    the controller.
  - Missing keys are looked up in the known_hosts file of the user who runs Ansible, including
    hashed names and CAs that sign host keys (C(@cert-authority)). No machine is ever asked
    for its own key. A machine without keys is listed without, and ssh refuses to log in to it.
  - Runs as an action plugin in Ansible's own process.
version_added: 0.1.0
author: The Kubewright authors (@kubewright)
options:
  cluster:
    description: Name of the cluster.
    type: str
    required: true
  nodes:
    description: The machines.
    type: list
    elements: dict
    required: true
    suboptions:
      name:
        description: Name of the host.
        type: str
        required: true
      address:
        description: Its IPv4 address.
        type: str
        required: true
      port:
        description: SSH port.
        type: int
        default: 22
      host_keys:
        description:
          - Its public host keys. With an empty list they are looked up.
          - C(@cert-authority NAME KEY) stands for signed host keys. C(KEY) is the CA's
            public key, C(NAME) is in the machine's certificate.
          - Without it, nothing is looked up, and ssh checks the host itself.
        type: list
        elements: str
      provider:
        description: Its provider; ignored here.
        type: str
  known_hosts:
    description: Files in known_hosts format. Missing files are skipped.
    type: list
    elements: path
    default:
      - ~/.ssh/known_hosts
      - ~/.ssh/known_hosts2
      - /etc/ssh/ssh_known_hosts
      - /etc/ssh/ssh_known_hosts2
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
- name: List my machines
  kubewright.cluster.static_machines:
    cluster: demo
    nodes:
      - name: alpha
        address: 192.0.2.11
        host_keys: []
"""

RETURN = r"""
machines:
  description: Entries of C(machines.json), in the order of O(nodes).
  returned: success
  type: list
  elements: dict
"""

from pathlib import Path
from typing import Any

from ansible_collections.kubewright.cluster.plugins.module_utils._base.commands import (
    Runner,
    SystemRunner,
)
from ansible_collections.kubewright.cluster.plugins.module_utils._base.standalone import run_module
from ansible_collections.kubewright.cluster.plugins.module_utils._cluster import (
    inventory,
    known_hosts,
)

argument_spec: dict[str, Any] = {
    "cluster": {"type": "str", "required": True},
    "nodes": {
        "type": "list",
        "elements": "dict",
        "required": True,
        "options": {
            "name": {"type": "str", "required": True},
            "address": {"type": "str", "required": True},
            "port": {"type": "int", "default": 22},
            "host_keys": {"type": "list", "elements": "str"},
            "provider": {"type": "str"},
        },
    },
    "known_hosts": {
        "type": "list",
        "elements": "path",
        "default": [
            "~/.ssh/known_hosts",
            "~/.ssh/known_hosts2",
            "/etc/ssh/ssh_known_hosts",
            "/etc/ssh/ssh_known_hosts2",
        ],
    },
}


def run(params: dict[str, Any], check_mode: bool, runner: Runner | None = None) -> dict[str, Any]:
    """Look keys up where they are wanted and not given."""
    files = [Path(path).expanduser() for path in params["known_hosts"]]
    present = [path for path in files if path.is_file()]
    machines = []
    for node in params["nodes"]:
        keys = node["host_keys"]
        if keys == []:
            keys = known_hosts.keys(
                node["address"], node["port"], present, runner or SystemRunner()
            )
        machines.append(
            inventory.static_machine(
                params["cluster"], node["name"], node["address"], keys or ()
            ).as_dict()
        )
    return {"changed": False, "machines": machines}


def main() -> None:
    """The same as a process of its own; the action plugin does without."""
    run_module(argument_spec, run)


if __name__ == "__main__":
    main()
