# SPDX-License-Identifier: Apache-2.0
"""Options that several commands have."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Annotated

import typer

from kubewright.cli.output import Format
from kubewright.spec import Spec, load

DEFAULT_FILE = Path("cluster.yml")
_SUFFIXES = (".yml", ".yaml")


def completed(
    ctx: typer.Context, incomplete: str, known: Callable[[Spec], Iterable[str]]
) -> list[str]:
    """Return those words that a cluster knows and that begin so, for the shell."""
    try:
        words = list(known(load(Path(str(ctx.params.get("file") or DEFAULT_FILE)))))
    except Exception:
        return []  # a shell that completes has no place for a message; the command will tell
    return [word for word in words if word.startswith(incomplete)]


def complete_file(incomplete: str) -> list[str]:
    """Return the YAML files that begin so, and directories on the way to some, for the shell."""
    found = _below(incomplete)
    # The only directory is gone into: the shell would take it for the whole word.
    if len(found) == 1 and found[0].endswith("/"):
        return _below(found[0]) or found
    return found


def _below(incomplete: str) -> list[str]:
    place, _, begin = incomplete.rpartition("/")
    prefix = incomplete[: len(incomplete) - len(begin)]
    directory = Path(place or ("/" if prefix else ".")).expanduser()
    try:
        entries = sorted(directory.iterdir())
    except OSError:
        return []  # nothing is there to be offered
    return [
        f"{prefix}{entry.name}{'/' if entry.is_dir() else ''}"
        for entry in entries
        if entry.name.startswith(begin)
        and (not entry.name.startswith(".") or begin.startswith("."))
        and (entry.is_dir() or entry.suffix in _SUFFIXES)
    ]


File = Annotated[
    Path,
    typer.Option(
        "-f",
        "--file",
        help="The cluster file.",
        show_default=True,
        autocompletion=complete_file,
    ),
]
Form = Annotated[Format, typer.Option("-o", "--output", help="Format of the result on stdout.")]
Yes = Annotated[bool, typer.Option("--yes", "-y", help="Do not ask for confirmation.")]
