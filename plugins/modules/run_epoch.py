#!/usr/bin/python
# Copyright: the Kubewright authors
# Apache License 2.0 (see LICENSE or https://www.apache.org/licenses/LICENSE-2.0)
"""The epoch of a run, and one run a cluster."""

from __future__ import annotations

DOCUMENTATION = r"""
module: run_epoch
short_description: Take or confirm the epoch of a run
description:
  - Returns the number that all modules of a run take as C(epoch), and the id that they
    take as C(run). The number is higher than that of every earlier run, and nodes refuse
    lower ones. Two controllers that do not share O(path) may get the same number; nodes
    then obey the one that came first.
  - C(kubewright) takes the number before it starts a playbook. This module then makes sure that no
    other command has taken over, and that no node knows a higher one.
  - In a plain run of C(ansible-playbook) it takes the number, and the cluster's lock for
    the C(ansible-playbook) process. A background process renews the lock while that process
    runs; if it was stopped for more than 30 seconds, another run may take over. The module
    fails if another run is in progress, and names it.
  - In a job of AWX, which keeps no O(path), the number is at least the job's (C(awx_job_id)), so
    that the later of two jobs has the higher one.
  - Runs as an action plugin on the controller, whatever the host.
version_added: 0.1.0
author: The Kubewright authors (@kubewright)
options:
  path:
    description:
      - The file with the last number taken. A relative path is relative to the playbook.
      - Its directory is created with mode V(0700) if it is missing.
    type: path
    required: true
  lock:
    description: The lock file. By default the file C(lock) next to O(path).
    type: path
  epoch:
    description:
      - Number that C(kubewright) took for this run. Without it, the run takes its own number.
    type: int
  run:
    description:
      - Id that C(kubewright) gave this run. Without it and O(epoch), the run takes
        its own id.
    type: str
  seen:
    description:
      - C(epoch) and C(run) that each node knows, as C(fence) of M(kubewright.cluster.node_state)
        says.
      - If a node knows a higher number than the run's, or the same number of another run, then
        O(path) was lost or restored, or another controller does not use it. The run then continues
        with a higher number.
    type: list
    elements: dict
    default: []
attributes:
  check_mode:
    description:
      - Predicts the number, without taking it or the lock, even if another
        run is in progress.
    support: full
  diff_mode:
    description: There is nothing to show.
    support: none
  idempotent:
    description: Within one run the number stays, unless a node knows a higher one.
    support: full
"""

EXAMPLES = r"""
- name: Take the run's epoch
  kubewright.cluster.run_epoch:
    path: "{{ kubewright_state_dir }}/store.json"
    seen: >-
      {{ groups | kubewright.cluster.nodes | map('extract', hostvars)
         | map(attribute='kubewright_state.fence') }}
  register: kubewright_run
"""

RETURN = r"""
epoch:
  description: The run's number.
  returned: success
  type: int
  sample: 7
run:
  description: The run's id.
  returned: success
  type: str
  sample: 20260102T030405-1a2b3c4d
"""

from typing import Any

from ansible.module_utils.basic import AnsibleModule

argument_spec: dict[str, Any] = {
    "path": {"type": "path", "required": True},
    "lock": {"type": "path"},
    "epoch": {"type": "int"},
    "run": {"type": "str"},
    "seen": {"type": "list", "elements": "dict", "default": []},
}


def main() -> None:
    """Refuse: the action plugin does the work and never comes here."""
    module = AnsibleModule(argument_spec=argument_spec, supports_check_mode=True)
    module.fail_json(
        msg="run_epoch only works through its action plugin. Call it as "
        "kubewright.cluster.run_epoch, "
        "with the complete collection installed."
    )


if __name__ == "__main__":
    main()
