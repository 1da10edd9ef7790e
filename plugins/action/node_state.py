# Copyright: the Kubewright authors
# Apache License 2.0 (see LICENSE or https://www.apache.org/licenses/LICENSE-2.0)
"""Render what every role desires of a node here, and compare it there in one call."""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Any

from ansible_collections.kubewright.cluster.plugins.plugin_utils import _desired, _options
from ansible_collections.kubewright.cluster.plugins.plugin_utils._on_node import NodeAction

# Where the role preflight does not say, and its default.
TOLERATED = 1.0


class ActionModule(NodeAction):
    """One remote call."""

    def ask(self, arguments: dict[str, Any], task_vars: dict[str, Any]) -> dict[str, Any]:
        """See the module's documentation."""
        if roles := arguments.get("roles"):
            # The host's own: what the play tells roles is ours, and not all of it is known yet.
            told = task_vars["hostvars"][task_vars["inventory_hostname"]]
            _options.check(roles, told, self._templar, task_vars)
            arguments["documents"] = _desired.documents(roles, task_vars, self._loader)
        asked = time.time()
        # Or Ansible would copy every document into the node's journal at each run.
        result = super().ask(arguments, {**task_vars, "ansible_no_target_syslog": True})
        if "clock" in result:
            limits = (arguments.get("documents") or {}).get("preflight") or {}
            result["clock"] = clock(result["clock"], asked, time.time())
            result["clock"]["tolerated"] = float(limits.get("clock_seconds", TOLERATED))
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
