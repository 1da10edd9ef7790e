#!/usr/bin/python
# Copyright: the Kubewright authors
# Apache License 2.0 (see LICENSE or https://www.apache.org/licenses/LICENSE-2.0)
"""Renew a node's certificates that have expired or soon will."""

from __future__ import annotations

DOCUMENTATION = r"""
module: certificates
short_description: Renew a node's certificates that have expired or soon will
version_added: 0.1.0
author: The Kubewright authors (@kubewright)
description:
  - Renews certificates that expire within 30 days (or within a tenth of their lifetime,
    if that is shorter), have expired, or can't be used.
  - On a control plane C(kubeadm certs renew) renews every certificate that it created there, and
    the kubelet's is signed locally. That needs no API server. Running processes are not touched;
    M(kubewright.cluster.control_plane_restart) makes them use the new certificates.
  - On a worker, the kubelet requests a new certificate from the API with a bootstrap token. Its
    Node is kept, and pods keep running.
  - A self-signed serving certificate of the kubelet is removed, so that the kubelet creates
    a new one.
  - CAs are not renewed.
options:
  role:
    description: The node's role in the cluster.
    type: str
    choices: [control_plane, worker]
    required: true
  name:
    description: The Node's name.
    type: str
    required: true
  address:
    description: The node's own address, for O(role=control_plane).
    type: str
  documents:
    description: kubeadm's documents of the cluster, for O(role=control_plane).
    type: list
    elements: dict
    default: []
  server:
    description: URL of the API for a kubelet without its own kubeconfig, for O(role=worker).
    type: str
  token:
    description:
      - Bootstrap token, for O(role=worker). It is kept in a file that only root can read,
        until the kubelet has its certificate.
    type: str
  controller_time:
    description:
      - The controller's clock, in seconds since 1970. A node whose clock is more than a day
        off is refused, since its certificates would be valid for the wrong time.
    type: float
  timeout:
    description: Seconds for each command, and for the kubelet to have its certificate.
    type: int
    default: 120
  binary_directory:
    description: Path of kubeadm.
    type: path
    default: /opt/kubewright/bin
extends_documentation_fragment:
  - kubewright.cluster.fence
attributes:
  check_mode:
    support: full
    description: Predicts which certificates would be renewed.
  diff_mode:
    support: full
    description: Shows which files are renewed and their old expiry dates, without content.
  idempotent:
    support: full
    description: A node whose certificates are not due for renewal is not touched.
"""

EXAMPLES = r"""
- name: Renew the certificates of a worker
  kubewright.cluster.certificates:
    role: worker
    name: web-1
    server: https://api.demo.internal:7443
    token: "{{ credentials.token }}"
  no_log: true
"""

RETURN = r"""
renewed:
  description: The certificates that were renewed, each with C(file), C(holder), C(ends), C(text).
  type: list
  elements: dict
  returned: success
"""

from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.kubewright.cluster.plugins.module_utils._base import commands, limits
from ansible_collections.kubewright.cluster.plugins.module_utils._base.errors import (
    FORESEEN,
    KubewrightError,
    failure,
)
from ansible_collections.kubewright.cluster.plugins.module_utils._fence import fencing
from ansible_collections.kubewright.cluster.plugins.module_utils._kube import renewal
from ansible_collections.kubewright.cluster.plugins.module_utils._onnode import certificates

CLOCK_OFF = timedelta(days=1)


def refuse_wrong_clock(now: datetime, controller_time: float | None) -> None:
    """Raise `KubewrightError` where this node's clock can't be right."""
    if controller_time is None:
        return
    there = datetime.fromtimestamp(controller_time, timezone.utc)
    if abs(now - there) > CLOCK_OFF:
        raise KubewrightError(
            f"This node's clock says {now:%Y-%m-%d %H:%M}, the controller's {there:%Y-%m-%d %H:%M} "
            "(UTC). New certificates would be valid for the wrong time. Nothing "
            "was changed. Set the wrong clock (`timedatectl set-ntp true`), then run it again."
        )


def converge(
    node: renewal.Node, params: dict[str, Any], now: datetime, check_mode: bool
) -> list[certificates.Certificate]:
    """Renew what is due at *now*; gives what that was."""
    found = certificates.of_node(node.kubernetes, node.kubelet)
    needed = certificates.due(found, now)
    if not needed:
        return []
    refuse_wrong_clock(now, params["controller_time"])
    if check_mode:
        return needed
    names = {one.name for one in needed}
    control_plane = params["role"] == "control_plane"
    told = renewal.configuration(node.name, params["address"] or "", params["documents"])
    if names & set(certificates.OF_KUBEADM):
        renewal.renew_kubeadms(node, told)
    if certificates.KUBELET_SERVER in names:
        renewal.forget_kubelets_server(node)
    if certificates.KUBELET_CLIENT not in names:
        if certificates.KUBELET_SERVER in names:
            node.restart_kubelet()
    elif control_plane:
        renewal.sign_kubelets(node, told)
        node.restart_kubelet()
    else:
        renewal.bootstrap_kubelet(node, params["server"], params["token"])
    return needed


def main() -> None:
    """Renew under the node lock."""
    module = AnsibleModule(
        argument_spec={
            "role": {"type": "str", "choices": ["control_plane", "worker"], "required": True},
            "name": {"type": "str", "required": True},
            "address": {"type": "str"},
            "documents": {"type": "list", "elements": "dict", "default": []},
            "server": {"type": "str"},
            "token": {"type": "str", "no_log": True},
            "controller_time": {"type": "float"},
            "timeout": {"type": "int", "default": 120},
            "binary_directory": {"type": "path", "default": "/opt/kubewright/bin"},
            "epoch": {"type": "int"},
            "run": {"type": "str"},
            "lock_timeout": {"type": "int", "default": 600},
        },
        required_if=[
            ("role", "control_plane", ["address"]),
            ("role", "worker", ["server", "token"]),
        ],
        supports_check_mode=True,
    )
    params, check_mode = module.params, module.check_mode
    now = datetime.now(timezone.utc)
    try:
        with fencing.node_lock(
            fencing.claim_of(params),
            params["lock_timeout"],
            limit=limits.work("certificates", params),
            check_mode=check_mode,
        ) as fence:
            node = renewal.Node(
                params["name"],
                commands.SystemRunner(fence.pass_fds),
                Path(params["binary_directory"]),
                params["timeout"],
            )
            renewed = converge(node, params, now, check_mode)
    except FORESEEN as error:
        module.fail_json(**failure(error))
    else:
        module.exit_json(
            changed=bool(renewed),
            renewed=[one.as_dict(now) for one in renewed],
            diff={
                "before_header": "certificates",
                "after_header": "certificates",
                "before": "".join(f"{one.path} {one.state(now)}\n" for one in renewed),
                "after": "".join(f"{one.path} is renewed\n" for one in renewed),
            },
        )


if __name__ == "__main__":
    main()
