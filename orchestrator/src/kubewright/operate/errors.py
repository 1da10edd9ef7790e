# SPDX-License-Identifier: Apache-2.0
"""The one exception that says why an operation was not begun, or did not end well."""

from __future__ import annotations

from collections.abc import Mapping
from enum import Enum, auto
from typing import Any


class Why(Enum):
    """What kind of reason it was. The command makes an exit code of it."""

    #: It was tried and failed.
    FAILED = auto()
    #: The file, or what was asked for, is wrong; nothing was done.
    BAD_INPUT = auto()
    #: Nodes do not answer, or are not healthy.
    UNHEALTHY = auto()
    #: It would not do what was agreed to, or must not be done; nothing was done.
    REFUSED = auto()


class OperationError(Exception):
    """An operation ends here. ``message`` says what happened, ``remedy`` what to do about it.

    ``data`` is more of it for JSON and YAML.
    """

    def __init__(
        self,
        message: str,
        *,
        why: Why = Why.FAILED,
        remedy: str = "",
        data: Mapping[str, Any] | None = None,
    ) -> None:
        super().__init__(message)
        self.message = message
        self.why = why
        self.remedy = remedy
        self.data = data or {}
