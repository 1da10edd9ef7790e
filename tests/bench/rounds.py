# SPDX-License-Identifier: Apache-2.0
"""Clusters by hand and by the command in turn, so that what the machine does meets both alike."""

from __future__ import annotations

import os
from pathlib import Path

import by_hand
import ours
from measured import Repeats, Round, Timed
from telling import say

BY_HAND = "by_hand"
KUBEWRIGHT = "kubewright"


def first(number: int) -> str:
    """Return who begins a round, counted from 1: by turns."""
    return BY_HAND if number % 2 else KUBEWRIGHT


def run(rounds: int, directory: Path) -> tuple[list[Round], Repeats]:
    """Measure ``rounds`` (at least 1) of both, and repeats on the command's last cluster.

    State and files go below ``directory``. When it ends or fails, no cluster is left.
    """
    found = []
    again: Repeats | None = None
    for number in range(1, rounds + 1):
        beginner = first(number)
        hand = _by_hand(number) if beginner == BY_HAND else None
        made, again = _ours(number, directory, last=number == rounds)
        hand = hand or _by_hand(number)
        one = Round(beginner, hand, made.timed, made.host_tasks, made.contacted)
        say(
            f"round {number}: by hand {hand.total:.1f} s, kubewright {made.timed.total:.1f} s, "
            f"ratio {one.ratio:.2f}"
        )
        found.append(one)
    assert again is not None, "there was no round"
    return found, again


def _by_hand(number: int) -> Timed:
    say(f"round {number}: by hand")
    os.sync()  # nobody pays for what another left to be written
    return by_hand.run()


def _ours(number: int, directory: Path, *, last: bool) -> tuple[ours.Created, Repeats | None]:
    """Make the command's cluster; repeats are measured before the last one is removed."""
    say(f"round {number}: kubewright")
    with ours.fresh(directory / f"round-{number}") as cluster:
        os.sync()
        made = ours.create(cluster)
        return made, ours.repeats(cluster, directory / "credentials") if last else None
