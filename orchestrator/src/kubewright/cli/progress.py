# SPDX-License-Identifier: Apache-2.0
"""How a run goes: a line when a play begins and ends, and at once for each host that fails.

On a terminal the play that is under way is shown in a line that changes.
"""

from __future__ import annotations

import time
from collections.abc import Callable

from rich.console import Console
from rich.status import Status

from kubewright.act import Event, HostResult, PhaseStarted, TaskStarted
from kubewright.cli.output import counted, elapsed


class Progress:
    """Context manager and event handler. Lines begin with the time since it was entered."""

    def __init__(self, console: Console, clock: Callable[[], float] = time.monotonic) -> None:
        self._console = console
        self._clock = clock
        self._begun = clock()
        self._phase = ""
        self._phase_begun: float | None = None
        self._changed: set[str] = set()
        self._hosts: set[str] = set()
        self._status: Status | None = None

    def __enter__(self) -> Progress:
        if self._console.is_terminal:
            self._status = self._console.status("")
            self._status.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._end_phase()
        if self._status is not None:
            self._status.stop()

    def line(self, text: str, style: str = "") -> None:
        """Print a line with the time."""
        stamp = f"[{elapsed(self._clock() - self._begun):>5}]"
        self._console.print(f"{stamp} {text}", style=style, markup=False)

    def __call__(self, event: Event) -> None:
        """Show one event of a run."""
        if isinstance(event, PhaseStarted):
            self._end_phase()
            self._phase = event.name
        elif isinstance(event, TaskStarted):
            self._begin_phase()
            self._show(f"{event.phase}: {event.name}")
        else:
            self._host(event)

    def _begin_phase(self) -> None:
        """A play is told of when its first task begins: one without hosts has none."""
        if self._phase_begun is None:
            self._phase_begun = self._clock()
            if self._status is None:
                self.line(self._phase)

    def _end_phase(self) -> None:
        if self._phase_begun is not None:
            seconds = self._clock() - self._phase_begun
            hosts = f", {counted(len(self._hosts), 'host')}" if self._hosts else ""
            changed = f", {len(self._changed)} changed" if self._changed else ""
            self.line(f"{self._phase}: {seconds:.0f} s{hosts}{changed}", style="green")
        self._phase_begun = None
        self._hosts, self._changed = set(), set()

    def _host(self, event: HostResult) -> None:
        self._hosts.add(event.host)
        if event.outcome == "changed":
            self._changed.add(event.host)
        elif event.outcome in ("failed", "unreachable") and not event.ignored:
            said = [f"{event.host} {event.outcome}", event.task, *event.message.splitlines()[:1]]
            self.line(": ".join(said), style="red")

    def _show(self, text: str) -> None:
        if self._status is not None:
            self._status.update(text.replace("[", "\\["))
