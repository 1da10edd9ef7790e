#!/usr/bin/python
# Copyright: the Kubewright authors
# Apache License 2.0 (see LICENSE or https://www.apache.org/licenses/LICENSE-2.0)
"""Claim a node for a run that is about to stop or restart its machine."""

from __future__ import annotations

DOCUMENTATION = r"""
module: node_claim
short_description: Claim a node for a run that is about to stop or restart its machine
version_added: 0.1.0
author: The Kubewright authors (@kubewright)
description:
  - Waits until no other process is changing the node, and records the run there, so
    that older runs are refused. Needed by anything that acts on the machine from outside.
  - A machine that no run has ever changed is left alone.
options: {}
extends_documentation_fragment:
  - kubewright.cluster.fence
attributes:
  check_mode:
    description: Nothing is recorded; an outdated run is refused all the same.
    support: full
  diff_mode:
    description: Shows the node's previous and new owner.
    support: full
  idempotent:
    description: A node that the run already owns is not changed.
    support: full
"""

EXAMPLES = r"""
- name: Claim the node
  kubewright.cluster.node_claim:
    epoch: 7
    run: 20260102T030405-1a2b3c4d
  register: claimed
"""

RETURN = r"""
boot:
  description: Id of the machine's current boot.
  returned: success
  type: str
  sample: 0b7c1e9e-6b7f-4a43-8d2d-0f3c6a0b8a11 12
"""

from typing import Any

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.kubewright.cluster.plugins.module_utils._base.errors import (
    FORESEEN,
    failure,
)
from ansible_collections.kubewright.cluster.plugins.module_utils._cluster import claims
from ansible_collections.kubewright.cluster.plugins.module_utils._cluster.claims import Claim
from ansible_collections.kubewright.cluster.plugins.module_utils._fence import fencing
from ansible_collections.kubewright.cluster.plugins.module_utils._machine import facts


def told(claim: Claim) -> str:
    """For a diff: nothing where nobody has the node."""
    return f"{claim}\n" if claim.epoch else ""


def main() -> None:
    """Hold the lock for the moment that it takes to record the run."""
    module = AnsibleModule(
        argument_spec={
            "epoch": {"type": "int"},
            "run": {"type": "str"},
            "lock_timeout": {"type": "int", "default": 600},
        },
        supports_check_mode=True,
    )
    params: dict[str, Any] = module.params
    try:
        claim = fencing.claim_of(params)
        before = fencing.read_claim()
        # Who has written nothing yet also records what the machine was before.
        writes = claims.EPOCH_PATH.exists() and not module.check_mode
        with fencing.node_lock(claim, params["lock_timeout"], check_mode=not writes, opens=False):
            boot = facts.boot()
    except FORESEEN as error:
        module.fail_json(**failure(error))
    else:
        after = claim if claim and claims.EPOCH_PATH.exists() else before
        # Whose a node is, is the run's own affair: this alone has changed nothing.
        diff = {"before": told(before), "after": told(after)}
        module.exit_json(changed=False, boot=boot, diff=diff)


if __name__ == "__main__":
    main()
