# SPDX-License-Identifier: Apache-2.0
"""A run that is in progress, as lines that stay and as a picture that changes. No I/O, no clock.

Taking an event costs the same with five nodes and with five hundred, and so does a picture: it
has the hosts that have been at their task for longest, and counts the others.
"""

from __future__ import annotations

import threading
from dataclasses import dataclass
from itertools import islice

from rich.text import Text

from kubewright.act import (
    Event,
    HostIdle,
    HostResult,
    HostSays,
    HostStarted,
    PhaseStarted,
    TaskStarted,
)
from kubewright.act.messages import reason
from kubewright.act.remedies import remedy
from kubewright.cli.output import counted, elapsed

#: Hosts with their task in a picture; fewer where the terminal is low.
MOST_HOSTS = 15
_MOST_NAME = 30
#: Lines of a terminal that a picture leaves free: the cursor's, and one of what was printed.
_FREE_LINES = 2
_FRAMES = "⠋⠙⠹⠸⠼⠴⠦⠧⠇⠏"
_ASCII_FRAMES = "|/-\\"
_FRAMES_PER_SECOND = 4


@dataclass(frozen=True)
class Line:
    """A line that stays, and its style."""

    text: str
    style: str = ""


class Board:
    """Takes events and times (s, of a clock that only grows); may be used from several threads."""

    def __init__(self, begun: float) -> None:
        self._begun = begun
        # Taken again by a signal's handler, which prints in the thread that may hold it.
        self._lock = threading.RLock()
        self._phase = ""
        self._phase_begun: float | None = None
        self._hosts: set[str] = set()
        self._changed: set[str] = set()
        self._wrong: set[str] = set()
        #: In the order in which they began: who has been at it for longest is the first.
        self._active: dict[str, tuple[str, float]] = {}
        self._told: set[str] = set()

    def stamped(self, text: str, now: float) -> str:
        """Return a text after the time since the begin."""
        return f"[{elapsed(now - self._begun):>5}] {text}"

    def feed(self, event: Event, now: float, *, begins: bool = True) -> list[Line]:
        """Take an event; return the lines to print. ``begins``: also that a phase begins."""
        with self._lock:
            match event:
                case PhaseStarted():
                    lines = self._end(now)
                    self._phase = event.name
                    return lines
                case TaskStarted():
                    return self._begin(now) if begins else self._begin(now)[:0]
                case HostStarted():
                    self._hosts.add(event.host)
                    self._active.pop(event.host, None)
                    self._active[event.host] = (event.task, now)
                    return []
                case HostIdle():
                    self._active.pop(event.host, None)
                    return []
                case HostSays():
                    return [Line(self.stamped(f"{event.host} {event.text}", now), "yellow")]
                case HostResult():
                    return self._result(event, now)

    def end(self, now: float) -> list[Line]:
        """Return the lines of the end of a run."""
        with self._lock:
            return self._end(now)

    def _begin(self, now: float) -> list[Line]:
        """A play is told of when its first task begins: one without hosts has none."""
        if self._phase_begun is not None:
            return []
        self._phase_begun = now
        return [Line(self.stamped(self._phase, now))]

    def _end(self, now: float) -> list[Line]:
        lines = []
        if self._phase_begun is not None:
            words = [f"{self._phase}: {now - self._phase_begun:.0f} s", *self._counts()]
            style = "red" if self._wrong else "green"
            lines.append(Line(self.stamped(", ".join(words), now), style))
        self._phase_begun = None
        self._hosts, self._changed, self._wrong = set(), set(), set()
        self._active = {}
        return lines

    def _counts(self) -> list[str]:
        found = [counted(len(self._hosts), "host")] if self._hosts else []
        found += [f"{len(self._changed)} changed"] if self._changed else []
        return found + ([f"{len(self._wrong)} failed"] if self._wrong else [])

    def _result(self, event: HostResult, now: float) -> list[Line]:
        self._hosts.add(event.host)
        self._active.pop(event.host, None)
        if event.outcome == "changed":
            self._changed.add(event.host)
        if event.outcome in ("ok", "changed") or event.ignored:
            return []
        self._wrong.add(event.host)
        if event.outcome == "unreachable":
            why = reason(event.message)
        else:
            why = event.message.partition("\n")[0]
        said = ": ".join(filter(None, [f"{event.host} {event.outcome}", event.task, why]))
        lines = [Line(self.stamped(said, now), "red")]
        if (words := remedy(event.message)) and words not in self._told:
            # What two hundred hosts have in common is said once.
            self._told.add(words)
            lines.append(Line(f"        {words}"))
        return lines

    def picture(self, now: float, width: int, height: int, *, ascii_only: bool = False) -> Text:
        """Return the current phase and each host's task, at most so wide and high."""
        frames = _ASCII_FRAMES if ascii_only else _FRAMES
        frame = frames[int((now - self._begun) * _FRAMES_PER_SECOND) % len(frames)]
        with self._lock:
            lines = [self._head(frame, now)]
            lines += self._rows(now, width, max(0, height - _FREE_LINES - 1))
        for line in lines:
            # A line that ends in the last column would be broken by some terminals.
            line.truncate(max(1, width - 1), overflow="crop" if ascii_only else "ellipsis")
        return Text("\n").join(lines)

    def _head(self, frame: str, now: float) -> Text:
        if self._phase_begun is None:
            return Text(f"{frame} {elapsed(now - self._begun)}", style="dim")
        time = elapsed(now - self._phase_begun)
        head = Text.assemble((f"{frame} ", "cyan"), (self._phase, "bold"), f"  {time}")
        for words in self._counts():
            head.append(f"  {words}", style="red" if words.endswith("failed") else "dim")
        return head

    def _rows(self, now: float, width: int, free: int) -> list[Text]:
        done = len(self._hosts) - len(self._active)
        room = min(MOST_HOSTS, free)
        if room < len(self._active) or (done and room == free):
            room -= 1  # for the count
        if room < 0:
            return []
        shown = list(islice(self._active.items(), room))
        name = min(_MOST_NAME, max((len(host) for host, _ in shown), default=0))
        longest = max((len(what) for _, (what, _) in shown), default=0)
        task = max(1, min(longest, width - name - 16))
        rows = []
        for host, (what, since) in shown:
            row = Text(f"    {_cut(host, name)}  {_cut(what, task)}")
            row.append(f"{elapsed(now - since):>8}", style="dim")
            rows.append(row)
        more = len(self._active) - len(shown)
        counts = [f"{more} more running"] if more else []
        counts += [f"{done} done"] if done else []
        return rows + ([Text(f"    {', '.join(counts)}", style="dim")] if counts else [])


def _cut(text: str, width: int) -> str:
    return text.ljust(width) if len(text) <= width else f"{text[: max(0, width - 2)]}.."
