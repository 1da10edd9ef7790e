# Copyright: the Kubewright authors
# Apache License 2.0 (see LICENSE or https://www.apache.org/licenses/LICENSE-2.0)
"""Read what the inventory says of a cluster, in Ansible's process."""

from __future__ import annotations

from typing import Any

from ansible.utils.vars import load_extra_vars
from ansible_collections.kubewright.cluster.plugins.modules import cluster_inventory
from ansible_collections.kubewright.cluster.plugins.plugin_utils import _inventory, _refusal, _ssh
from ansible_collections.kubewright.cluster.plugins.plugin_utils._local import LocalAction


class ActionModule(LocalAction):
    """See the module's documentation."""

    argument_spec = cluster_inventory.argument_spec

    def run(
        self, tmp: str | None = None, task_vars: dict[str, Any] | None = None
    ) -> dict[str, Any]:
        """Keep what Ansible knows, for `work`."""
        self._known = task_vars or {}
        result: dict[str, Any] = super().run(tmp, task_vars)
        return result

    def work(self, arguments: dict[str, Any]) -> dict[str, Any]:
        """Give settings, nodes and images, or all problems."""
        found = _inventory.read(
            self._known["groups"],
            self._known["hostvars"],
            _ssh.unchecked,
            load_extra_vars(self._loader),
        )
        problems = [*found.barred, *found.problems]
        if (refused := _refusal.refused_inventories()) and not found.nodes:
            # What else is wrong is only that there is nothing.
            return {
                "failed": True,
                "changed": False,
                "problems": refused,
                "msg": "\n".join(refused),
            }
        result: dict[str, Any] = {"changed": False, "problems": problems}
        # Without a name there is nothing that could be removed either.
        refuse = arguments["refuse"] or not found.settings["cluster_name"]
        if refused := problems if refuse else found.barred:
            listed = "\n".join(f"* {problem}" for problem in refused)
            return {
                **result,
                "failed": True,
                "msg": f"This inventory has errors:\n{listed}",
            }
        return {
            **result,
            "settings": found.settings,
            "nodes": found.nodes,
            "leaving": found.leaving,
            "own": found.own,
            "images": found.images,
        }
