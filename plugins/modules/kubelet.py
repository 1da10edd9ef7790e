#!/usr/bin/python
# Copyright: the Kubewright authors
# Apache License 2.0 (see LICENSE or https://www.apache.org/licenses/LICENSE-2.0)
"""The kubelet's settings on a node, with which it has to live."""

from __future__ import annotations

DOCUMENTATION = r"""
module: kubelet
short_description: Configure the kubelet, and roll back settings that it fails with
version_added: 0.1.0
author: The Kubewright authors (@kubewright)
description:
  - Writes the files that the kubelet reads, and restarts it if they differ or are newer than
    its start.
  - On a node that has joined a cluster, the kubelet then must stay up, report that it is healthy,
    and report to the API; and its Node must be Ready if it was. If not, the old files are restored,
    the kubelet is restarted with them, and the module fails with the kubelet's own reason.
  - A kubelet in a restart loop is restarted and watched as well.
  - The next run finishes an interrupted one.
options:
  files:
    description: What M(kubewright.cluster.node_files) takes, without secrets.
    type: list
    elements: dict
    default: []
  flags:
    description:
      - Values of flags, by name without dashes, in the file that kubeadm wrote when the node
        joined. Flags that are not listed here are kept.
    type: dict
    default: {}
  started:
    description: Whether to start it if it was stopped.
    type: bool
    default: false
  node:
    description: Name of the Node; without it, the API is not queried.
    type: str
    default: ""
  api_servers:
    description: Addresses of API servers, tried in this order.
    type: list
    elements: str
    default: []
  api_name:
    description: The name in the API servers' certificates.
    type: str
    default: ""
  timeout:
    description: Seconds within which it must be healthy after its start.
    type: int
    default: 120
extends_documentation_fragment:
  - kubewright.cluster.fence
attributes:
  check_mode:
    support: full
    description: Predicts what would be written, and whether it would be restarted.
  diff_mode:
    support: full
    description: Shows each file before and after.
  idempotent:
    support: full
    description: A kubelet that is healthy with its settings is left alone.
"""

EXAMPLES = r"""
- name: Give the kubelet its settings
  kubewright.cluster.kubelet:
    files:
      - path: /etc/kubewright/kubelet.d/10-kubewright.conf
        content: "{{ settings | to_json }}"
    node: web-1
    api_servers: [192.0.2.11, 192.0.2.12]
    api_name: api.demo.internal
"""

RETURN = r"""
paths:
  description: The paths that were written, or would be in check mode.
  type: list
  elements: str
  returned: success
restarted:
  description: Whether the kubelet was started or restarted.
  type: bool
  returned: success
reasons:
  description: Why it was restarted, if not because of changed files.
  type: list
  elements: str
  returned: success
  sample: ["the kubelet has been restarted 9 times in the last minute: unknown flag: --foo"]
"""

from typing import Any

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.kubewright.cluster.plugins.module_utils._base import commands, limits
from ansible_collections.kubewright.cluster.plugins.module_utils._base.errors import (
    FORESEEN,
    failure,
)
from ansible_collections.kubewright.cluster.plugins.module_utils._fence import fencing
from ansible_collections.kubewright.cluster.plugins.module_utils._kube import (
    kubelet,
    kubelet_settings,
    memberships,
)
from ansible_collections.kubewright.cluster.plugins.module_utils._services import systemctl


def converge(params: dict[str, Any], run: commands.Runner, check_mode: bool) -> dict[str, Any]:
    """Write, restart, watch; gives the module's result."""
    joined = memberships.read_membership().phase == "joined"
    entries = kubelet_settings.entries(params["files"], params["flags"] if joined else {})
    watch = kubelet.Watch(
        run,
        name=params["node"],
        api_servers=params["api_servers"],
        api_name=params["api_name"],
        seconds=params["timeout"],
    )
    changed = kubelet_settings.paths(entries)
    services = systemctl.Services(run, params["timeout"], check_mode, frozenset(changed))
    settings = kubelet_settings.Settings(services, watch, joined)
    started = joined and params["started"]
    # Who is told to start it keeps its Node as well.
    again = kubelet.UNREGISTERED if started and not watch.see().registered else ""
    want = kubelet_settings.wanted(entries, started)
    changes, report, reasons = settings.converge(entries, want, again)
    acted = any(report.actions().values())
    return {
        "changed": bool(changes) or acted,
        "paths": changed,
        "restarted": bool(report.started or report.restarted),
        "reasons": reasons,
        "diff": [change.diff() for change in changes],
    }


def main() -> None:
    """Do it under the node's lock, which is held until the kubelet is known to live."""
    module = AnsibleModule(
        argument_spec={
            "files": {"type": "list", "elements": "dict", "default": []},
            "flags": {"type": "dict", "default": {}},
            "started": {"type": "bool", "default": False},
            "node": {"type": "str", "default": ""},
            "api_servers": {"type": "list", "elements": "str", "default": []},
            "api_name": {"type": "str", "default": ""},
            "timeout": {"type": "int", "default": 120},
            "epoch": {"type": "int"},
            "run": {"type": "str"},
            "lock_timeout": {"type": "int", "default": 600},
        },
        supports_check_mode=True,
    )
    params, check_mode = module.params, module.check_mode
    try:
        with fencing.node_lock(
            fencing.claim_of(params),
            params["lock_timeout"],
            limit=limits.work("kubelet", params),
            check_mode=check_mode,
        ) as fence:
            result = converge(params, commands.SystemRunner(fence.pass_fds), check_mode)
    except FORESEEN as error:
        module.fail_json(**failure(error))
    if not module._diff:
        del result["diff"]
    module.exit_json(**result)


if __name__ == "__main__":
    main()
