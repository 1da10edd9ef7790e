# SPDX-License-Identifier: Apache-2.0
"""The failures of a run, kept beside its log: one JSON object a line, the first says the schema.

They are written as they come, so that those of a run that was killed are known too; at the run's
end they are replaced by those that made it fail.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import asdict
from pathlib import Path

from kubewright.act.result import Failure
from kubewright.store.files import replace

SCHEMA = 1
_HEAD = json.dumps({"schema": SCHEMA}) + "\n"


class FailuresError(Exception):
    """The record can't be used; the message names the file."""


def add(path: Path, failure: Failure) -> None:
    """Add one that has come."""
    new = not path.exists()
    with path.open("a", encoding="utf-8") as file:
        if new:
            path.chmod(0o600)
        file.write((_HEAD if new else "") + _line(failure))


def write(path: Path, failures: Iterable[Failure]) -> None:
    """Keep these alone."""
    replace(path, _HEAD + "".join(map(_line, failures)))


def read(path: Path) -> list[Failure] | None:
    """Return what is kept of a run; None where nothing is.

    :raises FailuresError: it is damaged, or of another version of Kubewright.
    """
    try:
        head, *lines = path.read_text(encoding="utf-8").splitlines()
    except FileNotFoundError:
        return None
    except ValueError as error:
        raise FailuresError(f"{path} is damaged: {error}") from error
    if f"{head}\n" != _HEAD:
        raise FailuresError(f"{path} does not have schema {SCHEMA}")
    found = []
    for number, line in enumerate(lines, 2):
        try:
            found.append(Failure(**json.loads(line)))
        except (ValueError, TypeError) as error:
            if number == len(lines) + 1:
                break  # the run was killed in the middle of it
            raise FailuresError(f"{path}: line {number} is damaged: {error}") from error
    return found


def _line(failure: Failure) -> str:
    return json.dumps(asdict(failure)) + "\n"
