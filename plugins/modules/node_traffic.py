#!/usr/bin/python
# Copyright: the Kubewright authors
# Apache License 2.0 (see LICENSE or https://www.apache.org/licenses/LICENSE-2.0)
"""Wait until traffic passes through a node."""

from __future__ import annotations

DOCUMENTATION = r"""
module: node_traffic
short_description: Wait until traffic passes through a node
description:
  - Checks that the node and its pods reach every API server, the pods of other nodes, and
    the Services of the API and DNS. Changes nothing.
  - With more than eleven nodes it checks a logarithmic number of them, the same ones each time.
version_added: 0.1.0
author: The Kubewright authors (@kubewright)
options:
  name:
    description: The node's name.
    type: str
    required: true
  address:
    description: Its address.
    type: str
    required: true
  nodes:
    description: Addresses of all nodes, by name.
    type: dict
    required: true
  servers:
    description: Addresses of the nodes with an API server, by name.
    type: dict
    required: true
  api_name:
    description: The name in the API servers' certificates.
    type: str
    required: true
  service_cidr:
    description: The network of Services.
    type: str
    required: true
  timeout:
    description: Seconds to wait.
    type: int
    default: 60
attributes:
  check_mode:
    support: full
    description: Checks once and reports what does not work, without waiting or failing.
  diff_mode:
    support: none
    description: It changes nothing.
  idempotent:
    support: full
    description: It only reads.
"""

EXAMPLES = r"""
- name: Check traffic through the node
  kubewright.cluster.node_traffic:
    name: web-1
    address: 192.0.2.21
    nodes: {cp-1: 192.0.2.11, web-1: 192.0.2.21}
    servers: {cp-1: 192.0.2.11}
    api_name: api.demo.internal
    service_cidr: 10.96.0.0/16
"""

RETURN = r"""
troubles:
  description:
    - What does not work; always empty except in check mode. Each has C(text), C(remedy) and
      C(about), the other nodes concerned.
  type: list
  elements: dict
  returned: success
"""

import time
from typing import Any

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.kubewright.cluster.plugins.module_utils._base import limits
from ansible_collections.kubewright.cluster.plugins.module_utils._base.errors import (
    FORESEEN,
    KubewrightError,
    failure,
)
from ansible_collections.kubewright.cluster.plugins.module_utils._onnode import check, traffic

#: Seconds between two looks. Where packets get lost, a look takes two seconds itself.
POLL = 1.0


def wait(request: traffic.Request, timeout: float) -> None:
    """Return when all works; `KubewrightError` says what does not when time has run out."""
    end = time.monotonic() + timeout
    while found := check.troubles(request):
        if time.monotonic() >= end:
            told = " ".join(f"{one.text} {one.remedy}" for one in found)
            raise KubewrightError(f"Traffic does not pass after {timeout:g} s. {told}")
        time.sleep(POLL)


def run(params: dict[str, Any], check_mode: bool) -> list[traffic.Trouble]:
    """Wait, or look once in check mode; gives what does not work."""
    timeout = params.pop("timeout")
    request = traffic.Request(**params)
    if check_mode:
        return check.troubles(request)
    wait(request, timeout)
    return []


def main() -> None:
    """Run the module."""
    module = AnsibleModule(
        argument_spec={
            "name": {"type": "str", "required": True},
            "address": {"type": "str", "required": True},
            "nodes": {"type": "dict", "required": True},
            "servers": {"type": "dict", "required": True},
            "api_name": {"type": "str", "required": True},
            "service_cidr": {"type": "str", "required": True},
            "timeout": {"type": "int", "default": 60},
        },
        supports_check_mode=True,
    )
    try:
        with limits.ends_within(limits.work("node_traffic", module.params)):
            found = run(dict(module.params), module.check_mode)
    except FORESEEN as error:
        module.fail_json(**failure(error))
    else:
        module.exit_json(changed=False, troubles=[one.as_dict() for one in found])


if __name__ == "__main__":
    main()
