# SPDX-License-Identifier: Apache-2.0
"""What a node said of itself, as the collection's module node_state returns it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True)
class Answer:
    """`drift`: reasons by role. `phase`: none, partial or joined.

    `unknown` is what could not be looked at, in words.
    """

    drift: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    phase: str = "none"
    api_ready: bool = False
    unknown: tuple[str, ...] = ()
    diff: tuple[Mapping[str, str], ...] = ()

    @classmethod
    def from_result(cls, result: Mapping[str, Any]) -> Answer:
        """Return the answer in a result of the module."""
        return cls(
            drift={role: tuple(reasons) for role, reasons in result.get("drift", {}).items()},
            phase=result.get("membership", {}).get("phase", "none"),
            api_ready=bool(result.get("api_ready")),
            unknown=tuple(result.get("unknown", ())),
            diff=tuple(result.get("diff") or ()),
        )
