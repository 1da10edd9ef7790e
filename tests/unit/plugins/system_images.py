# SPDX-License-Identifier: Apache-2.0
"""Two images, and how the action plugin brings them to a volume."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

RunModule = Callable[..., dict[str, Any]]
CONTENT = b"squashfs " * 100_000
DIGEST = hashlib.sha256(CONTENT).hexdigest()
OTHER = b"another one"
OTHER_DIGEST = hashlib.sha256(OTHER).hexdigest()


def asked(content: bytes) -> dict[str, Any]:
    """What the module is told of an image that is to be active."""
    return {
        "digest": hashlib.sha256(content).hexdigest(),
        "state": "active",
        "url": "",
        "role": None,
        "again": False,
        "size": len(content),
        "arrived": None,
        "transfer_owner": None,
    }


def bring(
    run_module: RunModule, volume: Path, content: bytes, digest: str = "", **more: Any
) -> dict[str, Any]:
    """What the action plugin does: ask, transfer, ask again."""
    arguments: dict[str, Any] = {"volume": str(volume), "size": len(content), **more}
    arguments["digest"] = digest or hashlib.sha256(content).hexdigest()
    result = run_module("system_image", **arguments)
    if "transfer" in result:
        Path(result["transfer"]).write_bytes(content)
        result = run_module("system_image", **arguments, arrived=result["transfer"])
    return result
