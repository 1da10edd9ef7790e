# SPDX-License-Identifier: Apache-2.0
"""Progress in plain words, from several threads, one line at a time."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

_HEARTBEAT_SECONDS = 30.0


class Report:
    """Passes lines to the caller's function together with the seconds since the start."""

    def __init__(self, progress: Callable[[str, float], None] | None) -> None:
        self._progress = progress
        self._mutex = threading.Lock()
        self._start = time.monotonic()

    def line(self, text: str) -> None:
        if self._progress is not None:
            with self._mutex:
                self._progress(text, time.monotonic() - self._start)

    def done(self, text: str, seconds: float) -> None:
        """``text`` ends with a past participle: "coredns built" -> "coredns built in 1m15s"."""
        self.line(f"{text} in {duration(seconds)}")

    @contextmanager
    def heartbeat(self, text: str, log: Path) -> Iterator[None]:
        """While the block runs, say every half minute that it still does.

        ``log`` is go's output: with -v it names each package that is compiled, from here on.
        """
        finished = threading.Event()
        start = log.stat().st_size if log.exists() else 0
        began = time.monotonic()

        def beat() -> None:
            while not finished.wait(_HEARTBEAT_SECONDS):
                packages = _compiled(log, start)
                spent = duration(time.monotonic() - began)
                self.line(f"{text}: {spent} so far, {packages} packages compiled")

        thread = threading.Thread(target=beat, name="heartbeat", daemon=True)
        thread.start()
        try:
            yield
        finally:
            finished.set()
            thread.join()


def duration(seconds: float) -> str:
    """``0.4s``, ``12s``, ``4m10s``."""
    if seconds < 10:
        return f"{seconds:.1f}s"
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes}m{rest:02d}s" if minutes else f"{rest}s"


def _compiled(log: Path, start: int) -> int:
    try:
        with log.open("rb") as file:
            file.seek(start)
            return sum(not line.startswith((b"$", b"go: ", b"#")) for line in file)
    except OSError:
        return 0
