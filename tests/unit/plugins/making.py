# SPDX-License-Identifier: Apache-2.0
"""One section of a role's document, made by the module ``node_parts`` as Ansible runs it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

RunModule = Callable[..., dict[str, Any]]
ROLE = "role"


def make(run_module: RunModule, section: str, wanted: Any, **more: Any) -> dict[str, Any]:
    """The module's result, with what was done as ``done``. *more*: options, check, diff."""
    result = run_module("node_parts", documents={ROLE: {section: wanted}}, **more)
    if "parts" in result:
        result["done"] = result["parts"].get(ROLE, [])
        assert result["changed"] == bool(result["done"])
    return result
