# SPDX-License-Identifier: Apache-2.0
"""How a file differs from what it should be, as lines for a terminal. Pure."""

from __future__ import annotations

import difflib
from collections.abc import Mapping

from rich.text import Text

_COLOURS = {"-": "red", "+": "green", "@": "cyan"}


def lines(host: str, diff: Mapping[str, str]) -> list[Text]:
    """Return a heading and the difference that Ansible returned; nothing where there is none."""
    if "prepared" in diff:
        body = diff["prepared"].splitlines()
    else:
        before, after = (diff.get(key, "").splitlines() for key in ("before", "after"))
        body = list(difflib.unified_diff(before, after, "is", "should be", lineterm="", n=2))
    if not body:
        return []
    name = diff.get("before_header") or diff.get("after_header") or ""
    heading = Text(f"\n{host}: {name}" if name else f"\n{host}:", style="bold")
    return [heading, *(Text(line, style=_COLOURS.get(line[:1], "")) for line in body)]
