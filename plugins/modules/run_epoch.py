#!/usr/bin/python
# Copyright: the Kubewright authors
# Apache License 2.0 (see LICENSE or https://www.apache.org/licenses/LICENSE-2.0)
"""The epoch of a run, and one run a cluster."""

from __future__ import annotations

DOCUMENTATION = r"""
module: run_epoch
short_description: Take or confirm the epoch of a run
description:
  - Gives the number that all modules of a run take as C(epoch), and the id that they take as
    C(run). The number is higher than that of every earlier run, and nodes refuse a lower one than
    they know. Two controllers that do not share O(path) may come to the same number; of them the
    nodes obey the one that came first.
  - C(kubewright) takes it before it starts a playbook. This module then makes sure that no other
    command has overtaken, and that no node knows a higher one.
  - In a plain run of C(ansible-playbook) it takes the number, and with it the cluster's lock for
    the process of C(ansible-playbook). A process in the background renews it for as long as that
    one runs; where it was stopped for more than 30 seconds, another run may overtake. A run that
    finds another one at work fails and says which.
  - In a job of AWX, which keeps no O(path), the number is at least the job's (C(awx_job_id)), so
    that the later of two jobs has the higher one.
  - Works on the controller alone, in an action plugin of the same name, whatever host it runs for.
version_added: 0.1.0
author: The Kubewright authors (@kubewright)
options:
  path:
    description:
      - The file with the number that was taken last. A relative one is beside the playbook.
      - Its directory is made when it is missing, with mode V(0700).
    type: path
    required: true
  lock:
    description: The lock's file. The file C(lock) beside O(path) when it is not given.
    type: path
  epoch:
    description:
      - What C(kubewright) took for this run. Without it the run takes a number of its own.
    type: int
  run:
    description:
      - What C(kubewright) calls this run. Without it, and without O(epoch), the run takes an id of
        its own.
    type: str
  seen:
    description:
      - C(epoch) and C(run) that each node knows, as C(fence) of M(kubewright.cluster.node_state)
        says.
      - A number that is higher than the run's, or the same of another run, shows that O(path) was
        lost or restored, or that another controller does not use it. The run then goes on with a
        number above it.
    type: list
    elements: dict
    default: []
attributes:
  check_mode:
    description:
      - Says what the number would be, and takes neither number nor lock. Another run at work is no
        obstacle then.
    support: full
  diff_mode:
    description: There is nothing to show.
    support: none
  idempotent:
    description: Within one run the number stays, unless a node knows a higher one.
    support: full
"""

EXAMPLES = r"""
- name: Take the run's number
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
        msg="run_epoch works in its action plugin alone. Call it as kubewright.cluster.run_epoch, "
        "from a collection that is installed whole."
    )


if __name__ == "__main__":
    main()
