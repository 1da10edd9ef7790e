# SPDX-License-Identifier: Apache-2.0
"""How a run goes: a line when a play begins and ends, and at once for each host that fails.

On a terminal a picture below the lines shows the play that is in progress, and who is at what.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence

from rich.console import Console, RenderableType
from rich.live import Live
from rich.text import Text

from kubewright.act import Event
from kubewright.cli.board import Board, Line

#: Pictures in a second.
REFRESH = 4

#: Takes an event, and returns what is to be printed because of it.
Listener = Callable[[Event], Sequence[RenderableType]]


class Progress:
    """Context manager and event handler. Lines begin with the time since it was entered.

    ``listener`` may add to what is printed. Events are taken in one thread, pictures are made in
    another: how many nodes there are changes nothing of what an event costs.
    """

    def __init__(
        self,
        console: Console,
        clock: Callable[[], float] = time.monotonic,
        listener: Listener | None = None,
    ) -> None:
        self._console = console
        self._clock = clock
        self._listener = listener
        self._board = Board(clock())
        self._live: Live | None = None

    def __enter__(self) -> Progress:
        if _moves_the_cursor(self._console):
            self._live = Live(
                get_renderable=self._picture,
                console=self._console,
                refresh_per_second=REFRESH,
                transient=True,
                vertical_overflow="crop",
            )
            self._live.start()
        return self

    def __exit__(self, *_: object) -> None:
        try:
            self._print(self._board.end(self._clock()))
        finally:
            if self._live is not None:
                self._live.stop()

    def line(self, text: str, style: str = "") -> None:
        """Print a line with the time."""
        self._print([Line(self._board.stamped(text, self._clock()), style)])

    def __call__(self, event: Event) -> None:
        """Show one event of a run."""
        self._print(self._board.feed(event, self._clock(), begins=self._live is None))
        for part in self._listener(event) if self._listener else ():
            self._console.print(part)

    def _print(self, lines: Sequence[Line]) -> None:
        for line in lines:
            self._console.print(line.text, style=line.style, markup=False, emoji=False)

    def _picture(self) -> Text:
        size = self._console.size
        ascii_only = not self._console.encoding.startswith("utf")
        return self._board.picture(self._clock(), size.width, size.height, ascii_only=ascii_only)


def _moves_the_cursor(console: Console) -> bool:
    """Whether lines can be drawn anew: FORCE_COLOR makes a file look like a terminal to rich."""
    return console.is_terminal and not console.is_dumb_terminal and console.file.isatty()
