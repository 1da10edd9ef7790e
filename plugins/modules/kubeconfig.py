#!/usr/bin/python
# Copyright: the Kubewright authors
# Apache License 2.0 (see LICENSE or https://www.apache.org/licenses/LICENSE-2.0)
"""A kubeconfig on the controller, signed by the cluster's own authority."""

from __future__ import annotations

DOCUMENTATION = r"""
module: kubeconfig
short_description: Keep a kubeconfig for a cluster on the controller
description:
  - Writes a kubeconfig, mode C(0600), with a client certificate signed by the cluster's
    CA. Runs on localhost and contacts no node.
  - The certificate is renewed when less than O(renew_days) remain, or when the CA, the
    user or the groups differ. A different server only changes the file's text.
  - Needs the identity that M(kubewright.cluster.cluster_identity) keeps.
  - Runs as an action plugin in Ansible's own process. The files are the controller's,
    whatever the host.
version_added: 0.1.0
author: The Kubewright authors (@kubewright)
requirements:
  - cryptography >= 42.0.0 on the controller
options:
  path:
    description: Where to write it.
    type: path
    required: true
  identity_path:
    description: Directory of the cluster's identity.
    type: path
    required: true
  cluster_name:
    description: Name of the cluster in the file.
    type: str
    required: true
  server:
    description: URL of an API server or of a load balancer in front of them.
    type: str
    required: true
  tls_server_name:
    description:
      - Name that the server's certificate must have, if it is not the host in O(server).
    type: str
  user:
    description: The certificate's user.
    type: str
    default: kubernetes-admin
  groups:
    description:
      - The user's groups. kubeadm makes the default one an administrator.
    type: list
    elements: str
    default: ["kubeadm:cluster-admins"]
  validity_days:
    description: Days that a new certificate is valid.
    type: int
    default: 365
  renew_days:
    description:
      - The certificate is renewed when fewer days remain, or less than a
        third of O(validity_days) if that is shorter.
    type: int
    default: 30
attributes:
  check_mode:
    description: Predicts whether the file would be written, and writes nothing.
    support: full
  diff_mode:
    description: Shows the file before and after, without the client's certificate and key.
    support: full
  idempotent:
    description: A valid file is not changed.
    support: full
"""

EXAMPLES = r"""
- name: Write the administrator's kubeconfig
  kubewright.cluster.kubeconfig:
    path: "{{ kubewright_state_dir }}/kubeconfig"
    identity_path: "{{ kubewright_state_dir }}/identity"
    cluster_name: demo
    server: https://192.0.2.11:6443
  delegate_to: localhost
"""

RETURN = r"""
path:
  description: The file.
  returned: success
  type: str
expires_at:
  description: When the certificate expires, RFC 3339.
  returned: success
  type: str
  sample: "2027-11-23T08:00:00+00:00"
renewed:
  description: Why a new certificate was created; empty if none was.
  returned: success
  type: str
"""

import datetime
import stat
from pathlib import Path
from typing import Any

from ansible_collections.kubewright.cluster.plugins.module_utils._base import atomic
from ansible_collections.kubewright.cluster.plugins.module_utils._base.errors import (
    FORESEEN,
    KubewrightError,
    message,
)
from ansible_collections.kubewright.cluster.plugins.module_utils._base.standalone import run_module
from ansible_collections.kubewright.cluster.plugins.module_utils._cluster import (
    identity,
    kubeconfig,
    pki,
)

argument_spec: dict[str, Any] = {
    "path": {"type": "path", "required": True},
    "identity_path": {"type": "path", "required": True},
    "cluster_name": {"type": "str", "required": True},
    "server": {"type": "str", "required": True},
    "tls_server_name": {"type": "str"},
    "user": {"type": "str", "default": "kubernetes-admin"},
    "groups": {"type": "list", "elements": "str", "default": ["kubeadm:cluster-admins"]},
    "validity_days": {"type": "int", "default": 365},
    "renew_days": {"type": "int", "default": 30},
}


def run(params: dict[str, Any], check_mode: bool) -> dict[str, Any]:
    """Bring the file about; gives the module's result."""
    try:
        pki.require_cryptography()
        return converge(params, check_mode)
    except FORESEEN as error:
        raise KubewrightError(f"{params['path']} was not written. {message(error)}") from error


def converge(params: dict[str, Any], check_mode: bool) -> dict[str, Any]:
    """Render, compare and write; gives the module's result."""
    path, source = Path(params["path"]), Path(params["identity_path"])
    if check_mode and not source.exists():  # an earlier task of the same run would make it
        return {"changed": True, "path": str(path), "expires_at": None, "renewed": "there was none"}
    _document, files = identity.read(source)
    authority = pki.Pair(files["ca.crt"], files["ca.key"])
    subject = pki.Subject(params["user"], tuple(params["groups"]))
    target = kubeconfig.Target(
        params["cluster_name"],
        params["server"],
        params["tls_server_name"] or "",
        authority.certificate,
        params["user"],
    )
    now = datetime.datetime.now(datetime.timezone.utc)
    before = path.read_text("utf-8", "replace") if path.is_file() else None
    client, renewed = kubeconfig.client_in(before or ""), "there was none"
    if client is not None:
        days_left = min(params["renew_days"], params["validity_days"] / 3)
        renewed = pki.why_renew(client, authority.certificate, subject, now, days_left)
    if client is None or renewed:
        client = pki.make_client(authority, subject, params["validity_days"], now)
    after = kubeconfig.render(target, client)
    open_mode = before is not None and stat.S_IMODE(path.stat().st_mode) != 0o600
    changed = before != after or open_mode
    if changed and not check_mode:
        atomic.make_directories(path.parent)
        atomic.write_file(path, after.encode(), mode=0o600)
    return {
        "changed": changed,
        "path": str(path),
        "expires_at": pki.expires_at(client.certificate).isoformat(),
        "renewed": renewed,
        "diff": {
            "before_header": str(path),
            "after_header": str(path),
            "before": kubeconfig.without_key(before or ""),
            "after": kubeconfig.without_key(after)
            + (f"# new client certificate: {renewed}\n" if renewed else ""),
        },
    }


def main() -> None:
    """The same as a process of its own; the action plugin does without."""
    run_module(argument_spec, run)


if __name__ == "__main__":
    main()
