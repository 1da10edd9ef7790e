# SPDX-License-Identifier: Apache-2.0
"""An operation on a terminal: its progress, and the signals that end it."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from kubewright.act import Event
from kubewright.cli.interrupts import cancelling
from kubewright.cli.output import Output
from kubewright.cli.progress import Listener, Progress


class Terminal:
    """A :class:`kubewright.operate.Watch`. ``listener`` adds to what is shown of a run."""

    def __init__(self, out: Output, listener: Listener | None = None) -> None:
        self._out = out
        self._listener = listener

    def note(self, text: str) -> None:
        """Print a line."""
        self._out.note(text)

    def warn(self, text: str) -> None:
        """Print a line in yellow."""
        self._out.note(text, style="yellow")

    @contextmanager
    def building(self) -> Iterator[Callable[[str], None]]:
        """Print each step with the time."""
        with Progress(self._out.notes) as progress:
            yield progress.line

    @contextmanager
    def running(self, cancel: threading.Event) -> Iterator[Callable[[Event], None]]:
        """Show how a run goes; signals cancel it."""

        def tell() -> None:
            self.warn("interrupted: stopping the run, which takes some seconds")

        with (
            cancelling(cancel, tell),
            Progress(self._out.notes, listener=self._listener) as progress,
        ):
            yield progress
