#!/usr/bin/python
# Copyright: the Kubewright authors
# Apache License 2.0 (see LICENSE or https://www.apache.org/licenses/LICENSE-2.0)
"""Initialize a cluster on this node, join it to one, or remove it from one."""

from __future__ import annotations

DOCUMENTATION = r"""
module: kubeadm
short_description: Initialize a cluster on this node, join it to one, or remove it from one
version_added: 0.1.0
author: The Kubewright authors (@kubewright)
description:
  - Runs C(kubeadm init), C(kubeadm join) or C(kubeadm reset) if the node's own record says
    that it is needed.
  - The next run finishes an interrupted one. An init is run again on top of its leftovers; a
    join is reset first.
  - The CAs of a control plane are among its O(files), which are written before kubeadm runs.
options:
  state:
    description: The desired state of the node.
    type: str
    choices: [initialized, joined, absent]
    required: true
  role:
    description: The node's role in the cluster.
    type: str
    choices: [control_plane, worker]
    required: true
  cluster_id:
    description: The cluster's id. A node of another cluster is refused.
    type: str
    required: true
  node:
    description: Settings of this node for kubeadm. Not needed for O(state=absent).
    type: dict
    suboptions:
      name:
        description: The Node's name.
        type: str
        required: true
      address:
        description: The node's own address, an IP.
        type: str
        required: true
      provider_id:
        description: The machine's id at its provider. It can't be changed later.
        type: str
      labels:
        description: Labels that the node registers with.
        type: dict
        default: {}
      ignore_preflight_errors:
        description: kubeadm's preflight checks to ignore on this machine.
        type: list
        elements: str
        default: []
      patches:
        description: Directory of kubeadm's patches, for O(state=initialized).
        type: path
  documents:
    description:
      - ClusterConfiguration, KubeletConfiguration and KubeProxyConfiguration, for
        O(state=initialized).
    type: list
    elements: dict
    default: []
  files:
    description: Files that kubeadm needs on the node, as in the role's document.
    type: list
    elements: dict
    default: []
  secrets:
    description:
      - Content of the files with C(secret=true), by path. It never appears in logs, diffs or the
        module's result.
    type: dict
    default: {}
  discovery:
    description: How to reach the cluster, for O(state=joined).
    type: dict
    suboptions:
      endpoint:
        description: Host and port of an API server or a load balancer.
        type: str
        required: true
      ca_cert_hash:
        description: Hash of the cluster's CA, as kubeadm prints it.
        type: str
        required: true
  token:
    description:
      - Bootstrap token, for O(state=joined). It is kept in a file that only root can read,
        while kubeadm runs.
    type: str
  timeout:
    description:
      - Time limit of one kubeadm run, in seconds. kubeadm itself waits up to 480 s for a single
        step.
    type: int
    default: 580
  binary_directory:
    description: Directory of kubeadm and kubelet.
    type: path
    default: /opt/kubewright/bin
extends_documentation_fragment:
  - kubewright.cluster.fence
attributes:
  check_mode:
    support: full
    description: Predicts whether kubeadm would run.
  diff_mode:
    support: full
    description: Shows the node's phase before and after.
  idempotent:
    support: full
    description: A node that is in the desired state is not touched.
"""

EXAMPLES = r"""
- name: Join a worker
  kubewright.cluster.kubeadm:
    state: joined
    role: worker
    cluster_id: "{{ cluster_id }}"
    node: {name: web-1, address: 192.0.2.11}
    discovery: {endpoint: "api.demo.internal:7443", ca_cert_hash: "{{ ca_cert_hash }}"}
    token: "{{ credentials.token }}"
  no_log: true
"""

RETURN = r"""
phase:
  description: The node's current state.
  type: str
  returned: always
  sample: joined
"""

import contextlib
import os
import shutil
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.kubewright.cluster.plugins.module_utils._base import commands, limits
from ansible_collections.kubewright.cluster.plugins.module_utils._base.errors import (
    FORESEEN,
    KubewrightError,
    failure,
)
from ansible_collections.kubewright.cluster.plugins.module_utils._cluster import claims
from ansible_collections.kubewright.cluster.plugins.module_utils._fence import fencing
from ansible_collections.kubewright.cluster.plugins.module_utils._files import differences, options
from ansible_collections.kubewright.cluster.plugins.module_utils._kube import (
    kubeadm_config,
    kubelet,
    memberships,
    pod_network,
)
from ansible_collections.kubewright.cluster.plugins.module_utils._machine import before

