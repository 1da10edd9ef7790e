# SPDX-License-Identifier: Apache-2.0
"""Exit codes, and the one exception that a command ends with."""

from __future__ import annotations

from collections.abc import Mapping
from enum import IntEnum
from typing import Any


class ExitCode(IntEnum):
    """What the command's exit code says. Scripts rely on these numbers: they never change."""

    OK = 0
    #: What was asked for was tried and failed.
    FAILED = 1
    #: cluster.yml or the command line is wrong; nothing was done.
    BAD_INPUT = 2
    #: The cluster or a machine can't be reached, or is not healthy.
    UNHEALTHY = 3
    #: Nobody said yes, or not to what would be done now; nothing was done.
    REFUSED = 4
    #: Another operation runs on this cluster and nothing was done, or it has taken over because
    #: this one stood still.
    LOCKED = 5
    #: Ended by a signal (the shell's 128 + 2).
    INTERRUPTED = 130


#: For --help.
EXIT_CODES = (
    "Exit codes: 0 success; 1 failed; 2 error in cluster.yml or on the command line; 3 not "
    "reachable or not healthy; 4 not confirmed; 5 another operation is running on this cluster, "
    "or took over from this one; 130 interrupted."
)


class CommandError(Exception):
    """The command ends here. ``message`` says what happened, ``remedy`` what to do about it.

    ``data`` is more of it for JSON and YAML.
    """

    def __init__(
        self,
        message: str,
        *,
        remedy: str = "",
        code: ExitCode = ExitCode.FAILED,
        data: Mapping[str, Any] | None = None,
    ) -> None:
        super().__init__(message)
        self.message = message
        self.remedy = remedy
        self.code = code
        self.data = data or {}
