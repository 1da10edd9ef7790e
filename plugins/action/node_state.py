# Copyright: the Kubewright authors
# Apache License 2.0 (see LICENSE or https://www.apache.org/licenses/LICENSE-2.0)
"""Render what every role desires of a node here, and compare it there in one call."""

from __future__ import annotations

from typing import Any

from ansible.plugins.action import ActionBase
from ansible_collections.kubewright.cluster.plugins.plugin_utils import _desired, _options


class ActionModule(ActionBase):  # type: ignore[misc]
    """One remote call."""

    TRANSFERS_FILES = False
    _supports_check_mode = True
    _supports_async = False

    def run(
        self, tmp: str | None = None, task_vars: dict[str, Any] | None = None
    ) -> dict[str, Any]:
        """See the module's documentation."""
        super().run(tmp, task_vars)
        variables = task_vars or {}
        arguments = {key: value for key, value in self._task.args.items() if value is not None}
        if roles := arguments.get("roles"):
            # The host's own: what the play tells roles is ours, and not all of it is known yet.
            told = variables["hostvars"][variables["inventory_hostname"]]
            _options.check(roles, told, self._templar, variables)
            arguments["documents"] = _desired.documents(roles, self._templar, variables)
        result: dict[str, Any] = self._execute_module(
            module_name="kubewright.cluster.node_state",
            module_args=arguments,
            # Or Ansible would copy every document into the node's journal at each run.
            task_vars={**variables, "ansible_no_target_syslog": True},
        )
        return result
