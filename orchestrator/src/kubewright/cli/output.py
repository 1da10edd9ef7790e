# SPDX-License-Identifier: Apache-2.0
"""Results go to stdout in the format that was asked for; everything else goes to stderr."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from enum import StrEnum
from typing import Any

import yaml
from rich.console import Console, RenderableType

from kubewright.cli.exits import CommandError, ExitCode

#: Columns of what is not shown on a terminal: wide enough that no line is broken.
WIDTH = 400


class Format(StrEnum):
    """How a result is printed."""

    TEXT = "text"
    JSON = "json"
    YAML = "yaml"


class Output:
    """Where a command writes. ``notes`` is stderr: progress, questions, errors.

    Both consoles know of terminals, of NO_COLOR and of FORCE_COLOR (rich does).
    """

    def __init__(self, form: Format = Format.TEXT) -> None:
        self.form = form
        self.notes = Console(stderr=True, highlight=False, soft_wrap=True)
        self._results = Console(highlight=False, soft_wrap=True)
        for console in (self.notes, self._results):
            if not console.is_terminal:
                console.width = WIDTH

    def result(self, data: Any, text: RenderableType) -> None:
        """Print a result: as text for people, or its data as one JSON or YAML document.

        :raises CommandError: stdout does not take it (a full disk).
        """
        with _told_by_stdout():
            if self.form is Format.TEXT:
                self._results.print(text, markup=False)
            else:
                sys.stdout.write(serialised(data, self.form))
                sys.stdout.flush()

    def straight(self, text: str) -> None:
        """Print a part of a result that is text, as it is. Rich would take it apart, which costs.

        :raises CommandError: stdout does not take it.
        """
        with _told_by_stdout():
            sys.stdout.write(text)
            sys.stdout.flush()

    def note(self, text: str, style: str = "") -> None:
        """Print a line for people."""
        self.notes.print(text, style=style, markup=False)

    def error(self, error: CommandError) -> None:
        """Print why a command ends; with JSON or YAML also as its one document."""
        self.note(f"Error: {error.message}", style="red")
        if error.remedy:
            self.note(error.remedy)
        if self.form is not Format.TEXT:
            described = {
                "message": error.message,
                "remedy": error.remedy,
                "exit_code": int(error.code),
            }
            self.result({**error.data, "error": described}, "")

    def must_be_able_to_ask(self) -> None:
        """Return when somebody can answer a question.

        :raises CommandError: code 4, when nobody can.
        """
        if not sys.stdin.isatty():
            raise CommandError(
                "can't ask for confirmation: stdin is not a terminal",
                remedy="Use --yes to skip the confirmation.",
                code=ExitCode.REFUSED,
            )

    def confirm(self, question: str, *, yes: bool) -> None:
        """Return when the user says yes.

        :raises CommandError: code 4, when they do not, or when nobody can be asked.
        """
        if yes:
            return
        self.must_be_able_to_ask()
        self.notes.print(f"{question} [y/N] ", end="", markup=False)
        try:
            answer = input()
        except EOFError:
            answer = ""
        if answer.strip().lower() not in ("y", "yes"):
            raise CommandError("not confirmed; nothing was done", code=ExitCode.REFUSED)


@contextmanager
def _told_by_stdout() -> Iterator[None]:
    """Say of what is wrong with stdout that it is with stdout; a reader that has gone is no fault.

    :raises CommandError: stdout does not take what is written.
    """
    try:
        yield
    except BrokenPipeError:
        raise
    except OSError as error:
        raise CommandError(f"can't write the result to stdout: {error.strerror}") from error


def serialised(data: Any, form: Format) -> str:
    """Return plain data as one document that ends with a line's end.

    In ASCII, with the escapes of JSON or YAML: right in every encoding that stdout may have.
    """
    if form is Format.JSON:
        return json.dumps(data, indent=2) + "\n"
    return str(yaml.safe_dump(_plain(data), sort_keys=False))


def _plain(data: Any) -> Any:
    """Return data without tuples, which YAML would tag as Python's."""
    if isinstance(data, Mapping):
        return {key: _plain(value) for key, value in data.items()}
    if isinstance(data, list | tuple):
        return [_plain(value) for value in data]
    return data


def elapsed(seconds: float) -> str:
    """Return a duration as ``m:ss``, or ``h:mm:ss`` from an hour on."""
    minutes, rest = divmod(int(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"


def counted(number: int, noun: str) -> str:
    """Return ``1 machine`` or ``2 machines``."""
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"


def sentence(parts: Iterable[str]) -> str:
    """Return ``A, b and so on.`` of ``a``, ``b and so on``."""
    words = ", ".join(parts)
    return f"{words[:1].upper()}{words[1:]}."
