#!/usr/bin/python
# Copyright: the Kubewright authors
# Apache License 2.0 (see LICENSE or https://www.apache.org/licenses/LICENSE-2.0)
"""What makes a cluster this one: id, authorities, service-account keys, first node."""

from __future__ import annotations

DOCUMENTATION = r"""
module: cluster_identity
short_description: Create and keep a cluster's identity on the controller
description:
  - Creates the cluster's id, CAs and service-account keys before any node is
    started, and reads them from then on. Runs on localhost.
  - Records which node initializes the cluster before it does, so that a crash never results in
    a second cluster, and the cluster can be restored when all its control planes are lost.
  - The directory is either complete or missing. An incomplete one is refused and never repaired.
  - The CAs are named as by kubeadm (C(kubernetes), C(etcd-ca), C(front-proxy-ca)) and
    are valid for ten years. All keys are ECDSA P-256.
  - B(The result contains private keys.) Set C(no_log) on the task.
  - Runs as an action plugin in Ansible's own process. The files are the controller's,
    whatever the host.
version_added: 0.1.0
author: The Kubewright authors (@kubewright)
requirements:
  - cryptography >= 42.0.0 on the controller
options:
  path:
    description: The directory, closed to other users. Its parent is created if it is missing.
    type: path
    required: true
  cluster_name:
    description: Name of the cluster. It cannot be changed later.
    type: str
    required: true
  initial_node:
    description:
      - The node that initializes the cluster. Recorded once; a different one is refused later.
    type: str
  bundle:
    description:
      - A file with the identity, as C(kubewright identity export) prints it. It is unpacked if
        there is no identity yet, so that no new CAs are created. For controllers that keep no
        files, such as AWX, which passes it as a credential.
      - If there is an identity already, it must be the same one. Whether it is initialized,
        and on which node, is then taken over from the file.
      - An identity of another cluster or with other keys is refused, and so is one of an
        uninitialized cluster that names no node to initialize it.
    type: path
  begun:
    description:
      - Whether the cluster is initialized. Recorded once, so that it is never initialized
        again, even if its first node is lost.
    type: bool
    default: false
  fixed:
    description:
      - Settings that can't change later, such as networks, as strings by name. Recorded; once the
        cluster is initialized, other values are refused.
    type: dict
    default: {}
attributes:
  check_mode:
    description:
      - Predicts the change. If there is no identity yet, returns a temporary one, so
        that the rest of a play can be predicted.
    support: full
  diff_mode:
    description: Says what was done, without any key.
    support: full
  idempotent:
    description: An existing identity is only read.
    support: full
"""

EXAMPLES = r"""
- name: Read or create the cluster's identity
  kubewright.cluster.cluster_identity:
    path: "{{ kubewright_state_dir }}/identity"
    cluster_name: "{{ kubewright_cluster_name }}"
  delegate_to: localhost
  no_log: true
  register: identity
"""

RETURN = r"""
cluster_id:
  description: A random UUID.
  returned: success
  type: str
cluster_name:
  description: Name of the cluster.
  returned: success
  type: str
initial_node:
  description: The node that initializes the cluster; empty if none is recorded.
  returned: success
  type: str
begun:
  description: Whether the cluster is initialized.
  returned: success
  type: bool
control_plane_pki:
  description:
    - Text of each file by its path under C(/etc/kubernetes/pki) of a control plane. Secret.
    - C(ca.crt), C(ca.key), C(etcd/ca.crt), C(etcd/ca.key), C(front-proxy-ca.crt),
      C(front-proxy-ca.key), C(sa.key) and C(sa.pub).
  returned: success
  type: dict
ca_certificate:
  description: Certificate of the cluster's CA, PEM.
  returned: success
  type: str
ca_cert_hash:
  description: Hash of its public key, as C(kubeadm join) takes it.
  returned: success
  type: str
  sample: sha256:7c2e69131a36ae2a042a339b33381c6d0d43887e2de83720eff5359e26aec866
"""

from pathlib import Path
from typing import Any

from ansible_collections.kubewright.cluster.plugins.module_utils._base.standalone import run_module
from ansible_collections.kubewright.cluster.plugins.module_utils._cluster import (
    bundle,
    identity_making,
    pki,
)

argument_spec: dict[str, Any] = {
    "path": {"type": "path", "required": True},
    "cluster_name": {"type": "str", "required": True},
    "initial_node": {"type": "str"},
    "bundle": {"type": "path"},
    "begun": {"type": "bool", "default": False},
    "fixed": {"type": "dict", "default": {}},
}


def run(params: dict[str, Any], check_mode: bool) -> dict[str, Any]:
    """Read or make the identity under a lock of its parent directory."""
    pki.require_cryptography()
    path = Path(params["path"])
    outcome = identity_making.ensure(
        path,
        params["cluster_name"],
        params["initial_node"] or "",
        begun=params["begun"],
        fixed={name: str(value) for name, value in params["fixed"].items()},
        brought=bundle.read(Path(params["bundle"])) if params["bundle"] else None,
        check_mode=check_mode,
    )
    certificate = outcome.pki["ca.crt"]
    return {
        "changed": bool(outcome.done),
        "cluster_id": outcome.identity.cluster_id,
        "cluster_name": outcome.identity.cluster_name,
        "initial_node": outcome.identity.initial_node,
        "begun": outcome.identity.begun,
        "control_plane_pki": outcome.pki,
        "ca_certificate": certificate,
        "ca_cert_hash": pki.public_key_hash(certificate),
        "diff": {
            "before_header": str(path),
            "after_header": str(path),
            "before": "",
            "after": "".join(f"{line}\n" for line in outcome.done),
        },
    }


def main() -> None:
    """The same as a process of its own; the action plugin does without."""
    run_module(argument_spec, run)


if __name__ == "__main__":
    main()
