# Copyright: the Kubewright authors
# Apache License 2.0 (see LICENSE or https://www.apache.org/licenses/LICENSE-2.0)
"""A system image from the controller to a node, by the connection that Ansible has."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import Any

from ansible.parsing.dataloader import DataLoader
from ansible.plugins.connection import ConnectionBase
from ansible_collections.kubewright.cluster.plugins.module_utils._base.errors import KubewrightError
from ansible_collections.kubewright.cluster.plugins.module_utils._image import download, images

# What is in memory at a time of the rest of a transfer that was cut.
SENT_BYTES = 16 * images.PIECE_BYTES

# Bytes a second, below which a transfer hangs: what has come of it is kept, and the next goes on.
SLOWEST = 64 << 10


def local_image(path: Any, loader: DataLoader) -> Path | None:
    """The image on the controller; None when none is named: the node may have it."""
    if not path:
        return None
    local = Path(str(path)).expanduser()
    if not local.is_absolute():
        local = Path(loader.path_dwim(str(path)))
    return local if local.is_file() else None


def refused(url: Any) -> dict[str, Any]:
    """The task's result where nodes may not fetch images from *url*; {} where they may.

    Asked before a bad one, which may hold a password, is told to anybody.
    """
    try:
        download.check_url(str(url))
    except KubewrightError as error:
        return {"failed": True, "changed": False, "msg": str(error)}
    return {}


def seconds(local: Path | None) -> float:
    """How long the transfer may take."""
    return local.stat().st_size / SLOWEST if local else 0.0


def told(local: Path, connection: ConnectionBase, user: str | None) -> dict[str, Any]:
    """What a node is told of the image to come. *user*: who logs in there.

    ``transfer_owner``: who writes the file when the module runs as another; "" if ssh alone knows.
    """
    owner = (user or "") if connection.become else None
    return {"size": local.stat().st_size, "transfer_owner": owner}


def send(local: Path, arrived: str, offset: int, connection: ConnectionBase) -> str:
    """Send the image to *arrived*, where *offset* bytes are already; why it failed, else empty.

    The connection streams the file. The node hashes it, so nobody has to here.
    """
    if not offset:
        connection.put_file(str(local), arrived)
        return ""
    return _send_rest(local, arrived, offset, connection)


def _send_rest(local: Path, arrived: str, offset: int, connection: ConnectionBase) -> str:
    """A connection's put_file() would begin anew.

    The place of each piece is said, so that a connection plugin may repeat it.
    """
    size = local.stat().st_size
    with local.open("rb") as file:
        file.seek(offset)
        while offset < size and (piece := file.read(SENT_BYTES)):
            command = (
                f"dd of={shlex.quote(arrived)} bs={images.PIECE_BYTES} "
                f"seek={offset // images.PIECE_BYTES} conv=notrunc"
            )
            status, _, said = connection.exec_command(command, in_data=piece, sudoable=False)
            if status != 0:
                text = said.decode(errors="replace").strip()
                return (
                    f"The image transfer could not be resumed at byte {offset}: {text}. What has "
                    "arrived is kept; run it again."
                )
            offset += len(piece)
    return ""
