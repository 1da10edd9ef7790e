# SPDX-License-Identifier: Apache-2.0
"""The directories of runs: one each, private, and in the end a log and a trace alone."""

from __future__ import annotations

import shutil
from collections.abc import Iterable
from pathlib import Path

from kubewright.store.files import private_directory

#: The full output of a run, readable, mode 0600.
LOG = "log.txt"
#: Where the run's time went, mode 0600; neither arguments nor results are in it.
TRACE = "trace.json"
#: What failed in the run, mode 0600.
FAILURES = "failures.jsonl"
#: How many runs' logs and traces are kept.
KEPT = 50


def new_directory(runs: Path, run: str) -> Path:
    """Make the directory of a run, mode 0700. It must not exist yet."""
    private_directory(runs)
    directory = runs / run
    directory.mkdir(mode=0o700)
    return directory


def keep_records(directory: Path) -> None:
    """Remove what a run left but log, trace and failures: the rest holds arguments and results."""
    for entry in directory.iterdir():
        if entry.name in (LOG, TRACE, FAILURES):
            continue
        if entry.is_dir() and not entry.is_symlink():
            shutil.rmtree(entry, ignore_errors=True)
        else:
            entry.unlink(missing_ok=True)


def prune(runs: Path, order: Iterable[str] = (), kept: int = KEPT) -> None:
    """Keep the newest runs' logs and traces. Call it when no run is in progress.

    ``order``: the runs that the journal has, as they came. Ids alone would take the last run for
    the oldest where the clock went back.
    """
    if not runs.is_dir():
        return
    place = {run: number for number, run in enumerate(order)}
    directories = sorted(
        (entry for entry in runs.iterdir() if entry.is_dir()),
        key=lambda entry: (place.get(entry.name, -1), entry.name),
    )
    for directory in directories[: max(0, len(directories) - kept)]:
        shutil.rmtree(directory, ignore_errors=True)
    for directory in directories[-kept:]:
        keep_records(directory)
