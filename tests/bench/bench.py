# SPDX-License-Identifier: Apache-2.0
"""The benchmark: measures, prints, writes down and draws.

Planning for clusters that are not there; the whole cluster by hand and by the command in turn; the
last one applied again, as it is and with one change. Needs root, a host that `make up` has
prepared, and half an hour. Results go to stdout, to results.json and into two pictures;
notes to stderr.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

import by_hand
import drawing
import host
import planning
import preparation
import rounds
from measured import Results, document, lines
from neighbour import REPOSITORY, VERSION
from telling import Failed, end_on_termination, say

OUTPUT = REPOSITORY / "docs/bench"

#: As shells have it for what SIGINT ended.
INTERRUPTED = 130


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure everything. Exit status 1: something failed, or was not as it must be."""
    options = _options(arguments)
    end_on_termination()
    try:
        found = _measure(options.rounds)
    except KeyboardInterrupt:
        say("Interrupted. The clusters are removed.")
        return INTERRUPTED
    # An AssertionError is a command of the cluster that failed.
    except (Failed, AssertionError, ValueError, OSError, subprocess.SubprocessError) as error:
        say(f"Error: {error}")
        say("The next run removes what this one may have left.")
        return 1
    for line in lines(found):
        print(line)
    sys.stdout.flush()
    if found.repeats.broken:
        for text in found.repeats.broken:
            say(f"Error: {text}")
        say(f"Nothing was written to {options.output}.")
        return 1
    options.output.mkdir(parents=True, exist_ok=True)
    text = json.dumps(document(found), indent=2) + "\n"
    (options.output / "results.json").write_text(text)
    drawing.whole_cluster(found, options.output / "whole-cluster.svg")
    drawing.planning(found, options.output / "planning.svg")
    return 0


def _measure(count: int) -> Results:
    # What needs no cluster comes first: if it fails, it does before an hour has passed.
    plans, documents = (planning.in_fresh_processes(what) for what in ("planning", "rendering"))
    preparation.prepare()
    by_hand.remove()
    with tempfile.TemporaryDirectory(prefix="kubewright-bench-") as directory:
        done, repeats = rounds.run(count, Path(directory))
    return Results(
        kubernetes=VERSION,
        machine=host.described(),
        rounds=done,
        repeats=repeats,
        planning=plans,
        rendering=documents,
    )


def _options(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument(
        "--rounds", type=_positive, default=3, help="how often the whole cluster is made (3)"
    )
    parser.add_argument(
        "--output", type=Path, default=OUTPUT, help="directory of results.json and the pictures"
    )
    return parser.parse_args(arguments)


def _positive(text: str) -> int:
    number = int(text)
    if number < 1:
        raise argparse.ArgumentTypeError(f"{number} is not at least 1")
    return number


if __name__ == "__main__":
    sys.exit(main())
