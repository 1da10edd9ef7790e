# SPDX-License-Identifier: Apache-2.0
"""by_hand.sh: what it prints, and running it so that nothing of it stays."""

from __future__ import annotations

import os
import signal
import subprocess
import tempfile
from pathlib import Path
from typing import IO

from measured import Timed
from telling import Failed, say, unbothered

SCRIPT = Path(__file__).with_name("by_hand.sh")

#: Seconds for the whole cluster, far above what is measured: they end what hangs.
LIMIT = 900.0
#: Seconds for removing it.
REMOVE_LIMIT = 180.0
#: Lines of its stderr that an error repeats.
TAIL = 40


def parse(stdout: str) -> Timed:
    """Return what its lines ``phase NAME SECONDS`` and ``total SECONDS`` say.

    :raises ValueError: a line of another form, a phase twice, or no total.
    """
    phases: dict[str, float] = {}
    total: float | None = None
    for line in stdout.splitlines():
        match line.split():
            case ["phase", name, seconds] if name not in phases and total is None:
                phases[name] = float(seconds)
            case ["total", seconds] if total is None:
                total = float(seconds)
            case _:
                raise ValueError(f"by_hand.sh printed {line!r}, which is not expected there")
    if total is None:
        raise ValueError("by_hand.sh printed no total")
    return Timed(total, phases)


def run() -> Timed:
    """Make the cluster by hand and remove it again; return how long making it took.

    :raises Failed: it was not made, with the end of what the script said.
    """
    with tempfile.TemporaryFile() as log:
        # A session of its own: a signal for the script then reaches what it waits for, too, and
        # Ctrl-C reaches it through us alone. A shell runs its traps only between commands.
        process = subprocess.Popen(
            ["bash", str(SCRIPT)],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=log,
            text=True,
            start_new_session=True,
        )
        try:
            stdout, _ = process.communicate(timeout=LIMIT)
        except BaseException as error:
            _stop(process)
            if isinstance(error, subprocess.TimeoutExpired):
                raise Failed(f"by hand: not ended after {LIMIT:.0f} s\n{_tail(log)}") from None
            raise
        if process.returncode != 0:
            raise Failed(f"by hand: exit status {process.returncode}\n{_tail(log)}")
        try:
            return parse(stdout)
        except ValueError as error:
            raise Failed(f"by hand: {error}") from error


def _stop(process: subprocess.Popen[str]) -> None:
    """End the script, which then removes what it made; and remove it, if it could not."""
    with unbothered():
        say("by hand: interrupted, removing its machines")
        try:
            os.killpg(process.pid, signal.SIGTERM)
        except ProcessLookupError:
            pass  # it has ended by itself
        try:
            process.wait(REMOVE_LIMIT)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait(30)
        remove()


def remove() -> None:
    """Remove what an earlier run left; nothing happens where there is nothing.

    :raises Failed: podman refused.
    """
    result = subprocess.run(
        ["bash", str(SCRIPT), "remove"],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=REMOVE_LIMIT,
        check=False,
        start_new_session=True,
    )
    if result.returncode != 0:
        raise Failed(f"by hand: its machines were not removed; see podman ps\n{result.stderr}")


def _tail(log: IO[bytes]) -> str:
    log.seek(0)
    return "\n".join(log.read().decode(errors="replace").splitlines()[-TAIL:])
