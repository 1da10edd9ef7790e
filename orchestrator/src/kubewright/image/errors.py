# SPDX-License-Identifier: Apache-2.0
"""The one exception that this package raises on purpose."""

from __future__ import annotations


class ImageError(Exception):
    """Something about system images went wrong.

    ``message`` says what happened and where, ``remedy`` what to do about it. Both are whole
    sentences for a user; ``str()`` joins them.
    """

    def __init__(self, message: str, remedy: str) -> None:
        super().__init__(message, remedy)
        self.message = message
        self.remedy = remedy

    def __str__(self) -> str:
        return f"{self.message} {self.remedy}".strip()
