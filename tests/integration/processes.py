# SPDX-License-Identifier: Apache-2.0
"""The processes of this host, those within the machines included, by their command lines."""

from __future__ import annotations

import os
import re
import threading
from collections.abc import Iterator
from pathlib import Path

from waiting import NotYet, until

#: Seconds between two looks of a Watch.
INTERVAL = 0.1


def command_lines() -> Iterator[bytes]:
    """Yield what /proc tells of each process; arguments are separated by spaces."""
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                yield (entry / "cmdline").read_bytes().replace(b"\0", b" ").strip()
            except OSError:  # it has ended
                continue


def none_works_on(state: Path, limit: float) -> None:
    """Wait until no process names a cluster's state directory."""

    def look() -> None:
        found = [line.decode() for line in command_lines() if os.fsencode(state) in line]
        if found:
            raise NotYet("; ".join(found))

    until("without processes", look, limit)


class Watch:
    """Within it, counts command lines, and finds those that match a pattern."""

    def __init__(self, pattern: re.Pattern[str]) -> None:
        self.matching: set[str] = set()
        self.looks = 0
        self._pattern = pattern.pattern.encode()
        self._end = threading.Event()
        self._thread = threading.Thread(target=self._look, daemon=True)

    def __enter__(self) -> Watch:
        self._thread.start()
        return self

    def __exit__(self, *error: object) -> None:
        self._end.set()
        self._thread.join(10)

    def _look(self) -> None:
        while not self._end.wait(INTERVAL):
            self.looks += 1
            for line in command_lines():
                if re.search(self._pattern, line):
                    self.matching.add(line.decode(errors="replace").partition(" ")[0])
