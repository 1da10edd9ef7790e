# SPDX-License-Identifier: Apache-2.0
"""What came of the kills: kept as JSON lines, so that a run goes on where one was cut; a table."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Literal

from points import Kill

Verdict = Literal["passed", "failed", "not reached"]
Key = tuple[str, ...]

_HEAD = ("point", "host", "moment", "outcome", "killed", "repaired by", "again", "the repair")
_NUMBERS = (4, 5, 6)


class LabError(Exception):
    """A cluster can't be made or removed; the message says why. There is no outcome, nor more."""


@dataclass(frozen=True)
class Outcome:
    """What came of one kill.

    ``killed``, ``repaired``, ``again``: seconds of the three applies; None where there was none.
    ``said``: what the repairing one told. ``why``: empty when it passed.
    """

    key: Key
    verdict: Verdict
    killed: float | None = None
    repaired: float | None = None
    again: float | None = None
    said: str = ""
    why: str = ""


@dataclass(frozen=True)
class Results:
    """The file of results of one content, one size of cluster and one seed."""

    path: Path

    def add(self, outcome: Outcome) -> None:
        """Append an outcome and bring it to disk."""
        self.path.parent.mkdir(parents=True, exist_ok=True)
        cut = self.path.exists() and not self.path.read_bytes().endswith(b"\n")
        with self.path.open("a", encoding="utf-8") as file:
            # A line that was cut short must not swallow this one.
            file.write(("\n" if cut else "") + json.dumps(asdict(outcome)) + "\n")
            file.flush()
            os.fsync(file.fileno())

    def kept(self) -> dict[Key, Outcome]:
        """Return the newest outcome of each kill. A line that was cut short is left out."""
        found: dict[Key, Outcome] = {}
        if self.path.exists():
            for line in self.path.read_text(encoding="utf-8", errors="replace").splitlines():
                try:
                    data = json.loads(line)
                except ValueError:
                    continue
                outcome = Outcome(**{**data, "key": tuple(data["key"])})
                found[outcome.key] = outcome
        return found

    def forget(self) -> None:
        """Remove the file."""
        self.path.unlink(missing_ok=True)


def remaining(chosen: Sequence[Kill], kept: Mapping[Key, Outcome]) -> list[Kill]:
    """Return the kills that have not passed yet."""
    return [kill for kill in chosen if not _passed(kept.get(kill.key))]


def summary(found: Sequence[Kill], kept: Mapping[Key, Outcome]) -> str:
    """Return how many have which outcome, in words."""
    counts = {"passed": 0, "failed": 0, "not reached": 0, "not run": 0}
    for kill in found:
        outcome = kept.get(kill.key)
        counts[outcome.verdict if outcome else "not run"] += 1
    told = [f"{count} {word}" for word, count in counts.items() if count or word == "passed"]
    return f"{len(found)} points: {', '.join(told)}"


def table(found: Sequence[Kill], kept: Mapping[Key, Outcome]) -> str:
    """Return a Markdown table with a row for each kill, and why those failed that did."""
    rows = [_HEAD, tuple("---:" if i in _NUMBERS else "---" for i in range(len(_HEAD)))]
    reasons = []
    for kill in found:
        outcome = kept.get(kill.key)
        rows.append(_row(kill, outcome))
        if outcome and outcome.why:
            first = outcome.why.strip().splitlines()[0]
            reasons.append(f"* {_cell(kill.name)}: {_cell(first)}")
    lines = ["| " + " | ".join(row) + " |" for row in rows]
    return "\n".join([*lines, *(["", *reasons] if reasons else [])]) + "\n"


def document(head: Sequence[str], found: Sequence[Kill], kept: Mapping[Key, Outcome]) -> str:
    """Return the page: a heading, the given paragraphs, the counts and the table."""
    parts = ["# Chaos", *head, f"{summary(found, kept)}.", table(found, kept)]
    return "\n\n".join(parts)


def _passed(outcome: Outcome | None) -> bool:
    return outcome is not None and outcome.verdict == "passed"


def _row(kill: Kill, outcome: Outcome | None) -> tuple[str, ...]:
    told = (
        (outcome.verdict, *map(_seconds, (outcome.killed, outcome.repaired, outcome.again)))
        if outcome
        else ("not run", "", "", "")
    )
    said = _cell(outcome.said) if outcome else ""
    return (_cell(kill.name), kill.host, kill.when, *told, said)


def _seconds(value: float | None) -> str:
    return "" if value is None else f"{value:.0f} s"


def _cell(text: str) -> str:
    return " ".join(text.replace("|", "\\|").split())
