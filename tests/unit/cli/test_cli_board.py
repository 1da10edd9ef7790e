# SPDX-License-Identifier: Apache-2.0
"""The picture of a run that is in progress."""

from __future__ import annotations

import threading
import time

import pytest

from kubewright.act import HostIdle, HostResult, HostSays, HostStarted, PhaseStarted, TaskStarted
from kubewright.cli.board import MOST_HOSTS, Board


def at_work(hosts: int) -> Board:
    """A board whose hosts are all at a task, the first for longest."""
    board = Board(0.0)
    board.feed(PhaseStarted("Prepare the nodes"), 0.0)
    board.feed(TaskStarted("Prepare the nodes", "Load"), 0.0)
    for number in range(hosts):
        board.feed(HostStarted("Load the images", f"node-{number}"), float(number))
    return board


def lines(board: Board, now: float, width: int = 80, height: int = 24) -> list[str]:
    return board.picture(now, width, height).plain.splitlines()


def test_who_is_at_what_and_who_is_done() -> None:
    board = at_work(4)
    board.feed(HostResult("P", "Load the images", "node-1", "changed"), 10.0)
    board.feed(HostIdle("node-2"), 10.0)
    board.feed(HostResult("P", "Load the images", "node-3", "failed", "no"), 10.0)
    assert lines(board, 65.0) == [
        "⠋ Prepare the nodes  1:05  4 hosts  1 changed  1 failed",
        "    node-0  Load the images    1:05",
        "    3 done",
    ]


def test_what_a_task_says_meanwhile_is_a_line_that_stays() -> None:
    board = at_work(1)
    (line,) = board.feed(HostSays("node-0", "waits until process 41 (kubeadm) exits"), 10.0)
    assert line.text.endswith("node-0 waits until process 41 (kubeadm) exits")
    assert lines(board, 11.0)[1:] == ["    node-0  Load the images    0:11"]


def test_a_host_that_begins_its_next_task_is_the_last() -> None:
    board = at_work(2)
    board.feed(HostStarted("Join", "node-0"), 5.0)
    assert lines(board, 6.0)[1:] == [
        "    node-1  Load the images    0:05",
        "    node-0  Join               0:01",
    ]


@pytest.mark.parametrize("height", [1, 2, 3, 4, 5, 10, 24, 100])
@pytest.mark.parametrize("hosts", [0, 1, 2, 5, 15, 16, 500])
@pytest.mark.parametrize("width", [10, 80])
def test_it_fits_its_terminal(hosts: int, height: int, width: int) -> None:
    board = at_work(hosts)
    board.feed(HostStarted("A name that is far too long for any terminal " * 4, "x" * 90), 0.0)
    board.feed(HostIdle("node-0"), 0.0)
    shown = lines(board, 600.0, width, height)
    assert len(shown) <= max(1, height - 1)
    assert len(shown) <= MOST_HOSTS + 2
    assert max(len(line) for line in shown) < width


def test_hosts_that_are_not_shown_are_counted() -> None:
    shown = lines(at_work(500), 600.0)
    assert shown[1].split() == ["node-0", "Load", "the", "images", "10:00"]
    assert shown[-1].strip() == f"{500 - MOST_HOSTS + 1} more running"


def test_the_time_is_seen_at_80_columns() -> None:
    board = at_work(0)
    board.feed(HostStarted("Load the container images of a control plane " * 3, "n" * 40), 0.0)
    (_, row) = lines(board, 61.0)
    assert row.endswith("..    1:01")


def test_before_the_first_task_only_the_time_is_known() -> None:
    assert lines(Board(0.0), 75.0)[0].split()[1:] == ["1:15"]


def test_a_signals_handler_may_print_while_an_event_is_taken(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    board = at_work(1)
    shown: list[str] = []

    def interrupted(message: str) -> str:
        # What a handler prints draws the picture anew, in the same thread.
        shown.append(board.picture(1.0, 80, 24).plain)
        return ""

    monkeypatch.setattr("kubewright.cli.board.remedy", interrupted)
    failed = HostResult("P", "Load", "node-0", "failed", "no")
    thread = threading.Thread(target=board.feed, args=(failed, 1.0), daemon=True)
    thread.start()
    thread.join(10)
    assert not thread.is_alive()
    assert len(shown) == 1


def test_an_event_costs_the_same_however_many_hosts_there_are() -> None:
    def cost(hosts: int) -> float:
        board = at_work(hosts)
        begun = time.process_time()
        for number in range(20_000):
            board.feed(HostStarted("T", f"node-{number % hosts}"), 0.0)
        for _ in range(20):
            board.picture(1.0, 80, 24)
        return time.process_time() - begun

    # Work that grows with the hosts would take hundreds of times as long.
    assert cost(5000) < 20 * cost(10)
