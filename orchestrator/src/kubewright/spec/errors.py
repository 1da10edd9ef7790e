# SPDX-License-Identifier: Apache-2.0
"""What is wrong with a file that a person wrote, said so that it can be put right."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from kubewright.agreed import rules

#: Keys and list indices from the top of the document: ``("pools", 0, "name")``.
Location = tuple[str | int, ...]

#: What a terminal obeys instead of showing it (C0, DEL and C1).
_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f]")


def dotted(location: Location) -> str:
    """Return a location as a person writes it: ``pools[0].name``."""
    text = ""
    for part in location:
        if isinstance(part, int):
            text += f"[{part}]"
        else:
            text += f".{part}" if text else part
    return text


@dataclass(frozen=True, order=True)
class Finding:
    """One thing that is wrong, not yet tied to a line.

    ``message`` says what is wrong, ``remedy`` what to write instead; neither ends in a full stop.
    ``at_key`` points at the key and not at its value (an unknown field).
    """

    location: Location
    message: str
    remedy: str = ""
    at_key: bool = False


def at(location: Location, *faults: rules.Fault | None) -> Iterator[Finding]:
    """Say where in the file a rule of every cluster is broken, for those that are."""
    for fault in faults:
        if fault is not None:
            yield Finding(location, fault.text, fault.remedy)


@dataclass(frozen=True)
class Problem:
    """One thing that is wrong in a file.

    ``line`` and ``column`` count from 1; 0 means the file as a whole.
    """

    file: Path
    line: int
    column: int
    field: str
    message: str
    remedy: str

    def __str__(self) -> str:
        """Return ``file:line:column: field: message; remedy``, the form that editors jump to.

        Control characters, which the file may have, are written as Python does it: ``\\x1b``.
        """
        place = f"{self.file}:{self.line}:{self.column}" if self.line else f"{self.file}"
        subject = f"{self.field}: " if self.field else ""
        remedy = f"; {self.remedy}" if self.remedy else ""
        text = f"{place}: {subject}{self.message}{remedy}"
        return _CONTROL.sub(lambda found: found[0].encode("unicode_escape").decode(), text)


class SpecError(Exception):
    """The file can't be used. ``problems`` has all that is wrong, in the order of the file."""

    def __init__(self, problems: Iterable[Problem]) -> None:
        self.problems = tuple(problems)
        super().__init__("\n".join(str(problem) for problem in self.problems))
