# SPDX-License-Identifier: Apache-2.0
"""All commands together, and the one place where a command's end becomes an exit code."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from importlib import import_module
from typing import Annotated, NoReturn

import typer

from kubewright import __version__
from kubewright.cli import streams
from kubewright.cli.exits import EXIT_CODES, CommandError, ExitCode
from kubewright.cli.failures import described
from kubewright.cli.interrupts import raise_on_signals
from kubewright.cli.output import Format, Output

#: In the order of the help. Each is a module of this package, which registers its command.
COMMANDS = (
    "validate",
    "plan",
    "apply",
    "status",
    "history",
    "logs",
    "kubeconfig",
    "identity",
    "reset",
    "destroy",
    "image",
    "node",
)

#: The command line is wrong. Typer has a click of its own in newer versions, and of its exceptions
#: it gives out this one's child alone.
_UsageError: type[Exception] = typer.BadParameter.__mro__[1]


def _version(asked: bool) -> None:
    if asked:
        typer.echo(f"kubewright {__version__}")
        raise typer.Exit


def _options(
    version: Annotated[
        bool,
        typer.Option("--version", help="Print the version.", callback=_version, is_eager=True),
    ] = False,
) -> None:
    """Hold the options of the command itself."""


def app(words: Sequence[str] = ()) -> typer.Typer:
    """Return the command for the words that it was called with.

    Only the command among them is imported: to import all takes as long as a ``status``. Without
    one, as for the help, it has all.
    """
    found = typer.Typer(
        name="kubewright",
        help="Highly available Kubernetes on machines you own, from one file.",
        epilog=EXIT_CODES,
        no_args_is_help=True,
        pretty_exceptions_enable=False,
        context_settings={"help_option_names": ["-h", "--help"]},
    )
    found.callback()(_options)
    named = next((word for word in words if not word.startswith("-")), "")
    for name in (named,) if named in COMMANDS else COMMANDS:
        import_module(f"kubewright.cli.{name}").register(found)
    return found


def run(arguments: list[str] | None = None) -> int:
    """Run a command and return its exit code. Nothing but SystemExit's code leaves it."""
    words = sys.argv[1:] if arguments is None else arguments
    output = Output(_form(words))
    try:
        streams.prepare()
        # For people the library words its own complaints; a program gets them as its document.
        command = app(words)
        ended = command(
            args=words, prog_name="kubewright", standalone_mode=output.form is Format.TEXT
        )
        return ended if isinstance(ended, int) else ExitCode.OK
    except SystemExit as end:
        return end.code if isinstance(end.code, int) else ExitCode.OK
    except KeyboardInterrupt:
        output.note("interrupted")
        return ExitCode.INTERRUPTED
    except BrokenPipeError:
        # The reader of our output has gone.
        streams.discard()
        return ExitCode.FAILED
    except _UsageError as error:
        return _tell(output, _usage(error))
    except Exception as error:
        return _tell(output, described(error))


def _usage(error: Exception) -> CommandError:
    """Return what is wrong with the words of the command line."""
    context = getattr(error, "ctx", None)
    command = context.command_path if context else "kubewright"
    told = getattr(error, "format_message", error.__str__)()
    remedy = f"See '{command} --help'."
    return CommandError(told, remedy=remedy, code=ExitCode.BAD_INPUT)


def _tell(output: Output, told: CommandError) -> ExitCode:
    try:
        output.error(told)
        sys.stdout.flush()
    except (OSError, CommandError):
        # What could be told was told; what is left can't be written anywhere.
        streams.discard()
    return told.code


def _form(words: list[str]) -> Format:
    """Return the format that the words ask for, for an error that comes before they are parsed."""
    for number, word in enumerate(words):
        value = word.removeprefix("--output=").removeprefix("-o") if word.startswith("-") else ""
        if word in ("-o", "--output"):
            value = words[number + 1] if number + 1 < len(words) else ""
        for form in Format:
            if value == form:
                return form
    return Format.TEXT


def main() -> NoReturn:
    """Entry point of the command."""
    raise_on_signals()
    sys.exit(run())
