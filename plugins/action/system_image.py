# Copyright: the Kubewright authors
# Apache License 2.0 (see LICENSE or https://www.apache.org/licenses/LICENSE-2.0)
"""Ask the node, bring the image only when it is not there, and ask again."""

from __future__ import annotations

from typing import Any

from ansible_collections.kubewright.cluster.plugins.plugin_utils import _transfer
from ansible_collections.kubewright.cluster.plugins.plugin_utils._on_node import NodeAction


class ActionModule(NodeAction):
    """One remote call when the node has the image; else two and one transfer."""

    def seconds(self, arguments: dict[str, Any]) -> float:
        """With the transfer, and the second call."""
        path = None if arguments.get("url") else arguments.get("path")
        local = _transfer.local_image(path, self._loader)
        return super().seconds(arguments) * (2 if local else 1) + _transfer.seconds(local)

    def ask(self, arguments: dict[str, Any], task_vars: dict[str, Any]) -> dict[str, Any]:
        """See the module's documentation."""
        if arguments.get("url"):
            if refused := _transfer.refused(arguments["url"]):
                return refused
            # The node fetches it: nothing is sent from here.
            arguments.pop("path", None)
        local = _transfer.local_image(arguments.pop("path", None), self._loader)
        if local is not None:
            arguments |= _transfer.told(local, self._connection, self._get_remote_user())
        result = super().ask(arguments, task_vars)
        arrived = result.get("transfer")
        if local is not None and arrived and not result.get("failed"):
            failed = _transfer.send(local, arrived, result["offset"], self._connection)
            if failed:
                return {"failed": True, "changed": False, "msg": failed}
            result = super().ask({**arguments, "arrived": arrived}, task_vars)
        return result