CONFIGURATION_DIRECTORY = Path("/run/kubewright")
ETCD_DATA = Path("/var/lib/etcd")
LAST_LINES = 25


@contextlib.contextmanager
def configuration_file(content: str) -> Iterator[Path]:
    """A file with kubeadm's configuration, readable by root alone, gone afterwards."""
    CONFIGURATION_DIRECTORY.mkdir(mode=0o700, exist_ok=True)
    path = CONFIGURATION_DIRECTORY / "kubeadm.yaml"
    path.unlink(missing_ok=True)
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    try:
        with os.fdopen(descriptor, "w") as handle:
            handle.write(content)
        yield path
    finally:
        path.unlink(missing_ok=True)


class Kubeadm:
    """The node's kubeadm; it is given the node's lock, which is held until kubeadm has ended."""

    def __init__(self, module: AnsibleModule, fence: fencing.Fence) -> None:
        self.params = module.params
        self.check_mode = module.check_mode
        self.runner = commands.SystemRunner(fence.pass_fds)

    def run(
        self, arguments: list[str], secret_values: list[str], needs_kubelet: bool = True
    ) -> None:
        """Run kubeadm to its end, or to the time limit; a failure carries its last words.

        It would wait for minutes for a kubelet that its settings kill, so that ends it at once
        (*needs_kubelet*).
        """
        began = time.time()
        directory = self.params["binary_directory"]
        command = [
            "env",
            f"PATH={directory}:{commands.ADMIN_PATH}",
            f"{directory}/kubeadm",
            *arguments,
        ]
        timeout = self.params["timeout"]

        def watch() -> None:
            if needs_kubelet:
                self.refuse_dying_kubelet(began)

        result = self.runner(command, timeout=timeout, watch=watch)
        if result.rc != 0:
            watch()
            said = kubeadm_config.without_secrets(
                f"{result.stdout}\n{result.stderr}", secret_values
            )
            raise KubewrightError(
                f"kubeadm {arguments[0]} failed with status {result.rc}. Its last lines:\n"
                + "\n".join(said.strip().splitlines()[-LAST_LINES:])
                + "\nOn the node, see `journalctl -u kubelet` and `crictl "
                "ps -a`. Fix the cause, then run it again."
            )

    def refuse_dying_kubelet(self, since: float) -> None:
        """Raise, with its own reason, where systemd has started the kubelet again and again."""
        unit = kubelet.unit_of(self.runner)
        now, monotonic = time.time(), time.monotonic_ns() // 1000
        if died := kubelet.loop(self.runner, unit, now, monotonic, since):
            raise KubewrightError(
                f"kubeadm was stopped, since {died}. Correct the kubelet's "
                "settings (kubelet_args in cluster.yml), then run it again. See "
                "`journalctl -u kubelet` on the node."
            )

    def restart_kubelet(self) -> None:
        """Restart the kubelet; pods run on."""
        result = self.runner(["systemctl", "restart", "kubelet.service"], timeout=60)
        commands.check(result, "kubelet could not be restarted")


def initialise(kubeadm: Kubeadm, again: bool) -> None:
    """Run kubeadm init, also over the remains of one that was cut."""
    params = kubeadm.params
    token = kubeadm_config.bootstrap_token()
    documents = kubeadm_config.init_documents(params["node"], params["documents"], token, again)
    memberships.write_membership("started", "init", params["role"], params["cluster_id"])
    memberships.lay_kubelet_conf()
    with configuration_file(kubeadm_config.as_yaml(documents)) as path:
        kubeadm.run(["init", "--config", str(path)], [token])
    memberships.write_membership("finished", "init", params["role"], params["cluster_id"])


def join(kubeadm: Kubeadm) -> None:
    """Run kubeadm join on a node that holds nothing of an earlier one."""
    params = kubeadm.params
    documents = kubeadm_config.join_documents(
        params["node"], params["role"], params["discovery"], params["token"]
    )
    memberships.write_membership("started", "join", params["role"], params["cluster_id"])
    memberships.lay_kubelet_conf()
    with configuration_file(kubeadm_config.as_yaml(documents)) as path:
        kubeadm.run(["join", "--config", str(path)], [params["token"]])
    memberships.write_membership("finished", "join", params["role"], params["cluster_id"])
    if params["role"] == "control_plane":
        # Its kubelet has asked this node's own API server since long before that was there, with
        # pauses that have grown to half a minute. Started anew it asks at once.
        kubeadm.restart_kubelet()


