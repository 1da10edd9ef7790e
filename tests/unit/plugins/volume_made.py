# SPDX-License-Identifier: Apache-2.0
"""A system volume, made by the module ``node_parts``."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from making import RunModule, make

OPTIONS = ("check", "diff", "epoch")


def made(run_module: RunModule, wanted: Mapping[str, Any], **more: Any) -> dict[str, Any]:
    """The result, and the steps that were done. *more*: the module's options, and the volume's."""
    options = {name: more.pop(name) for name in OPTIONS if name in more}
    volume = {"type": "local", "label": "kubewright", "sparse": True, **wanted, **more}
    result = make(run_module, "volume", volume, **options)
    (done,) = result.get("done") or [""]
    return {**result, "steps": done.rpartition("(")[2].rstrip(")").split(", ") if done else []}
