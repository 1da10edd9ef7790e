# SPDX-License-Identifier: Apache-2.0
"""Who is told how an operation goes: the command's terminal, the daemon's log."""

from __future__ import annotations

import threading
from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import Protocol

from kubewright.act import Event


class Watch(Protocol):
    """Told of an operation while it goes. It can end it."""

    def note(self, text: str) -> None:
        """Take a sentence for people, which is no part of the result."""

    def warn(self, text: str) -> None:
        """Take a sentence for people that they should not miss."""

    def building(self) -> AbstractContextManager[Callable[[str], None]]:
        """Enter while system images are built; what it gives takes a line for each step."""

    def running(self, cancel: threading.Event) -> AbstractContextManager[Callable[[Event], None]]:
        """Enter while a playbook runs; what it gives takes the run's events, in another thread.

        While it is entered, setting ``cancel`` ends the run.
        """
