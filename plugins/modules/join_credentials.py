#!/usr/bin/python
# Copyright: the Kubewright authors
# Apache License 2.0 (see LICENSE or https://www.apache.org/licenses/LICENSE-2.0)
"""A short-lived token with which nodes join."""

from __future__ import annotations

DOCUMENTATION = r"""
module: join_credentials
short_description: Create or delete a token for nodes to join
description:
  - Lets kubeadm create a bootstrap token that expires after some minutes, or deletes one. Runs on
    the control plane that acts for the cluster.
  - B(The result contains the token), since the caller needs it. Set C(no_log) on the task that
    creates it and on those that use it.
  - The token appears in no command line, file or log of this module.
version_added: 0.1.0
author: The Kubewright authors (@kubewright)
options:
  state:
    description: V(present) creates a new token each time; V(absent) deletes O(token_id).
    type: str
    choices: [present, absent]
    default: present
  ttl_minutes:
    description: Minutes after which the token expires.
    type: int
    default: 15
  token_id:
    description: The part of a token before the dot. It is not a secret. For O(state=absent).
    type: str
  kubeadm:
    description: kubeadm on the node.
    type: path
    default: /opt/kubewright/bin/kubeadm
  kubeconfig:
    description: An administrator's kubeconfig on the node.
    type: path
    default: /etc/kubernetes/admin.conf
  timeout:
    description: Seconds that kubeadm may take.
    type: int
    default: 60
extends_documentation_fragment:
  - kubewright.cluster.fence
attributes:
  check_mode:
    description:
      - With O(state=present), returns a token of zeros, so that a play can continue.
        With O(state=absent), checks whether the token exists.
    support: full
  diff_mode:
    description: Names the id of the token that is created or deleted.
    support: full
  idempotent:
    description: Each call creates a new token. Deleting a missing token changes nothing.
    support: partial
"""

EXAMPLES = r"""
- name: Create a token for nodes to join
  kubewright.cluster.join_credentials:
  no_log: true
  register: join

- name: Delete the token
  kubewright.cluster.join_credentials:
    state: absent
    token_id: "{{ join.token_id }}"
"""

RETURN = r"""
token:
  description: The token, null with O(state=absent). Secret.
  returned: success
  type: str
token_id:
  description: The part before the dot, needed to delete it.
  returned: success
  type: str
  sample: abcdef
"""

from pathlib import Path
from typing import Any

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.kubewright.cluster.plugins.module_utils._base import commands, limits
from ansible_collections.kubewright.cluster.plugins.module_utils._base.errors import (
    FORESEEN,
    failure,
)
from ansible_collections.kubewright.cluster.plugins.module_utils._fence import fencing
from ansible_collections.kubewright.cluster.plugins.module_utils._kube import bootstrap


def converge(tokens: bootstrap.Tokens, params: dict[str, Any], check_mode: bool) -> dict[str, Any]:
    """Make or delete; gives changed, token and token_id."""
    if params["state"] == "present":
        token = bootstrap.PLACEHOLDER if check_mode else tokens.create(params["ttl_minutes"])
        return {"changed": True, "token": token, "token_id": token.split(".")[0]}
    token_id = params["token_id"]
    changed = tokens.exists(token_id) if check_mode else tokens.delete(token_id)
    return {"changed": changed, "token": None, "token_id": token_id}


def main() -> None:
    """Make or delete a token under the actor's node lock."""
    module = AnsibleModule(
        argument_spec={
            "state": {"type": "str", "choices": ["present", "absent"], "default": "present"},
            "ttl_minutes": {"type": "int", "default": 15},
            "token_id": {"type": "str", "no_log": False},
            "kubeadm": {"type": "path", "default": "/opt/kubewright/bin/kubeadm"},
            "kubeconfig": {"type": "path", "default": "/etc/kubernetes/admin.conf"},
            "timeout": {"type": "int", "default": 60},
            "epoch": {"type": "int"},
            "run": {"type": "str"},
            "lock_timeout": {"type": "int", "default": 600},
        },
        required_if=[("state", "absent", ["token_id"])],
        supports_check_mode=True,
    )
    params, check_mode = module.params, module.check_mode
    try:
        with fencing.node_lock(
            fencing.claim_of(params),
            params["lock_timeout"],
            limit=limits.work("join_credentials", params),
            check_mode=check_mode,
        ) as fence:
            tokens = bootstrap.Tokens(
                Path(params["kubeadm"]),
                Path(params["kubeconfig"]),
                commands.SystemRunner(fence.pass_fds),
                params["timeout"],
            )
            result = converge(tokens, params, check_mode)
    except FORESEEN as error:
        module.fail_json(**failure(error))
    else:
        line = f"join token {result['token_id']}\n" if result["changed"] else ""
        present = params["state"] == "present"
        result["diff"] = {
            "before_header": "join tokens",
            "after_header": "join tokens",
            "before": "" if present else line,
            "after": line if present else "",
        }
        module.exit_json(**result)


if __name__ == "__main__":
    main()
