# SPDX-License-Identifier: Apache-2.0
"""Signals: they end a run cleanly, and everything else like Ctrl-C does."""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType

_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


def raise_on_signals() -> None:
    """Make SIGTERM and SIGHUP raise KeyboardInterrupt, so that what was opened is closed."""

    def interrupt(number: int, frame: FrameType | None) -> None:
        raise KeyboardInterrupt

    for number in _SIGNALS:
        signal.signal(number, interrupt)


@contextmanager
def cancelling(cancel: threading.Event, tell: Callable[[], None]) -> Iterator[None]:
    """While entered, signals set ``cancel`` instead; ``tell`` is called once, at the first."""

    def request(number: int, frame: FrameType | None) -> None:
        if not cancel.is_set():
            cancel.set()
            tell()

    before = {number: signal.signal(number, request) for number in _SIGNALS}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
