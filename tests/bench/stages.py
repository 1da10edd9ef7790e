# SPDX-License-Identifier: Apache-2.0
"""Phases of both sides under common names, so that the two can be drawn in the same colours.

What one side does in one phase and the other in three is one stage, or they could not be compared.
"""

from __future__ import annotations

from collections.abc import Mapping

COMMAND = "command and Ansible start, end"
MACHINES = "machines"
LOOK = "probe the nodes, decide"
BEGIN = "prepare the nodes, initialize the cluster"
JOIN = "join"
READY = "wait until ready"
OTHER = "other"

#: In the order in which they are drawn, from the bottom.
STAGES = (COMMAND, MACHINES, LOOK, BEGIN, JOIN, READY, OTHER)

#: Words of a phase's name, in lower case, and its stage. The first that fits counts.
_WORDS = (
    ("outside the plays", COMMAND),
    ("machines", MACHINES),
    ("probe", LOOK),
    ("identity", LOOK),
    ("decide", LOOK),
    ("to write", LOOK),
    ("control_planes", JOIN),
    ("workers", JOIN),
    ("join", JOIN),
    ("prepare", BEGIN),
    ("init", BEGIN),
    ("network", BEGIN),
    ("ready", READY),
)


def stage(phase: str) -> str:
    """Return the stage of a phase; OTHER for one that is not known."""
    name = phase.lower()
    return next((stage for words, stage in _WORDS if words in name), OTHER)


def by_stage(phases: Mapping[str, float]) -> dict[str, float]:
    """Return seconds by stage, with every one of STAGES."""
    found = dict.fromkeys(STAGES, 0.0)
    for name, seconds in phases.items():
        found[stage(name)] += seconds
    return found
