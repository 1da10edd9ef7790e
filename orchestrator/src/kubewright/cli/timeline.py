# SPDX-License-Identifier: Apache-2.0
"""A trace as a picture for a terminal: who did what when, and what took longest. Pure."""

from __future__ import annotations

import io
import math
import string
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from rich.console import Console, ConsoleOptions, RenderResult
from rich.table import Table
from rich.text import Text

from kubewright.act import Trace, TracedTask

#: Columns of a picture that is not on a terminal, and of one in a file.
PIPE_COLUMNS = 100
SVG_COLUMNS = 120
COSTLIEST = 10

#: Told apart without colours too: each part has a letter. Red is for what went wrong.
_COLOURS = (
    "cyan",
    "green",
    "yellow",
    "magenta",
    "blue",
    "bright_cyan",
    "bright_green",
    "bright_yellow",
    "bright_magenta",
    "bright_blue",
)
_LETTERS = string.ascii_uppercase + string.ascii_lowercase
_WRONG = {"failed": "!", "unreachable": "!", "unfinished": "?"}
_WRONG_STYLE = "bold white on red"
_IDLE = "·"
_MIN_COLUMNS = 20
_MAX_LABEL = 30
#: Seconds between two marks of the axis, and how many columns a mark needs.
_STEPS = (0.1, 0.2, 0.5, 1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 900, 1800)
_MARK_COLUMNS = 8
#: Of columns: more than floating point is wrong by, less than is seen.
_ROUNDING = 1e-6


@dataclass(frozen=True)
class Cost:
    """What one task of a role or phase cost: on how many hosts, in all, and on the slowest."""

    part: str
    task: str
    hosts: int
    delegates: tuple[str, ...]
    seconds: float
    longest: float


def costliest(trace: Trace, number: int = COSTLIEST) -> list[Cost]:
    """Return the tasks that took most time, all hosts together, the costliest first."""
    groups: dict[tuple[str, str], list[TracedTask]] = {}
    for task in trace.tasks:
        groups.setdefault((task.part, task.task), []).append(task)
    costs = [
        Cost(
            part=part,
            task=name,
            hosts=len({task.host for task in tasks}),
            delegates=tuple(sorted({task.delegated for task in tasks if task.delegated})),
            seconds=sum(task.seconds for task in tasks),
            longest=max(task.seconds for task in tasks),
        )
        for (part, name), tasks in groups.items()
    ]
    return sorted(costs, key=lambda cost: (-cost.seconds, cost.part, cost.task))[:number]


def hosts(trace: Trace) -> list[str]:
    """Return the hosts of a trace: the controller first, the others by name."""
    return sorted(
        {task.host for task in trace.tasks},
        key=lambda host: (not any(task.local for task in trace.tasks if task.host == host), host),
    )


def span(trace: Trace) -> float:
    """Return how many seconds the time axis has: more than 0, and enough for every task."""
    return max([trace.seconds, 0.001, *(task.ended for task in trace.tasks)])


def row(tasks: Sequence[TracedTask], seconds: float, columns: int) -> list[TracedTask | None]:
    """Return what one host did in each column of the time axis: the task that took most of it."""
    width = seconds / columns
    found: list[TracedTask | None] = [None] * columns
    most = [-1.0] * columns
    for task in tasks:
        for column in _columns(task, width, columns):
            shared = min(task.ended, (column + 1) * width) - max(task.began, column * width)
            if shared > most[column]:
                found[column], most[column] = task, shared
    for task in tasks:
        # However short it was, what went wrong is seen.
        if task.outcome in _WRONG:
            found[_columns(task, width, columns)[-1]] = task
    return found


def _columns(task: TracedTask, width: float, columns: int) -> range:
    """Return the columns that a task has a share of: one at least, none that it only touches."""
    first = min(int(task.began / width + _ROUNDING), columns - 1)
    after = min(math.ceil(task.ended / width - _ROUNDING), columns)
    return range(first, max(first + 1, after))


def axis(seconds: float, columns: int) -> str:
    """Return the time axis: marks at round seconds, ``╷0 s    ╷10     ╷20``."""
    fitting = (step for step in _STEPS if step * columns / seconds >= _MARK_COLUMNS)
    step = next(fitting, 0.0)
    while not step or step * columns / seconds < _MARK_COLUMNS:
        step += 3600
    line = ""
    for number in range(int(seconds / step) + 1):
        column = int(number * step * columns / seconds)
        mark = f"╷{number * step:g}" + (" s" if number == 0 else "")
        if column + len(mark) <= columns:
            line = line.ljust(column) + mark
    return line


