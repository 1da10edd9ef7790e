# Copyright: the Kubewright authors
# Apache License 2.0 (see LICENSE or https://www.apache.org/licenses/LICENSE-2.0)
"""Render what roles desire; one remote call, two with a transfer where the image is missing."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from ansible_collections.kubewright.cluster.plugins.plugin_utils import _desired, _transfer
from ansible_collections.kubewright.cluster.plugins.plugin_utils._on_node import NodeAction


class ActionModule(NodeAction):
    """The image is sent in between, so that what lies on the volume comes after it."""

    _local: Path | None = None

    def prepare(self, arguments: dict[str, Any], task_vars: dict[str, Any]) -> None:
        """Render the documents, and find the image that is to be sent."""
        if roles := arguments.get("roles"):
            documents, secrets = _desired.to_write(roles, task_vars, self._loader)
            arguments |= {"documents": documents, "secrets": secrets}
        for document in (arguments.get("documents") or {}).values():
            if image := document.get("image"):
                # What the node fetches is not sent from here.
                path = None if image.get("url") else image.get("path")
                self._local = _transfer.local_image(path, self._loader)

    def seconds(self, arguments: dict[str, Any]) -> float:
        """With the transfer, and the second call."""
        once = super().seconds(arguments)
        return once * (2 if self._local else 1) + _transfer.seconds(self._local)

    def ask(self, arguments: dict[str, Any], task_vars: dict[str, Any]) -> dict[str, Any]:
        """See the module's documentation."""
        for document in (arguments.get("documents") or {}).values():
            url = (document.get("image") or {}).get("url")
            if url and (failed := _transfer.refused(url)):
                return failed
        if self._local:
            user = self._get_remote_user()
            arguments["transfer"] = _transfer.told(self._local, self._connection, user)
        # Or Ansible would copy every document into the node's journal.
        task_vars = {**task_vars, "ansible_no_target_syslog": True}
        first = super().ask(arguments, task_vars)
        arrived = first.get("transfer")
        if self._local is None or not arrived or first.get("failed"):
            return first
        if why := _transfer.send(self._local, arrived, first["offset"], self._connection):
            return {**first, "failed": True, "msg": why}
        transfer = {**arguments["transfer"], "arrived": arrived}
        return together(first, super().ask({**arguments, "transfer": transfer}, task_vars))


def together(first: dict[str, Any], second: dict[str, Any]) -> dict[str, Any]:
    """The result of both calls: what the second one did is more than all."""
    parts = {role: list(done) for role, done in first["parts"].items()}
    for role, done in second.get("parts", {}).items():
        parts[role] = parts.get(role, []) + done
    told = {**second, "parts": parts, "changed": first["changed"] or second.get("changed", False)}
    if "diff" in first:
        told["diff"] = [*first["diff"], *second.get("diff", [])]
    return told
