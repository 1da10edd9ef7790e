# Copyright: the Kubewright authors
# Apache License 2.0 (see LICENSE or https://www.apache.org/licenses/LICENSE-2.0)
"""What a check says of a machine, and many of them as a table."""

from __future__ import annotations

import dataclasses
import textwrap
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

FATAL, WARNING = "fatal", "warning"
WIDTH = 110
NARROWEST = 40


@dataclass(frozen=True)
class Finding:
    """One sentence of what is wrong and where, and one of what to do about it.

    `check`: the check's name. `severity`: `FATAL` where the machine cannot be a node as it is.
    """

    check: str
    severity: str
    text: str
    remedy: str

    def as_dict(self) -> dict[str, str]:
        """For a module's result."""
        return dataclasses.asdict(self)


def table(findings: Iterable[Mapping[str, str]], width: int = WIDTH) -> str:
    """Findings (with ``host``) in the order given, as aligned lines of at most *width* columns."""
    rows = [
        ("FATAL" if one["severity"] == FATAL else "warning", one["host"], one["check"], one)
        for one in findings
    ]
    if not rows:
        return ""
    sizes = [max(len(row[column]) for row in rows) for column in range(3)]
    margin = sum(sizes) + 2 * len(sizes)
    room = max(NARROWEST, width - margin)
    lines = []
    for *cells, one in rows:
        start = "".join(f"{cell:<{size}}  " for cell, size in zip(cells, sizes, strict=True))
        for text in _wrapped(one["text"], room) + _wrapped(one["remedy"], room, "-> "):
            lines.append(f"{start}{text}".rstrip())
            start = " " * margin
    return "\n".join(lines)


def _wrapped(text: str, room: int, mark: str = "") -> list[str]:
    # A path or a command is never broken: it is there to be copied.
    return textwrap.wrap(
        " ".join(text.split()),
        room,
        initial_indent=mark,
        subsequent_indent=" " * len(mark),
        break_long_words=False,
        break_on_hyphens=False,
    )
