# Copyright: the Kubewright authors
# Apache License 2.0 (see LICENSE or https://www.apache.org/licenses/LICENSE-2.0)
"""Ask the node, transfer the image only when it is not there, and ask again."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from ansible.plugins.action import ActionBase

MODULE = "kubewright.cluster.system_image"


class ActionModule(ActionBase):  # type: ignore[misc]
    """One remote call when the node has the image; else two and one transfer."""

    TRANSFERS_FILES = True
    _supports_check_mode = True
    _supports_async = False

    def run(
        self, tmp: str | None = None, task_vars: dict[str, Any] | None = None
    ) -> dict[str, Any]:
        """See the module's documentation."""
        super().run(tmp, task_vars)
        arguments = {key: value for key, value in self._task.args.items() if value is not None}
        local = self._local_image(arguments.get("path"))
        arguments.pop("path", None)
        if local is not None:
            arguments["size"] = local.stat().st_size
            arguments["transfer_owner"] = self._transfer_owner()
        result = self._module(arguments, task_vars)
        arrived = result.get("transfer")
        if arrived and not result.get("failed"):
            # The connection streams the file. The node hashes it, so nobody has to here.
            self._connection.put_file(str(local), arrived)
            result = self._module({**arguments, "arrived": arrived}, task_vars)
        return result

    def _module(
        self, arguments: dict[str, Any], task_vars: dict[str, Any] | None
    ) -> dict[str, Any]:
        result: dict[str, Any] = self._execute_module(
            module_name=MODULE, module_args=arguments, task_vars=task_vars
        )
        return result

    def _local_image(self, path: str | None) -> Path | None:
        """The image on the controller; None when none is named: the node may have it."""
        if not path:
            return None
        local = Path(str(path)).expanduser()
        if not local.is_absolute():
            local = Path(self._loader.path_dwim(str(path)))
        return local if local.is_file() else None

    def _transfer_owner(self) -> str | None:
        """The user who writes the file when the module itself runs as another one."""
        if not self._connection.become:
            return None
        user: str | None = self._get_remote_user()
        return user
