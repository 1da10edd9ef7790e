# SPDX-License-Identifier: Apache-2.0
"""Run the longer suites of tests that recent changes can break, as many as fit.

    python tools/suites.py --used SECONDS

tests/suites.yml says which suite is for which part of the tree. A suite waits when a commit of the
last two days changed something of its part. The one whose last success on this machine is oldest
comes first, one without a success before all others; of these the table's order counts. Exit code
1 when a suite fails. ``--used`` is what has gone already of the time that CI has.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import time
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

import yaml

from kubewright.image.paths import cache_dir

REPOSITORY = Path(__file__).resolve().parents[1]
TABLE = REPOSITORY / "tests/suites.yml"
#: Outside the checkout, since CI's is a new one each time. Not there on a new machine.
RECORD = cache_dir() / "suites.json"
SINCE = "2 days ago"
#: Seconds. CI ends within the first, unless `make test` alone takes longer, as it does where
#: everything is compiled; suites get no more than the second.
WHOLE, LONGEST = 45 * 60.0, 40 * 60.0


@dataclass(frozen=True)
class Suite:
    """`make NAME`; ``seconds`` it takes, and shell patterns of its part of the tree.

    A pattern's `*` also stands for slashes.
    """

    name: str
    seconds: float
    paths: Sequence[str]

    def covers(self, path: str) -> bool:
        """Whether a change of that file can break what the suite tries."""
        return any(fnmatchcase(path, pattern) for pattern in self.paths)


@dataclass(frozen=True)
class Success:
    """When a suite passed last on this machine, in seconds since 1970, and how long it took."""

    at: float
    seconds: float


Successes = Mapping[str, Success]


def budget(used: float) -> float:
    """Seconds that suites have where ``used`` have gone already."""
    return max(0.0, min(LONGEST, WHOLE - used))


def waiting(
    suites: Iterable[Suite], changed: Collection[str], passed: Successes
) -> list[tuple[Suite, float]]:
    """The suites of what changed, in the order of their turn, with the seconds they will take."""
    touched = [suite for suite in suites if any(suite.covers(path) for path in changed)]
    never = Success(at=0.0, seconds=0.0)
    touched.sort(key=lambda suite: passed.get(suite.name, never).at)  # stable
    return [
        (suite, passed[suite.name].seconds if suite.name in passed else suite.seconds)
        for suite in touched
    ]


def first_that_fits(turns: Sequence[tuple[Suite, float]], left: float) -> Suite | None:
    """The first that takes no more than the seconds that are left."""
    return next((suite for suite, seconds in turns if seconds <= left), None)


def read_table(text: str) -> list[Suite]:
    """The suites of tests/suites.yml."""
    return [Suite(**entry) for entry in yaml.safe_load(text)["suites"]]


def read_record(path: Path) -> dict[str, Success]:
    """What passed on this machine: nothing where there is no record yet."""
    if not path.exists():
        return {}
    document: dict[str, Any] = json.loads(path.read_text())
    return {name: Success(**entry) for name, entry in document.items()}


def write_record(path: Path, name: str, success: Success) -> None:
    """Add a success. What other runs wrote meanwhile stays."""
    path.parent.mkdir(parents=True, exist_ok=True)
    entries = {**read_record(path), name: success}
    whole = path.with_name(f"{path.name}.{os.getpid()}")
    whole.write_text(json.dumps({key: asdict(entry) for key, entry in entries.items()}, indent=1))
    whole.replace(path)


def changed_files() -> set[str]:
    """Files that commits of the last two days changed."""
    log = ["git", "log", f"--since={SINCE}", "--name-only", "--format=", "-z"]
    done = subprocess.run(log, cwd=REPOSITORY, stdout=subprocess.PIPE, text=True, check=True)
    return {path for path in done.stdout.split("\0") if path}


def run(suites: Sequence[Suite], left: float) -> bool:
    """Run what fits, one after the other; return whether all of them passed."""
    begun = time.monotonic()
    turns = waiting(suites, changed_files(), read_record(RECORD))
    told: dict[str, str] = {}
    while suite := first_that_fits(turns, left - (time.monotonic() - begun)):
        turns = [turn for turn in turns if turn[0] != suite]
        print(f"== make {suite.name}", flush=True)
        started = time.monotonic()
        status = subprocess.run(["make", suite.name], cwd=REPOSITORY, check=False).returncode
        seconds = time.monotonic() - started
        told[suite.name] = f"{'failed' if status else 'passed'}, {minutes(seconds)}"
        if not status:
            write_record(RECORD, suite.name, Success(time.time(), seconds))
    for suite, seconds in turns:
        told[suite.name] = f"left out, no time: {minutes(seconds)} are needed"
    print(f"== suites of what changed in the last two days, {minutes(left)} for them")
    for suite in suites:
        print(f"{suite.name:10} {told.get(suite.name, 'left out, nothing of it changed')}")
    return not any(text.startswith("failed") for text in told.values())


def minutes(seconds: float) -> str:
    """Seconds, told in minutes."""
    return f"{seconds / 60:.1f} min"


def main(arguments: Sequence[str] | None = None) -> int:
    """Run it."""
    parser = argparse.ArgumentParser(description="Run the suites that recent changes can break.")
    parser.add_argument("--used", type=float, required=True, help="seconds that have gone already")
    options = parser.parse_args(arguments)
    suites = read_table(TABLE.read_text(encoding="utf-8"))
    return 0 if run(suites, budget(options.used)) else 1


if __name__ == "__main__":
    sys.exit(main())
