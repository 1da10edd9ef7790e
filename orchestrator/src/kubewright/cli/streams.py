# SPDX-License-Identifier: Apache-2.0
"""The process's own streams: none is missing, none refuses a character, none complains at exit."""

from __future__ import annotations

import io
import os
import sys

from kubewright.cli.exits import CommandError


def prepare() -> None:
    """Make stdin, stdout and stderr usable, whatever this process was given.

    :raises CommandError: stdout is closed; nothing has been done yet.
    """
    # Python has None for a stream whose descriptor is closed.
    closed = [name for name in ("stdin", "stdout", "stderr") if getattr(sys, name) is None]
    for name in closed:
        # Else the next file that is opened gets its number, and what is printed ends there.
        descriptor = os.open(os.devnull, os.O_RDWR)
        os.set_inheritable(descriptor, True)
        setattr(sys, name, os.fdopen(descriptor, "r" if name == "stdin" else "w"))
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            # A cross mark that an encoding does not have is no reason to tell nothing.
            stream.reconfigure(errors="backslashreplace")
    if "stdout" in closed:
        raise CommandError(
            "stdout is closed: redirect it to a file or to /dev/null. Nothing was done"
        )


def discard() -> None:
    """Lead stdout and stderr nowhere: Python would complain of what it can't write at exit."""
    null = os.open(os.devnull, os.O_WRONLY)
    for stream in (sys.stdout, sys.stderr):
        os.dup2(null, stream.fileno())
    os.close(null)