class Timeline:
    """What rich prints: heading, time axis, a row a host, legend, phases, slowest tasks."""

    def __init__(self, trace: Trace, heading: Sequence[str]) -> None:
        self._trace = trace
        self._heading = heading
        self._parts = list(dict.fromkeys(task.part for task in trace.tasks))

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        width = options.max_width if options.is_terminal else min(options.max_width, PIPE_COLUMNS)
        for number, line in enumerate(self._heading):
            yield Text(line, style="" if number else "bold")
        yield Text()
        yield from self._chart(width)
        yield Text()
        yield from self._legend(width)
        yield Text()
        yield self._phases()
        yield Text()
        yield self._costs()

    def _chart(self, width: int) -> Iterator[Text]:
        names = hosts(self._trace)
        label = min(_MAX_LABEL, max([len(name) for name in names], default=0)) + 2
        columns = max(_MIN_COLUMNS, width - label)
        seconds = span(self._trace)
        yield Text(" " * label + axis(seconds, columns), style="dim")
        for name in names:
            line = Text(name[: label - 2].ljust(label))
            tasks = [task for task in self._trace.tasks if task.host == name]
            for column, task in enumerate(row(tasks, seconds, columns)):
                if task is None:
                    line.append(_IDLE, style="dim")
                    continue
                last = _columns(task, seconds / columns, columns)[-1]
                wrong = _WRONG.get(task.outcome) if column == last else None
                line.append(wrong or self._letter(task.part), style=self._style(task.part, wrong))
            yield line

    def _letter(self, part: str) -> str:
        return _LETTERS[self._parts.index(part) % len(_LETTERS)]

    def _style(self, part: str, wrong: str | None = None) -> str:
        colour = _COLOURS[self._parts.index(part) % len(_COLOURS)]
        return _WRONG_STYLE if wrong else f"black on {colour}"

    def _legend(self, width: int) -> Iterator[Text]:
        """As many entries to a line as fit."""
        entries = [(self._letter(part), part, self._style(part)) for part in self._parts]
        wrong = {_WRONG[task.outcome] for task in self._trace.tasks if task.outcome in _WRONG}
        words = {"!": "failed or unreachable", "?": "cut"}
        entries += [(mark, words[mark], _WRONG_STYLE) for mark in sorted(wrong)]
        line = Text()
        for mark, name, style in entries:
            entry = Text.assemble((mark, style), f" {name}")
            if line and len(line) + 3 + len(entry) > width:
                yield line
                line = Text()
            line = Text.assemble(line, "   " if line else "", entry)
        yield line

    def _phases(self) -> Table:
        table = Table("phase", box=None)
        for name in ("seconds", "share"):
            table.add_column(name, justify="right")
        whole = span(self._trace)
        rest = self._trace.seconds
        for phase in self._trace.phases:
            table.add_row(Text(phase.name), f"{phase.seconds:.1f}", f"{phase.seconds / whole:.0%}")
            rest -= phase.seconds
        if rest >= 0.05:
            words = Text("Ansible start and exit", style="dim")
            table.add_row(words, f"{rest:.1f}", f"{rest / whole:.0%}")
        return table

    def _costs(self) -> Table:
        table = Table("slowest tasks", "of", box=None)
        for name in ("hosts", "total s", "longest s"):
            table.add_column(name, justify="right")
        for cost in costliest(self._trace):
            by = f" (by {', '.join(cost.delegates)})" if cost.delegates else ""
            table.add_row(
                Text(cost.task + by),
                Text(cost.part, style=self._style(cost.part)),
                str(cost.hosts),
                f"{cost.seconds:.1f}",
                f"{cost.longest:.1f}",
            )
        return table


def svg(timeline: Timeline, title: str, identity: str) -> str:
    """Return the picture as an SVG; the same one for the same trace, title and identity."""
    console = Console(
        record=True,
        file=io.StringIO(),
        width=SVG_COLUMNS,
        height=100,  # a size that is half given is completed from the terminal
        force_terminal=True,
        color_system="truecolor",
        no_color=False,
        legacy_windows=False,
        highlight=False,
    )
    console.print(timeline)
    return console.export_svg(title=title, unique_id=identity)
