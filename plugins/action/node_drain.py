# Copyright: the Kubewright authors
# Apache License 2.0 (see LICENSE or https://www.apache.org/licenses/LICENSE-2.0)
"""Run node_drain until the node is drained, and say which pods it waits for."""

from __future__ import annotations

from typing import Any

from ansible_collections.kubewright.cluster.plugins.plugin_utils._on_node import NodeAction


class ActionModule(NodeAction):
    """One remote call for every few seconds that pods take to leave."""

    def ask(self, arguments: dict[str, Any], task_vars: dict[str, Any]) -> dict[str, Any]:
        """See the module's documentation."""
        changed, told, node = False, "", arguments["name"]
        while True:
            result = super().ask(arguments, task_vars)
            changed = changed or bool(result.get("changed"))
            waiting = result.get("waiting") or []
            if self._task.check_mode or result.get("failed") or not waiting:
                if result.get("left"):
                    self.say(f"keeps its pods {_listed(result['left'])}", _of(node, task_vars))
                return {**result, "changed": changed}
            if (said := _listed(waiting)) != told:
                self.say(f"waits for {said}", _of(node, task_vars))
                told = said
            self._begin_again()


def _of(node: str, task_vars: dict[str, Any]) -> dict[str, Any]:
    """The task's variables as those of *node*: a control plane may drain it."""
    return {**task_vars, "inventory_hostname": node}


def _listed(pods: list[dict[str, str]]) -> str:
    return "; ".join(f"{one['pod']} ({one['why']})" for one in pods)
