# SPDX-License-Identifier: Apache-2.0
"""The runs that a cluster has had, from its journal and from the directories that are kept."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

from kubewright.agreed import lease
from kubewright.store.journal import Journal


@dataclass(frozen=True)
class Run:
    """One run. None and "" = not known.

    ``status``: successful, failed, canceled, error or abandoned; "in progress" while its process
    lives, "unfinished" when that died and no operation has come since. ``seconds`` are whole ones
    from the journal. ``directory`` is kept for the newest runs alone.
    """

    run: str
    directory: Path
    began: datetime | None = None
    operation: str = ""
    playbook: str = ""
    status: str = ""
    seconds: float | None = None


def history(journal: Journal, runs: Path) -> list[Run]:
    """Return all runs that are known, newest first; ``runs`` holds their directories.

    Those that only read are not told.
    """
    started: dict[str, Mapping[str, Any]] = {}
    finished: dict[str, Mapping[str, Any]] = {}
    lines = journal.lines()
    reads = {line["run"] for line in lines if line.get("reads")}
    for line in (line for line in lines if line["run"] not in reads):
        (started if line["event"] == "started" else finished)[str(line["run"])] = line
    kept = {entry.name for entry in runs.iterdir() if entry.is_dir()} if runs.is_dir() else set()
    # A run's id begins with the time.
    return [
        _run(run, runs / run, started.get(run, {}), finished.get(run, {}))
        for run in sorted(started.keys() | finished.keys() | kept, reverse=True)
    ]


def _run(run: str, directory: Path, started: Mapping[str, Any], finished: Mapping[str, Any]) -> Run:
    began, ended = _moment(started.get("at")), _moment(finished.get("at"))
    status = str(finished.get("status") or "")
    if started and not finished:
        status = "in progress" if _alive(started) else "unfinished"
    # When an abandoned run ended is not known: that is written when the next operation begins.
    timed = began is not None and ended is not None and status != "abandoned"
    return Run(
        run=run,
        directory=directory,
        began=began,
        operation=str(started.get("operation") or ""),
        playbook=str(started.get("playbook") or ""),
        status=status,
        seconds=(ended - began).total_seconds() if timed and began and ended else None,
    )


def _alive(started: Mapping[str, Any]) -> bool:
    """Whether the process that drives a run lives: pids are used again, begin times are not."""
    try:
        return bool(
            started["boot_id"] == lease.boot_id()
            and started["pid_started"] == lease.started(int(started["pid"]))
        )
    except (KeyError, TypeError, ValueError):
        return False


def _moment(text: object) -> datetime | None:
    try:
        return datetime.fromisoformat(str(text))
    except ValueError:
        return None
