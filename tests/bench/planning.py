# SPDX-License-Identifier: Apache-2.0
"""What planning costs the controller, for clusters that are not there.

    python planning.py NODES      spec, inventory and plan, from one answer a node

prints one JSON object: ``nodes``, ``stages`` (CPU seconds by name), ``peak_mb``. rendering.py does
the same for documents. A process measures one size and ends, so that its peak is its own.
"""

from __future__ import annotations

import json
import re
import resource
import subprocess
import sys
from collections.abc import Callable, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TypeVar

import simulated
from measured import Simulated
from telling import Failed, say

from kubewright.spec import roster

T = TypeVar("T")

SIZES = (100, 1000)
#: What takes less CPU time than this, in seconds, is done again until it has, for a mean.
ENOUGH = 0.5
#: Seconds that one size may take.
LIMIT = 1800.0


def in_fresh_processes(what: str, sizes: Sequence[int] = SIZES) -> list[Simulated]:
    """Return the costs of ``planning`` or ``rendering`` by size, each from a process of its own.

    :raises Failed: one of them failed, with what it said.
    """
    found = []
    for nodes in sizes:
        say(f"{what}: {nodes} simulated nodes")
        words = [sys.executable, str(Path(__file__).with_name(f"{what}.py")), str(nodes)]
        result = subprocess.run(words, capture_output=True, text=True, timeout=LIMIT, check=False)
        if result.returncode != 0:
            raise Failed(f"{what} of {nodes} nodes: {result.stderr.strip()}")
        found.append(Simulated(**json.loads(result.stdout)))
    return found


def cost(work: Callable[[], T]) -> tuple[float, T]:
    """Return the CPU seconds of ``work``, user and system, as a mean; and what it gave."""
    count, begun = 0, _cpu_seconds()
    while True:
        given = work()
        count += 1
        used = _cpu_seconds() - begun
        if used >= ENOUGH:
            return used / count, given


def plan(nodes: int) -> Simulated:
    """Measure what an apply thinks before it acts: from the file's text to the plan."""
    from kubewright.plan import Answer, decide

    text = simulated.text(nodes)
    stages: dict[str, float] = {}
    stages["spec"], wanted = cost(lambda: simulated.spec(text))
    machines = simulated.machines(roster.of(wanted).hosts)
    stages["inventory"], known = cost(lambda: simulated.inventory(wanted, machines))
    assert len(known.hosts) == nodes, f"{len(known.hosts)} hosts"
    raw = simulated.answers(known)
    stages["plan"], _ = cost(
        lambda: decide(
            known.hosts, {name: Answer.from_result(result) for name, result in raw.items()}
        )
    )
    return Simulated(nodes, stages, peak_mb())


def peak_mb() -> float:
    """Return this process's peak of resident memory in MB (10^6 bytes).

    Not getrusage's: that counts the memory of the process that started this one, too.
    """
    status = Path("/proc/self/status").read_text()
    found = re.search(r"^VmHWM:\s+(\d+) kB$", status, re.MULTILINE)
    assert found, "no VmHWM in /proc/self/status, see proc(5)"
    return int(found[1]) * 1024 / 1e6


def _cpu_seconds() -> float:
    used = resource.getrusage(resource.RUSAGE_SELF)
    return used.ru_utime + used.ru_stime


def main(measure: Callable[[int], Simulated], arguments: Sequence[str]) -> int:
    """Measure one size and print it."""
    if len(arguments) != 1 or not arguments[0].isdecimal():
        print("say the number of nodes", file=sys.stderr)
        return 2
    print(json.dumps(asdict(measure(int(arguments[0])))))
    return 0


if __name__ == "__main__":
    sys.exit(main(plan, sys.argv[1:]))
