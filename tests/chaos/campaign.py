# SPDX-License-Identifier: Apache-2.0
"""Kills an ``apply`` of a new cluster once at each task that changes something.

Each time the next ``apply`` has to finish it, and the one after that has to find nothing to do.
Points that passed are remembered for the content of the collection and the package: a run that was
cut goes on where it was. Run as root, by `make chaos`.
"""

from __future__ import annotations

import argparse
import re
import signal
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import FrameType
from typing import Protocol

from content import Place, content_hash
from points import Kill, kills, read_recording, select
from results import LabError, Outcome, Results, document, remaining, summary, table

from kubewright.image.paths import cache_dir

REPOSITORY = Path(__file__).resolve().parents[2]
#: Any constant: a test that is the same each day.
SEED = "1"


class Lab(Protocol):
    """What makes clusters and kills, see lab.py."""

    def record(self, path: Path) -> None:
        """Write to ``path`` what an apply of a new cluster changes."""

    def attempt(self, kill: Kill, keep: Callable[[Outcome], None], evidence: Path) -> None:
        """Kill an apply, repair it, and hand over the outcome."""


@dataclass(frozen=True)
class Wish:
    """What the command line asks for.

    ``count``: how many points at most.
    """

    seed: str = SEED
    only: str = ""
    count: int | None = None
    fresh: bool = False
    table: Path | None = None


def main(arguments: Sequence[str]) -> int:
    """Do what the command line says; return its exit status: 0 when all chosen points passed."""
    options = _parser().parse_args(arguments)
    wish = Wish(options.seed, options.only, options.points, options.fresh, options.table)
    content = content_hash(REPOSITORY)
    place = Place(cache_dir(), content, options.control_planes, options.workers)
    if options.list:
        return list_points(place, wish)
    signal.signal(signal.SIGTERM, _interrupt)
    try:
        with _lab(options.control_planes, options.workers) as bench:
            if options.record is not None:
                bench.record(options.record)
                return 0
            return run(place, wish, bench)
    except LabError as error:
        tell(str(error))
        return 1
    except KeyboardInterrupt:
        tell("interrupted; what passed is kept")
        return 130


def list_points(place: Place, wish: Wish) -> int:
    """Print the chosen points and what came of them; makes no cluster."""
    if not place.recording.exists():
        print(f"Nothing is recorded for this content yet ({place.recording}): run without --list.")
        return 1
    chosen = _choose(place.recording, wish)
    kept = Results(place.results(wish.seed)).kept()
    print(f"{summary(chosen, kept)}\n\n{table(chosen, kept)}", end="")
    return 0


def run(place: Place, wish: Wish, bench: Lab) -> int:
    """Record if nothing is recorded, kill at each chosen point, tell; return the exit status."""
    results = Results(place.results(wish.seed))
    if wish.fresh:
        place.recording.unlink(missing_ok=True)
        results.forget()
    if not place.recording.exists():
        tell(f"recording an apply of a new cluster, {place.size}")
        bench.record(place.recording)
    chosen = _choose(place.recording, wish)
    if not chosen:
        tell(f"no point has {wish.only!r} in its name; --list shows all")
        return 2
    todo = remaining(chosen, results.kept())
    tell(
        f"{len(chosen)} points chosen, {len(chosen) - len(todo)} passed earlier with the same "
        f"content (seed {wish.seed}, {results.path}); --fresh runs them again"
    )
    try:
        for number, kill in enumerate(todo, 1):
            _attempt(bench, f"{number}/{len(todo)}", kill, results, place, wish)
    finally:
        _publish(place, wish, chosen, results)
    return 1 if remaining(chosen, results.kept()) else 0


def tell(text: str) -> None:
    """Write a line of progress with the time."""
    print(f"{time.strftime('%H:%M:%S')}  {text}", file=sys.stderr, flush=True)


def _attempt(
    bench: Lab, number: str, kill: Kill, results: Results, place: Place, wish: Wish
) -> None:
    tell(f"{number}  {kill.name}: {kill.when}, on {kill.host} (delay {kill.delay:.1f} s)")
    begun = time.monotonic()

    def keep(outcome: Outcome) -> None:
        results.add(outcome)
        tell(f"{outcome.verdict} after {time.monotonic() - begun:.0f} s {outcome.why}")

    bench.attempt(kill, keep, place.evidence(wish.seed, kill.name))


def _choose(recording: Path, wish: Wish) -> list[Kill]:
    found = kills(read_recording(recording.read_text(encoding="utf-8")), wish.seed)
    return select(found, wish.seed, wish.only, wish.count)


def _publish(place: Place, wish: Wish, chosen: Sequence[Kill], results: Results) -> None:
    """Print the chosen points; write the table of all points where one was asked for."""
    kept = results.kept()
    print(f"{summary(chosen, kept)}\n\n{table(chosen, kept)}", end="")
    if wish.table is not None:
        head = (
            f"Written by `make chaos CHAOS_SEED={wish.seed}`; do not edit.",
            "Each row is a new cluster whose `apply` was killed with SIGKILL, all of its processes "
            "on the controller at once, at a task that changes something. The next `apply` had to "
            "finish the work; the one after that had to change nothing and to ask each node once; "
            "then nodes, etcd, DNS, tokens, processes and files were looked at. Host and moment "
            "come from the seed.",
            f"{place.control_planes} control planes, {place.workers} workers, "
            f"content {place.content[:16]}, seed {wish.seed}.",
        )
        every = _choose(place.recording, Wish(seed=wish.seed))
        wish.table.write_text(document(head, every, kept), encoding="utf-8")
        tell(f"written: {wish.table}")


@contextmanager
def _lab(control_planes: int, workers: int) -> Iterator[Lab]:
    """A lab in a temporary directory, which goes when the clusters are gone."""
    # Here, since it needs what the integration tests are made of on the path.
    from lab import Lab as RealLab

    with tempfile.TemporaryDirectory(prefix="kubewright-chaos-") as directory:
        yield RealLab(Path(directory), control_planes, workers, tell=tell)


def _interrupt(number: int, frame: FrameType | None) -> None:
    """Let a termination end the run as Ctrl-C does: with the cluster destroyed."""
    raise KeyboardInterrupt


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python tests/chaos",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add = parser.add_argument
    add("--list", action="store_true", help="show the points and their outcomes; make no cluster")
    add("--only", default="", metavar="TEXT", help="only points with TEXT in their name")
    add("--points", type=_positive, metavar="N", help="only N of these points, as the seed chooses")
    add(
        "--seed",
        type=_word,
        default=SEED,
        help=f"chooses hosts, moments and points (default {SEED})",
    )
    add("--fresh", action="store_true", help="record anew, and run what has passed already again")
    add("--control-planes", type=_positive, default=3, metavar="N", help="default 3")
    add("--workers", type=_positive, default=2, metavar="N", help="default 2")
    add("--record", type=Path, metavar="FILE", help="write what an apply changes there; kill none")
    add("--table", type=Path, metavar="FILE", help="write the table of all points there")
    return parser


def _word(text: str) -> str:
    if not re.fullmatch(r"[A-Za-z0-9_-]+", text):
        raise ValueError(text)
    return text


def _positive(text: str) -> int:
    number = int(text)
    if number < 1:
        raise ValueError(text)
    return number
