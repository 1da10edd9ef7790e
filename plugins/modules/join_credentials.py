#!/usr/bin/python
# Copyright: the Kubewright authors
# Apache License 2.0 (see LICENSE or https://www.apache.org/licenses/LICENSE-2.0)
"""Short-lived tokens for nodes to join."""

from __future__ import annotations

DOCUMENTATION = r"""
module: join_credentials
short_description: Create or delete tokens for nodes to join
description:
  - Lets kubeadm create a bootstrap token for each node, which expires after some minutes, or
    deletes tokens. Runs on the control plane that acts for the cluster.
  - B(The result contains the tokens), since the caller needs them. Set C(no_log) on the task that
    creates them and on those that use them.
  - The tokens appear in no command line, file or log of this module.
version_added: 0.1.0
author: The Kubewright authors (@kubewright)
options:
  state:
    description: V(present) creates new tokens each time; V(absent) deletes O(token_ids).
    type: str
    choices: [present, absent]
    default: present
  nodes:
    description: Names of the nodes; each gets its own token. For O(state=present).
    type: list
    elements: str
  ttl_minutes:
    description: Minutes after which a token expires.
    type: int
    default: 15
  token_ids:
    description: The parts of tokens before the dot. They are not secret. For O(state=absent).
    type: list
    elements: str
  kubeadm:
    description: kubeadm on the node.
    type: path
    default: /opt/kubewright/bin/kubeadm
  kubeconfig:
    description: An administrator's kubeconfig on the node.
    type: path
    default: /etc/kubernetes/admin.conf
  timeout:
    description: Seconds that kubeadm may take for one token.
    type: int
    default: 60
extends_documentation_fragment:
  - kubewright.cluster.fence
attributes:
  check_mode:
    description:
      - With O(state=present), returns tokens of zeros, so that a play can continue.
        With O(state=absent), checks whether one of the tokens exists.
    support: full
  diff_mode:
    description: Names the ids of the tokens that are created or deleted.
    support: full
  idempotent:
    description: Each call creates new tokens. Deleting missing tokens changes nothing.
    support: partial
"""

EXAMPLES = r"""
- name: Create tokens for two nodes to join
  kubewright.cluster.join_credentials:
    nodes: [web-1, web-2]
  no_log: true
  register: join

- name: Delete the tokens
  kubewright.cluster.join_credentials:
    state: absent
    token_ids: "{{ join.token_ids }}"
"""

RETURN = r"""
tokens:
  description: The tokens by node; empty with O(state=absent). Secret.
  returned: success
  type: dict
token_ids:
  description: The parts before the dot, needed to delete the tokens; or those that were deleted.
  returned: success
  type: list
  elements: str
  sample: [abcdef]
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
    """Make or delete; gives changed, tokens and token_ids."""
    if params["state"] == "present":
        made = dict.fromkeys(params["nodes"], bootstrap.PLACEHOLDER)
        if not check_mode:
            made = tokens.create_each(params["nodes"], params["ttl_minutes"])
        return {"changed": bool(made), "tokens": made, "token_ids": bootstrap.ids(made.values())}
    take = tokens.exists if check_mode else tokens.delete
    taken = [one for one in params["token_ids"] if take(one)]
    return {"changed": bool(taken), "tokens": {}, "token_ids": taken}


def main() -> None:
    """Make or delete tokens under the actor's node lock."""
    module = AnsibleModule(
        argument_spec={
            "state": {"type": "str", "choices": ["present", "absent"], "default": "present"},
            "nodes": {"type": "list", "elements": "str"},
            "ttl_minutes": {"type": "int", "default": 15},
            "token_ids": {"type": "list", "elements": "str", "no_log": False},
            "kubeadm": {"type": "path", "default": "/opt/kubewright/bin/kubeadm"},
            "kubeconfig": {"type": "path", "default": "/etc/kubernetes/admin.conf"},
            "timeout": {"type": "int", "default": 60},
            "epoch": {"type": "int"},
            "run": {"type": "str"},
            "lock_timeout": {"type": "int", "default": 600},
        },
        required_if=[("state", "present", ["nodes"]), ("state", "absent", ["token_ids"])],
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
        lines = "".join(f"join token {one}\n" for one in result["token_ids"])
        present = params["state"] == "present"
        result["diff"] = {
            "before_header": "join tokens",
            "after_header": "join tokens",
            "before": "" if present else lines,
            "after": lines if present else "",
        }
        module.exit_json(**result)


if __name__ == "__main__":
    main()
