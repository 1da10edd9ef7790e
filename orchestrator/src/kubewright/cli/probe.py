# SPDX-License-Identifier: Apache-2.0
"""What the nodes said when a run asked them: a line a node, and the preflight's findings."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from rich.console import RenderableType
from rich.text import Text

from kubewright.act import Event, Finding, HostResult, PhaseStarted
from kubewright.act.messages import reason
from kubewright.cli.findings import table
from kubewright.cli.output import counted
from kubewright.plan import Answer

#: More unchanged nodes than these are told as a number.
MOST_UNCHANGED = 10


class ProbeReport:
    """A listener of a run's progress. ``told``: the findings that the user has seen already.

    ``answers``: whether to tell what the nodes said, when all have.
    """

    def __init__(self, *, answers: bool, told: tuple[Finding, ...] = ()) -> None:
        self._tells_answers = answers
        self._told = told
        self._answers: dict[str, Answer] = {}
        self._silent: dict[str, str] = {}

    def __call__(self, event: Event) -> Sequence[RenderableType]:
        """Take an event; return what is to be printed now."""
        if isinstance(event, PhaseStarted):
            return self._summary()
        if not isinstance(event, HostResult):
            return ()
        if event.answer is not None:
            self._answers[event.host] = Answer.from_result(event.answer)
        elif event.outcome == "unreachable":
            self._silent[event.host] = reason(event.message)
        if event.findings and event.findings != self._told:
            self._told = event.findings
            return [*self._summary(), table(event.findings)]
        return ()

    def _summary(self) -> Sequence[RenderableType]:
        """All have answered when the next play begins, or when the preflight judges them."""
        if not self._answers:
            return ()
        lines = summary(self._answers, self._silent) if self._tells_answers else []
        self._tells_answers = False
        self._answers, self._silent = {}, {}
        return lines


def summary(answers: Mapping[str, Answer], silent: Mapping[str, str]) -> list[Text]:
    """Return a line for each node: what it needs. Many that need nothing are one line."""
    unchanged = [host for host, answer in answers.items() if not answer.drift]
    folded = set(unchanged) if len(unchanged) > MOST_UNCHANGED else set()
    told = sorted({*answers, *silent} - folded)
    width = max((len(host) for host in told), default=0)
    lines = [_line(host.ljust(width), answers.get(host), silent.get(host, "")) for host in told]
    return lines + ([Text(f"  {counted(len(folded), 'node')} unchanged")] if folded else [])


def _line(host: str, answer: Answer | None, why: str) -> Text:
    if answer is None:
        return Text(f"  {host}  does not answer: {why}", style="red")
    if not answer.drift:
        return Text(f"  {host}  unchanged")
    roles = ", ".join(answer.drift)
    word = "to change" if answer.phase == "joined" else "to join"
    return Text(f"  {host}  {word}: {roles}", style="yellow" if word == "to change" else "green")
