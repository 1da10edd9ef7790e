# Copyright: the Kubewright authors
# Apache License 2.0 (see LICENSE or https://www.apache.org/licenses/LICENSE-2.0)
"""A module that an action plugin calls, as a process of its own."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.kubewright.cluster.plugins.module_utils._base.errors import (
    FORESEEN,
    message,
)


def run_module(
    argument_spec: dict[str, Any], run: Callable[[dict[str, Any], bool], dict[str, Any]]
) -> None:
    """Read the arguments, give them and check mode to *run*, and exit with its result."""
    module = AnsibleModule(argument_spec=argument_spec, supports_check_mode=True)
    try:
        result = run(module.params, module.check_mode)
    except FORESEEN as error:
        module.fail_json(msg=message(error))
    else:
        module.exit_json(**result)