def reset(kubeadm: Kubeadm) -> None:
    """Take Kubernetes off this node; its etcd member must be out of the cluster before."""
    socket = kubeadm_config.CRI_SOCKET
    kubeadm.run(
        [
            "reset",
            "--force",
            "--cleanup-tmp-dir",
            "--skip-phases=remove-etcd-member",
            "--cri-socket",
            socket,
        ],
        [],
        needs_kubelet=False,
    )
    pod_network.forget(kubeadm.runner)
    if ETCD_DATA.exists():
        shutil.rmtree(ETCD_DATA)
    memberships.remove_membership()


def converge(kubeadm: Kubeadm) -> tuple[bool, str, str]:
    """Do what is missing. Returns (changed, phase before, phase after)."""
    params = kubeadm.params
    now = memberships.read_membership()
    if now.cluster_id is not None and now.cluster_id != params["cluster_id"]:
        raise memberships.ForeignCluster(
            f"This node belongs to the cluster with id {now.cluster_id}, "
            f"not to {params['cluster_id']}. Reset it first, or use another machine."
        )
    wanted = "none" if params["state"] == "absent" else "joined"
    if now.phase == wanted:
        return False, now.phase, now.phase
    if kubeadm.check_mode:
        return True, now.phase, wanted
    if params["state"] != "absent":
        # Those of modules that were loaded since; the kubelet and kube-proxy change some.
        before.complete(claims.EPOCH_PATH.parent)
        files = options.parse(params["files"], params["secrets"])
        differences.apply(differences.find(files))
    if params["state"] == "absent":
        reset(kubeadm)
    elif params["state"] == "initialized":
        initialise(kubeadm, again=now.phase == "partial")
    elif now.phase == "partial":
        raise KubewrightError(
            "An earlier join of this node was interrupted. Reset it (state: "
            "absent) before it joins again."
        )
    else:
        join(kubeadm)
    return True, now.phase, wanted


def main() -> None:
    """Read the parameters, hold the node's lock, converge."""
    argument_spec: dict[str, Any] = {
        "state": {"type": "str", "choices": ["initialized", "joined", "absent"], "required": True},
        "role": {"type": "str", "choices": ["control_plane", "worker"], "required": True},
        "cluster_id": {"type": "str", "required": True},
        "node": {
            "type": "dict",
            "options": {
                "name": {"type": "str", "required": True},
                "address": {"type": "str", "required": True},
                "provider_id": {"type": "str"},
                "labels": {"type": "dict", "default": {}},
                "ignore_preflight_errors": {"type": "list", "elements": "str", "default": []},
                "patches": {"type": "path"},
            },
        },
        "documents": {"type": "list", "elements": "dict", "default": []},
        "files": {"type": "list", "elements": "dict", "default": []},
        "secrets": {"type": "dict", "default": {}, "no_log": True},
        "discovery": {
            "type": "dict",
            "options": {
                "endpoint": {"type": "str", "required": True},
                "ca_cert_hash": {"type": "str", "required": True},
            },
        },
        "token": {"type": "str", "no_log": True},
        "timeout": {"type": "int", "default": 580},
        "binary_directory": {"type": "path", "default": "/opt/kubewright/bin"},
        "epoch": {"type": "int"},
        "run": {"type": "str"},
        "lock_timeout": {"type": "int", "default": 600},
    }
    module = AnsibleModule(
        argument_spec=argument_spec,
        supports_check_mode=True,
        required_if=[
            ("state", "initialized", ["node", "documents"]),
            ("state", "joined", ["node", "discovery", "token"]),
        ],
    )
    lock_timeout = module.params["lock_timeout"]
    try:
        with fencing.node_lock(
            fencing.claim_of(module.params),
            lock_timeout,
            limit=limits.work("kubeadm", module.params),
            check_mode=module.check_mode,
        ) as fence:
            changed, before, after = converge(Kubeadm(module, fence))
    except FORESEEN as error:
        module.fail_json(**failure(error))
    else:
        diff = {"before": f"phase: {before}\n", "after": f"phase: {after}\n"}
        module.exit_json(changed=changed, phase=before if module.check_mode else after, diff=diff)


if __name__ == "__main__":
    main()
