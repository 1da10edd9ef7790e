# SPDX-License-Identifier: Apache-2.0
"""The points of a run: which there are by a recording, and where a seed kills. Pure."""

from __future__ import annotations

import json
import random
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Literal, get_args

Moment = Literal["before", "during", "after"]
MOMENTS: tuple[Moment, ...] = get_args(Moment)
#: Which part of a task's recorded duration may pass before it is killed "during" it.
FRACTIONS = (0.05, 0.95)
#: One call that does many things is killed "during" each of so many parts of its time.
PARTS = {"Converge the node's components": 5}


@dataclass(frozen=True)
class Change:
    """A result of the recorded run that changed something, see callback/chaos.py."""

    role: str
    task: str
    play: str
    host: str
    occurrence: int
    began: float
    seconds: float


@dataclass(frozen=True)
class Kill:
    """A point with all that the seed chose. ``fraction`` and ``delay`` (s) are for "during"."""

    role: str
    task: str
    play: str
    host: str
    occurrence: int
    moment: Moment
    fraction: float
    delay: float

    @property
    def name(self) -> str:
        """The point, as Ansible names tasks."""
        return f"{self.role} : {self.task}" if self.role else self.task

    @property
    def when(self) -> str:
        """The moment in words."""
        return f"{self.moment}, {self.fraction:.0%}" if self.moment == "during" else self.moment

    @property
    def key(self) -> tuple[str, ...]:
        """What tells this kill from others; not the delay, which another recording changes."""
        return (self.role, self.task, self.host, str(self.occurrence), self.when)

    def order(self, report: str) -> str:
        """Return what tells the callback plugin to kill here."""
        keys = ("role", "task", "host", "occurrence", "moment", "delay")
        return json.dumps({key: getattr(self, key) for key in keys} | {"report": report})


def read_recording(text: str) -> list[Change]:
    """Return the changes of a recording, in the order in which they ended."""
    return [Change(**_object(line)) for line in text.splitlines()]


def kills(changes: Iterable[Change], seed: str) -> list[Kill]:
    """Return one kill for each distinct task that changed something, in the run's order.

    A task of `PARTS` has one for each part.
    The choice depends on the seed, the task and the hosts on which it changed something: other
    tasks, and how long anything took, make no difference.
    """
    points: dict[tuple[str, str], list[Change]] = {}
    for change in sorted(changes, key=lambda change: change.began):
        points.setdefault((change.role, change.task), []).append(change)
    return [
        _choose(found, seed, part, parts)
        for (_, task), found in points.items()
        for parts in [PARTS.get(task, 1)]
        for part in range(parts)
    ]


def select(
    found: Sequence[Kill], seed: str, only: str = "", count: int | None = None
) -> list[Kill]:
    """Return those whose name has ``only`` in it; of these, ``count`` that the seed chooses."""
    chosen = [kill for kill in found if only.lower() in kill.name.lower()]
    if count is not None and count < len(chosen):
        shuffled = sorted(chosen, key=lambda kill: kill.key)
        random.Random(seed).shuffle(shuffled)
        chosen = [kill for kill in chosen if kill in shuffled[:count]]
    return chosen


def _choose(point: Sequence[Change], seed: str, part: int, parts: int) -> Kill:
    """Choose among one task's changes: *part* of its *parts*."""
    first = point[0]
    chance = random.Random(f"{seed}:{first.role}:{first.task}" + (f":{part}" if part else ""))
    host = chance.choice(sorted({change.host for change in point}))
    moment = chance.choice(MOMENTS) if parts == 1 else "during"
    begin, end = FRACTIONS
    width = (end - begin) / parts
    fraction = round(chance.uniform(begin + part * width, begin + (part + 1) * width), 2)
    change = min(
        (change for change in point if change.host == host), key=lambda change: change.occurrence
    )
    return Kill(
        role=change.role,
        task=change.task,
        play=change.play,
        host=host,
        occurrence=change.occurrence,
        moment=moment,
        fraction=fraction,
        delay=round(fraction * change.seconds, 3),
    )


def _object(line: str) -> dict[str, Any]:
    found = json.loads(line)
    if not isinstance(found, dict):
        raise ValueError(f"not a JSON object: {line}")
    return found
