# SPDX-License-Identifier: Apache-2.0
"""From the exceptions of the inner layers to what a user is told. Nobody gets a bare traceback."""

from __future__ import annotations

import os
import traceback
from datetime import UTC, datetime
from pathlib import Path

from kubewright.act import LeftoverError
from kubewright.act.messages import is_full, system_error
from kubewright.agreed import state
from kubewright.cli.exits import CommandError, ExitCode
from kubewright.image.errors import ImageError
from kubewright.image.paths import cache_dir
from kubewright.observe import CredentialsError
from kubewright.operate import OperationError, Why
from kubewright.spec import Problem, SpecError
from kubewright.spec.machines import MachinesError
from kubewright.spec.providers import ProviderError
from kubewright.store import Locked, Overtaken, StoreError
from kubewright.store.ownership import ForeignState

CODES = {
    Why.FAILED: ExitCode.FAILED,
    Why.BAD_INPUT: ExitCode.BAD_INPUT,
    Why.UNHEALTHY: ExitCode.UNHEALTHY,
    Why.REFUSED: ExitCode.REFUSED,
}


def described(error: Exception) -> CommandError:
    """Return what to tell of any exception; one that nobody expected is also written to a file."""
    match error:
        case CommandError():
            return error
        case OperationError():
            code = CODES[error.why]
            return CommandError(error.message, remedy=error.remedy, code=code, data=error.data)
        case SpecError():
            return CommandError(
                "\n".join(str(problem) for problem in error.problems),
                code=ExitCode.BAD_INPUT,
                data={"problems": [problem_data(problem) for problem in error.problems]},
            )
        case Locked():
            return CommandError(
                f"another operation is running on this cluster: {error.holder}",
                remedy=f"Wait until it has finished. It holds {error.path}.",
                code=ExitCode.LOCKED,
            )
        case Overtaken():
            return CommandError(
                str(error),
                remedy="Wait until that operation has finished, then run the command again.",
                code=ExitCode.LOCKED,
            )
        case ImageError():
            return CommandError(error.message, remedy=error.remedy)
        case CredentialsError():
            return CommandError(str(error), code=ExitCode.UNHEALTHY)
        case ForeignState():
            return CommandError(str(error.args[0]), remedy=error.remedy, code=ExitCode.BAD_INPUT)
        case LeftoverError() | MachinesError() | ProviderError() | StoreError():
            return CommandError(str(error))
        case OSError() if said := system_error(error, f"stdout, {state.root()} or {cache_dir()}"):
            remedy = (
                "Free some space (`df -h`), then run the command again." if is_full(error) else ""
            )
            return CommandError(said, remedy=remedy)
    return _unexpected(error)


def problem_data(problem: Problem) -> dict[str, str | int]:
    """Return a problem of a file as plain data."""
    return {
        "file": str(problem.file),
        "line": problem.line,
        "column": problem.column,
        "field": problem.field,
        "message": problem.message,
        "remedy": problem.remedy,
    }


def _unexpected(error: Exception) -> CommandError:
    text = "".join(traceback.format_exception(error))
    log = state.root() / f"error-{datetime.now(UTC):%Y%m%dT%H%M%S}-{os.getpid()}.txt"
    try:
        log.parent.mkdir(parents=True, exist_ok=True)
        _write_private(log, text)
    except OSError:
        return CommandError(f"unexpected error: {error!r}", remedy=text)
    return CommandError(
        f"unexpected error: {error!r}",
        remedy=f"This is a bug in Kubewright. Please report it, with {log}.",
    )


def _write_private(path: Path, text: str) -> None:
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    with os.fdopen(descriptor, "w", encoding="utf-8", errors="replace") as file:
        file.write(text)
