#!/usr/bin/python
# Copyright: the Kubewright authors
# Apache License 2.0 (see LICENSE or https://www.apache.org/licenses/LICENSE-2.0)
"""Restart a control plane's components after their certificates were renewed."""

from __future__ import annotations

DOCUMENTATION = r"""
module: control_plane_restart
short_description: Restart a control plane's components after their certificates were renewed
version_added: 0.1.0
author: The Kubewright authors (@kubewright)
description:
  - If M(kubewright.cluster.certificates) has renewed certificates, restarts the API server,
    the controller manager and the scheduler, which only read them at start, and waits until
    they run and the API server is ready. Run it on one control plane at a time, so that
    the cluster always has an API.
  - etcd reads its certificates for each new connection and is not restarted.
  - The node keeps a record from the renewal until the restart, so that the next run
    finishes an interrupted one.
options:
  address:
    description: The node's own address, where its API server listens.
    type: str
    required: true
  timeout:
    description: Seconds for each of them to be up again.
    type: int
    default: 300
  binary_directory:
    description: Path of crictl.
    type: path
    default: /opt/kubewright/bin
extends_documentation_fragment:
  - kubewright.cluster.fence
attributes:
  check_mode:
    support: full
    description: Predicts whether they would be restarted.
  diff_mode:
    support: full
    description: Names what is restarted.
  idempotent:
    support: full
    description: If nothing was renewed since the last restart, nothing is restarted.
"""

EXAMPLES = r"""
- name: Have the control plane use its new certificates
  kubewright.cluster.control_plane_restart:
    address: 192.0.2.11
"""

RETURN = r"""
restarted:
  description: The components that were restarted.
  type: list
  elements: str
  returned: success
  sample: [kube-apiserver, kube-controller-manager, kube-scheduler]
"""

from pathlib import Path
from typing import Any

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.kubewright.cluster.plugins.module_utils._base import (
    atomic,
    commands,
    limits,
)
from ansible_collections.kubewright.cluster.plugins.module_utils._base.errors import (
    FORESEEN,
    failure,
)
from ansible_collections.kubewright.cluster.plugins.module_utils._fence import fencing
from ansible_collections.kubewright.cluster.plugins.module_utils._kube import (
    client,
    renewal,
    static_pods,
)
from ansible_collections.kubewright.cluster.plugins.module_utils._onnode import certificates


def converge(pods: static_pods.StaticPods, record: Path, check_mode: bool) -> list[str]:
    """Restart what is older than the renewal on *record*; gives what that is."""
    if not record.exists():
        return []
    if not check_mode:
        pods.restart(renewal.renewed_at(record))
        atomic.remove_if_there(record)
        atomic.fsync_directory(record.parent)
    return [static_pods.API_SERVER, *static_pods.OTHERS]


def main() -> None:
    """Restart under the node lock."""
    module = AnsibleModule(
        argument_spec={
            "address": {"type": "str", "required": True},
            "timeout": {"type": "int", "default": 300},
            "binary_directory": {"type": "path", "default": "/opt/kubewright/bin"},
            "epoch": {"type": "int"},
            "run": {"type": "str"},
            "lock_timeout": {"type": "int", "default": 600},
        },
        supports_check_mode=True,
    )
    params: dict[str, Any] = module.params
    try:
        with fencing.node_lock(
            fencing.claim_of(params),
            params["lock_timeout"],
            limit=limits.work("control_plane_restart", params),
            check_mode=module.check_mode,
        ) as fence:
            pods = static_pods.StaticPods(
                commands.SystemRunner(fence.pass_fds),
                Path(params["binary_directory"]),
                params["address"],
                client.CA,
                params["timeout"],
            )
            restarted = converge(pods, certificates.RENEWAL, module.check_mode)
    except FORESEEN as error:
        module.fail_json(**failure(error))
    else:
        module.exit_json(
            changed=bool(restarted),
            restarted=restarted,
            diff={"before": "", "after": "".join(f"{one} restarts\n" for one in restarted)},
        )


if __name__ == "__main__":
    main()
