# Copyright: the Kubewright authors
# Apache License 2.0 (see LICENSE or https://www.apache.org/licenses/LICENSE-2.0)
"""Ask the node, bring the image only when it is not there, and ask again."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import Any

from ansible_collections.kubewright.cluster.plugins.module_utils._base.errors import KubewrightError
from ansible_collections.kubewright.cluster.plugins.module_utils._image import download, images
from ansible_collections.kubewright.cluster.plugins.plugin_utils._on_node import NodeAction

# What is in memory at a time of the rest of a transfer that was cut.
SENT_BYTES = 16 * images.PIECE_BYTES

# Bytes a second, below which a transfer hangs: what has come of it is kept, and the next goes on.
SLOWEST = 64 << 10


class ActionModule(NodeAction):
    """One remote call when the node has the image; else two and one transfer."""

    TRANSFERS_FILES = True

    def seconds(self, arguments: dict[str, Any]) -> float:
        """With the transfer, and the second call."""
        local = None if arguments.get("url") else self._local_image(arguments.get("path"))
        if local is None:
            return super().seconds(arguments)
        return 2 * super().seconds(arguments) + local.stat().st_size / SLOWEST

    def ask(self, arguments: dict[str, Any], task_vars: dict[str, Any]) -> dict[str, Any]:
        """See the module's documentation."""
        if arguments.get("url"):
            try:
                # Before a bad one, which may hold a password, is told to anybody.
                download.check_url(str(arguments["url"]))
            except KubewrightError as error:
                return {"failed": True, "changed": False, "msg": str(error)}
            # The node fetches it: nothing is sent from here.
            arguments.pop("path", None)
        local = self._local_image(arguments.pop("path", None))
        if local is not None:
            arguments["size"] = local.stat().st_size
            arguments["transfer_owner"] = self._transfer_owner()
        result = super().ask(arguments, task_vars)
        arrived = result.get("transfer")
        if local is not None and arrived and not result.get("failed"):
            # The connection streams the file. The node hashes it, so nobody has to here.
            if result["offset"]:
                failed = self._send_rest(local, arrived, result["offset"], arguments["size"])
                if failed:
                    return {"failed": True, "changed": False, "msg": failed}
            else:
                self._connection.put_file(str(local), arrived)
            result = super().ask({**arguments, "arrived": arrived}, task_vars)
        return result

    def _send_rest(self, local: Path, arrived: str, offset: int, size: int) -> str:
        """Send what is missing from *offset* on; why it failed, else empty.

        A connection's put_file() would begin anew. The place of each piece is said, so that a
        connection plugin may repeat it.
        """
        with local.open("rb") as file:
            file.seek(offset)
            while offset < size and (piece := file.read(SENT_BYTES)):
                command = (
                    f"dd of={shlex.quote(arrived)} bs={images.PIECE_BYTES} "
                    f"seek={offset // images.PIECE_BYTES} conv=notrunc"
                )
                status, _, said = self._connection.exec_command(
                    command, in_data=piece, sudoable=False
                )
                if status != 0:
                    text = said.decode(errors="replace").strip()
                    return (
                        f"The image transfer could not be resumed at byte {offset}: {text}. What "
                        "has "
                        "arrived is kept; run it again."
                    )
                offset += len(piece)
        return ""

    def _local_image(self, path: str | None) -> Path | None:
        """The image on the controller; None when none is named: the node may have it."""
        if not path:
            return None
        local = Path(str(path)).expanduser()
        if not local.is_absolute():
            local = Path(self._loader.path_dwim(str(path)))
        return local if local.is_file() else None

    def _transfer_owner(self) -> str | None:
        """The user who writes the file when the module runs as another; "" if ssh alone knows."""
        if not self._connection.become:
            return None
        return self._get_remote_user() or ""
