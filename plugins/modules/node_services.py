#!/usr/bin/python
# Copyright: the Kubewright authors
# Apache License 2.0 (see LICENSE or https://www.apache.org/licenses/LICENSE-2.0)
"""systemd units on a node, in one call."""

from __future__ import annotations

DOCUMENTATION = r"""
module: node_services
short_description: Keep systemd units on a node as described
description:
  - Enables, masks, starts, stops and restarts systemd units of any kind (services, mounts,
    timers) in one call. An unchanged list costs one C(systemctl show).
  - Units are handled in the given order. Consecutive units that need the same action share
    one C(systemctl) call, in which C(After=) decides the order.
  - Restarts do not depend on a handler, which a killed run would lose. Each run compares the files
    in O(units[].restart_after) with the start of the unit.
version_added: 0.1.0
author: The Kubewright authors (@kubewright)
options:
  units:
    description: The units, handled in this order.
    type: list
    elements: dict
    required: true
    suboptions:
      name:
        description: Full name with its suffix, such as C(containerd.service).
        type: str
        required: true
      enabled:
        description: Whether it is started at boot. Unchanged if not given.
        type: bool
      state:
        description:
          - Whether it runs now. Unchanged if not given.
          - A missing unit counts as V(stopped), and can't be V(started).
        type: str
        choices: [started, stopped]
      masked:
        description:
          - Whether it is masked. Unchanged if not given, but unmasked
            with O(units[].enabled=true) or O(units[].state=started).
        type: bool
      restart_after:
        description:
          - The unit is restarted if one of these paths was modified after the
            unit was started. Links are not followed, so a changed link
            counts. A directory counts with its subdirectories, when a name in
            them was added or removed. Missing paths are ignored.
          - A stopped unit stays stopped without O(units[].state=started).
        type: list
        elements: path
        default: []
      sysctls:
        description:
          - Kernel settings that the unit sets, by name. It is restarted
            if the kernel has another value. Unknown names are ignored.
        type: dict
        default: {}
      read_only:
        description:
          - Mount points that the unit mounts read-only. It is restarted if
            one of them is writable. Unmounted ones are ignored.
        type: list
        elements: path
        default: []
  changed_paths:
    description:
      - Paths written by an earlier task, as M(kubewright.cluster.node_files) returns
        them. In check mode, where they are not written, they count as newer than every unit.
    type: list
    elements: path
    default: []
  timeout:
    description: Seconds that one call of C(systemctl) may take.
    type: int
    default: 180
extends_documentation_fragment:
  - kubewright.cluster.fence
attributes:
  check_mode:
    description:
      - Predicts what would be done. An unknown unit is predicted to be
        enabled and started, since the same run may write its file.
    support: full
  diff_mode:
    description: Shows enablement and activity of each changed unit before and after.
    support: full
  idempotent:
    description: The same list again changes nothing while no file is newer than its unit.
    support: full
"""

EXAMPLES = r"""
- name: Mount the image and run the container runtime from it
  kubewright.cluster.node_services:
    units:
      - name: opt-kubewright.mount
        enabled: true
        state: started
        restart_after: [/var/lib/kubewright/system/active]
      - name: containerd.service
        enabled: true
        state: started
        restart_after: [/etc/kubewright/containerd/config.toml, /var/lib/kubewright/system/active]
"""

RETURN = r"""
started:
  description: Units that were started.
  returned: success
  type: list
  elements: str
stopped:
  description: Units that were stopped.
  returned: success
  type: list
  elements: str
restarted:
  description: Units that were restarted.
  returned: success
  type: list
  elements: str
  sample: [containerd.service]
enabled:
  description: Units that were enabled.
  returned: success
  type: list
  elements: str
disabled:
  description: Units that were disabled.
  returned: success
  type: list
  elements: str
masked:
  description: Units that were masked.
  returned: success
  type: list
  elements: str
unmasked:
  description: Units that were unmasked.
  returned: success
  type: list
  elements: str
"""

from typing import Any

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.kubewright.cluster.plugins.module_utils._base import commands, limits
from ansible_collections.kubewright.cluster.plugins.module_utils._base.errors import (
    FORESEEN,
    failure,
)
from ansible_collections.kubewright.cluster.plugins.module_utils._cluster import claims
from ansible_collections.kubewright.cluster.plugins.module_utils._fence import fencing
from ansible_collections.kubewright.cluster.plugins.module_utils._machine import before
from ansible_collections.kubewright.cluster.plugins.module_utils._services import systemctl, systemd


def diff(report: systemctl.Report, actions: dict[str, list[str]]) -> list[dict[str, str]]:
    """One entry a changed unit; what was done stands behind the state after."""
    entries = []
    for name, unit in report.before.items():
        done = [verb for verb, names in actions.items() if name in names]
        if done:
            after = report.after.get(name, unit)
            entries.append(
                {
                    "before_header": name,
                    "after_header": name,
                    "before": f"{systemd.describe(unit)}\n",
                    "after": f"{systemd.describe(after)} ({', '.join(done)})\n",
                }
            )
    return entries


def main() -> None:
    """Compare and act under the node lock."""
    module = AnsibleModule(
        argument_spec={
            "units": {
                "type": "list",
                "elements": "dict",
                "required": True,
                "options": {
                    "name": {"type": "str", "required": True},
                    "enabled": {"type": "bool"},
                    "state": {"type": "str", "choices": ["started", "stopped"]},
                    "masked": {"type": "bool"},
                    "restart_after": {"type": "list", "elements": "path", "default": []},
                    "sysctls": {"type": "dict", "default": {}},
                    "read_only": {"type": "list", "elements": "path", "default": []},
                },
            },
            "changed_paths": {"type": "list", "elements": "path", "default": []},
            "timeout": {"type": "int", "default": 180},
            "epoch": {"type": "int"},
            "run": {"type": "str"},
            "lock_timeout": {"type": "int", "default": 600},
        },
        supports_check_mode=True,
    )
    params, check_mode = module.params, module.check_mode
    wanted = [systemd.parse_wanted(unit) for unit in params["units"]]
    if not wanted:
        module.exit_json(changed=False, **systemctl.Report().actions())
    try:
        with fencing.node_lock(
            fencing.claim_of(params),
            params["lock_timeout"],
            limit=limits.work("node_services", params),
            check_mode=check_mode,
        ) as fence:
            runner = commands.SystemRunner(fence.pass_fds)
            changed = frozenset(params["changed_paths"])
            settings = {name for want in wanted for name in want.sysctls}
            if settings and not check_mode:
                before.complete(claims.EPOCH_PATH.parent, settings)
            services = systemctl.Services(runner, params["timeout"], check_mode, changed)
            report = services.converge(wanted)
    except FORESEEN as error:
        module.fail_json(**failure(error))
    actions = report.actions()
    result: dict[str, Any] = {"changed": any(actions.values()), **actions}
    if module._diff:
        result["diff"] = diff(report, actions)
    module.exit_json(**result)


if __name__ == "__main__":
    main()
