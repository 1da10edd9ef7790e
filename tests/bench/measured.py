# SPDX-License-Identifier: Apache-2.0
"""What was measured, its ratios, and its two forms: lines for a terminal, plain data for JSON."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from statistics import median
from typing import Any

#: Schema of results.json.
SCHEMA = 1


@dataclass(frozen=True)
class Timed:
    """Seconds of a whole, and of its phases by name in their order."""

    total: float
    phases: Mapping[str, float]


@dataclass(frozen=True)
class Run:
    """One run of the playbook. ``contacted`` and ``changed``: numbers of machines."""

    seconds: float
    host_tasks: int
    contacted: int
    changed: int


@dataclass(frozen=True)
class Round:
    """One cluster by hand and one by the command; ``first`` says which of them came first."""

    first: str
    by_hand: Timed
    kubewright: Timed
    host_tasks: int
    contacted: int

    @property
    def ratio(self) -> float:
        """Ours through theirs: below 1, the command was faster."""
        return self.kubewright.total / self.by_hand.total


@dataclass(frozen=True)
class Repeats:
    """The last cluster applied again: as it is, by ansible-playbook alone, with one change.

    ``broken``: what was not as it must be, in words.
    """

    unchanged: Run
    unchanged_playbook: Run
    one_change: Run
    broken: tuple[str, ...] = ()


@dataclass(frozen=True)
class Simulated:
    """Work for a cluster that is not there: CPU seconds by stage, and peak memory in MB."""

    nodes: int
    stages: Mapping[str, float]
    peak_mb: float

    @property
    def cpu_seconds(self) -> float:
        """Of all stages."""
        return sum(self.stages.values())


@dataclass(frozen=True)
class Results:
    """Everything of one run of the benchmark. The simulations go from small to large."""

    kubernetes: str
    machine: Mapping[str, Any]
    rounds: Sequence[Round]
    repeats: Repeats
    planning: Sequence[Simulated]
    rendering: Sequence[Simulated]

    @property
    def ratio(self) -> float:
        """Median of ours through median of theirs."""
        return median_total(self.ours) / median_total(self.theirs)

    @property
    def ours(self) -> list[Timed]:
        """The command's times, by round."""
        return [one.kubewright for one in self.rounds]

    @property
    def theirs(self) -> list[Timed]:
        """The times by hand, by round."""
        return [one.by_hand for one in self.rounds]


def median_total(times: Iterable[Timed]) -> float:
    """Return the median of the totals."""
    return median(one.total for one in times)


def median_phases(times: Sequence[Timed]) -> dict[str, float]:
    """Return the median of each phase; a phase that a round did not have took no time there."""
    names = dict.fromkeys(name for one in times for name in one.phases)
    return {name: median(one.phases.get(name, 0.0) for one in times) for name in names}


def growth(simulated: Sequence[Simulated]) -> float:
    """Return the CPU time of the largest through that of the smallest."""
    return simulated[-1].cpu_seconds / simulated[0].cpu_seconds


def slug(name: str) -> str:
    """Return a play's name as one word: ``Join the nodes`` is ``join_the_nodes``."""
    return re.sub(r"[^a-z0-9]+", "_", name.lower()).strip("_")


def lines(found: Results) -> Iterator[str]:
    """Yield ``ratio N`` of the whole cluster, then everything else as ``name value``."""
    yield f"ratio {found.ratio:.2f}"
    for number, one in enumerate(found.rounds, 1):
        yield f"round_{number}_by_hand {one.by_hand.total:.1f}"
        yield f"round_{number}_kubewright {one.kubewright.total:.1f}"
        yield f"round_{number}_ratio {one.ratio:.2f}"
    for who, times in (("by_hand", found.theirs), ("kubewright", found.ours)):
        yield f"{who}_seconds {median_total(times):.1f}"
        for name, seconds in median_phases(times).items():
            yield f"{who}_phase_{slug(name)} {seconds:.1f}"
    yield f"kubewright_host_tasks {found.rounds[-1].host_tasks}"
    yield f"kubewright_hosts_contacted {found.rounds[-1].contacted}"
    for name, run in _runs(found.repeats).items():
        yield f"{name}_seconds {run.seconds:.1f}"
        yield f"{name}_host_tasks {run.host_tasks}"
        yield f"{name}_hosts_contacted {run.contacted}"
        yield f"{name}_hosts_changed {run.changed}"
    for name, sizes in (("planning", found.planning), ("rendering", found.rendering)):
        yield from _simulated_lines(name, sizes)


def _simulated_lines(name: str, sizes: Sequence[Simulated]) -> Iterator[str]:
    for size in sizes:
        yield f"{name}_{size.nodes}_cpu_seconds {size.cpu_seconds:.3f}"
        yield f"{name}_{size.nodes}_peak_mb {size.peak_mb:.0f}"
    yield f"{name}_growth {growth(sizes):.2f}"


def document(found: Results) -> dict[str, Any]:
    """Return everything as plain data. It has no host names and no paths."""
    return {
        "schema": SCHEMA,
        "kubernetes": found.kubernetes,
        "machine": dict(found.machine),
        "whole": {
            "ratio": round(found.ratio, 2),
            "by_hand_seconds": round(median_total(found.theirs), 1),
            "kubewright_seconds": round(median_total(found.ours), 1),
            "rounds": [
                {
                    "first": one.first,
                    "ratio": round(one.ratio, 2),
                    "by_hand": _timed(one.by_hand),
                    "kubewright": _timed(one.kubewright),
                    "host_tasks": one.host_tasks,
                    "hosts_contacted": one.contacted,
                }
                for one in found.rounds
            ],
        },
        **{
            name: {
                "seconds": round(run.seconds, 1),
                "host_tasks": run.host_tasks,
                "hosts_contacted": run.contacted,
                "hosts_changed": run.changed,
            }
            for name, run in _runs(found.repeats).items()
        },
        "planning": _simulated(found.planning),
        "rendering": _simulated(found.rendering),
    }


def _runs(repeats: Repeats) -> dict[str, Run]:
    return {
        "unchanged": repeats.unchanged,
        "unchanged_playbook": repeats.unchanged_playbook,
        "one_change": repeats.one_change,
    }


def _timed(one: Timed) -> dict[str, Any]:
    phases = {name: round(seconds, 1) for name, seconds in one.phases.items()}
    return {"seconds": round(one.total, 1), "phases": phases}


def _simulated(sizes: Sequence[Simulated]) -> dict[str, Any]:
    return {
        "growth": round(growth(sizes), 2),
        "sizes": [
            {
                **asdict(size),
                "stages": {name: round(seconds, 4) for name, seconds in size.stages.items()},
                "cpu_seconds": round(size.cpu_seconds, 4),
                "peak_mb": round(size.peak_mb, 1),
            }
            for size in sizes
        ],
    }
