# Copyright: the Kubewright authors
# Apache License 2.0 (see LICENSE or https://www.apache.org/licenses/LICENSE-2.0)
"""Render what every role desires of a node here, and compare it there in one call."""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Any

from ansible.errors import AnsibleConnectionFailure
from ansible.plugins.action import ActionBase
from ansible_collections.kubewright.cluster.plugins.plugin_utils import _desired, _options

# Where the role preflight does not say, and its default.
TOLERATED = 1.0


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
        asked = time.time()
        # Or Ansible would copy every document into the node's journal at each run.
        result = self._ask(arguments, {**variables, "ansible_no_target_syslog": True})
        if "clock" in result:
            limits = (arguments.get("documents") or {}).get("preflight") or {}
            result["clock"] = clock(result["clock"], asked, time.time())
            result["clock"]["tolerated"] = float(limits.get("clock_seconds", TOLERATED))
        return result

    def _ask(self, arguments: dict[str, Any], variables: dict[str, Any]) -> dict[str, Any]:
        try:
            result: dict[str, Any] = self._execute_module(
                module_name="kubewright.cluster.node_state",
                module_args=arguments,
                task_vars=variables,
            )
        except AnsibleConnectionFailure as error:
            # Where ssh gives up while the module is still written to it, Ansible tells of the pipe
            # and not what ssh says. A command without input has nothing to write: it is told why.
            if isinstance(error.__cause__, BrokenPipeError):
                self._low_level_execute_command(":")
            raise
        return result


def clock(node: Mapping[str, float], asked: float, answered: float) -> dict[str, float]:
    """How many seconds a node's clock is ahead of this machine's, at least and at most.

    *node* read its own when it began and when it ended, both between *asked* and *answered* here;
    how long the ways there and back took is not known.
    """
    return {
        "least": round(node["last"] - answered, 3),
        "most": round(node["first"] - asked, 3),
    }
