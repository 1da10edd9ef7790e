# SPDX-License-Identifier: Apache-2.0
"""Notes to the person who waits, the one kind of error, and signals."""

from __future__ import annotations

import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType


class Failed(Exception):
    """The measurement can't go on; the text says what happened, where, and what to do."""


def say(text: str) -> None:
    """Write a line to stderr: stdout has results alone."""
    print(text, file=sys.stderr, flush=True)


def end_on_termination() -> None:
    """Let a termination end the process as Ctrl-C does: with every cluster removed."""

    def interrupt(number: int, frame: FrameType | None) -> None:
        raise KeyboardInterrupt

    signal.signal(signal.SIGTERM, interrupt)


@contextmanager
def unbothered() -> Iterator[None]:
    """Within, Ctrl-C and a termination are answered and change nothing: something is removed.

    They are handled and not ignored: children would inherit that.
    """

    def tell(number: int, frame: FrameType | None) -> None:
        say("removing what was made, this takes some seconds")

    kept = {number: signal.signal(number, tell) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        for number, handler in kept.items():
            signal.signal(number, handler)
