# SPDX-License-Identifier: Apache-2.0
"""Waiting for what comes about by itself, with a limit and the last thing seen."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TypeVar

T = TypeVar("T")

#: Seconds between two looks.
INTERVAL = 0.5


class NotYet(Exception):
    """What is waited for has not come about; the text says what is there instead."""


class TimedOut(AssertionError):
    """The limit has passed."""


def until(what: str, look: Callable[[], T], limit: float, interval: float = INTERVAL) -> T:
    """Return what ``look`` gives once it no longer raises NotYet; ``limit`` is in seconds."""
    deadline = time.monotonic() + limit
    while True:
        try:
            return look()
        except NotYet as error:
            if time.monotonic() > deadline:
                raise TimedOut(f"after {limit:.0f} s not {what}: {error}") from None
        time.sleep(interval)
