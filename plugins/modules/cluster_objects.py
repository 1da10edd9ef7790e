#!/usr/bin/python
# Copyright: the Kubewright authors
# Apache License 2.0 (see LICENSE or https://www.apache.org/licenses/LICENSE-2.0)
"""Objects of the cluster's API, applied from a control plane."""

from __future__ import annotations

DOCUMENTATION = r"""
module: cluster_objects
short_description: Keep API objects as described
description:
  - Runs on a control plane, with the administrator's credentials there.
  - Compares every desired field with the API's, and runs C(kubectl apply) of the system
    image only if one differs.
version_added: 0.1.0
author: The Kubewright authors (@kubewright)
options:
  objects:
    description: The complete objects, with apiVersion, kind and metadata.name.
    type: list
    elements: dict
    required: true
  kubectl:
    description: kubectl on the node.
    type: path
    default: /opt/kubewright/bin/kubectl
  timeout:
    description: Seconds that C(kubectl) may take.
    type: int
    default: 60
extends_documentation_fragment:
  - kubewright.cluster.api
  - kubewright.cluster.fence
attributes:
  check_mode:
    description: Predicts what would be applied, and changes nothing.
    support: full
  diff_mode:
    description: Names the objects that differ, and in which fields.
    support: full
  idempotent:
    description: Objects that are as desired are left alone.
    support: full
"""

EXAMPLES = r"""
- name: Make a namespace
  kubewright.cluster.cluster_objects:
    objects:
      - {apiVersion: v1, kind: Namespace, metadata: {name: demo}}
    api_servers: [192.0.2.11]
    api_name: api.demo.internal
"""

RETURN = r"""
reasons:
  description: What was not as desired.
  type: list
  elements: str
  returned: success
  sample: [Namespace demo is missing]
"""

import json
from typing import Any

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.kubewright.cluster.plugins.module_utils._base import commands, limits
from ansible_collections.kubewright.cluster.plugins.module_utils._base.errors import (
    FORESEEN,
    KubewrightError,
    failure,
)
from ansible_collections.kubewright.cluster.plugins.module_utils._fence import fencing
from ansible_collections.kubewright.cluster.plugins.module_utils._kube import client, objects


def converge(
    api: client.Api, run: commands.Runner, params: dict[str, Any], check_mode: bool
) -> list[str]:
    """Apply what differs; gives it in words."""
    reasons = objects.reasons(api, params["objects"])
    if not reasons or check_mode:
        return reasons
    document = {"apiVersion": "v1", "kind": "List", "items": params["objects"]}
    command = [params["kubectl"], f"--kubeconfig={client.ADMINISTRATOR}", "apply", "--filename=-"]
    result = run(command, timeout=params["timeout"], stdin=json.dumps(document))
    commands.check(result, "The objects could not be applied")
    if left := objects.reasons(api, params["objects"]):
        raise KubewrightError(
            f"Still different after kubectl apply: {'; '.join(left)}. Does a "
            "controller or an admission webhook change them back, or does the "
            "API normalize a value (0.1 to 100m)?"
        )
    return reasons


def main() -> None:
    """Compare and apply under the node lock."""
    module = AnsibleModule(
        argument_spec={
            "objects": {"type": "list", "elements": "dict", "required": True},
            "api_servers": {"type": "list", "elements": "str", "required": True},
            "api_name": {"type": "str", "required": True},
            "kubectl": {"type": "path", "default": "/opt/kubewright/bin/kubectl"},
            "timeout": {"type": "int", "default": 60},
            "epoch": {"type": "int"},
            "run": {"type": "str"},
            "lock_timeout": {"type": "int", "default": 600},
        },
        supports_check_mode=True,
    )
    params, check_mode = module.params, module.check_mode
    try:
        with (
            fencing.node_lock(
                fencing.claim_of(params),
                params["lock_timeout"],
                limit=limits.work("cluster_objects", params),
                check_mode=check_mode,
            ) as fence,
            client.as_administrator(params["api_servers"], params["api_name"]) as api,
        ):
            reasons = converge(api, commands.SystemRunner(fence.pass_fds), params, check_mode)
    except FORESEEN as error:
        module.fail_json(**failure(error))
    else:
        diff = {"before": "".join(f"{line}\n" for line in reasons), "after": ""}
        module.exit_json(changed=bool(reasons), reasons=reasons, diff=diff)


if __name__ == "__main__":
    main()
