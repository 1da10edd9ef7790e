# SPDX-License-Identifier: Apache-2.0
"""One writer a cluster: never two at once, and none that was overtaken."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import drifting
import fingerprints
from cluster import APPLY_LIMIT, Cluster, Ended
from drifts import EVERYWHERE
from fingerprints import Fingerprint
from frozen import freeze
from machines import run_on
from waiting import NotYet, until

from kubewright.cli.exits import ExitCode
from kubewright.store.lock import LEASE_SECONDS

#: The first play, which changes nothing.
FIRST_PLAY = "List the machines"


def test_of_two_at_once_one_runs(cluster: Cluster) -> None:
    with cluster.begin_apply() as one, cluster.begin_apply() as other:
        ends = {running.pid: running.ended(APPLY_LIMIT) for running in (one, other)}
    by_status = {ended.status: (pid, ended) for pid, ended in ends.items()}
    assert set(by_status) == {ExitCode.OK, ExitCode.LOCKED}, ends
    winner, _ = by_status[ExitCode.OK]
    _, refused = by_status[ExitCode.LOCKED]
    assert f"apply (pid {winner}," in refused.stderr, refused.stderr
    assert refused.document["error"]["exit_code"] == ExitCode.LOCKED


def test_one_that_stood_still_is_overtaken_and_writes_nothing(cluster: Cluster) -> None:
    with drifting.made(cluster, EVERYWHERE):
        with cluster.begin_apply() as first:
            first.wait_for_line(FIRST_PLAY, limit=60)
            frozen = freeze(first.pid, limit=30)
            try:
                left = drifting.not_mended(cluster, EVERYWHERE)
                assert len(left) == len(EVERYWHERE), f"stopped too late, left are {left}"
                second_pid, second = until(
                    "overtaken",
                    overtaking(cluster, first.pid),
                    limit=LEASE_SECONDS + 30,
                    interval=2,
                )
                written = fingerprints.look_at(cluster.nodes)
            finally:
                frozen.wake()
            overtaken = first.ended(limit=60)

        assert second.document["host_tasks"]["changed"] >= len(cluster.nodes), second.document
        assert drifting.not_mended(cluster, EVERYWHERE) == []

        said = f"status {overtaken.status}\n{overtaken.stderr}\n{overtaken.stdout}"
        assert overtaken.status == ExitCode.LOCKED, said
        assert "has taken over" in overtaken.stderr, said
        assert f"apply (pid {second_pid}," in overtaken.stderr, said
        assert "Traceback" not in overtaken.stderr, said
        assert overtaken.document.get("host_tasks", {}).get("changed", 0) == 0, said
        is_untouched(written, fingerprints.look_at(cluster.nodes))
        assert epochs(cluster) == {second.document["epoch"]}


def test_a_playbook_with_an_older_epoch_is_refused(cluster: Cluster) -> None:
    newest = max(epochs(cluster))
    with drifting.made(cluster, EVERYWHERE):
        before = fingerprints.look_at(cluster.nodes)
        ended = cluster.play_site("--extra-vars", f"kubewright_epoch={newest - 1}")
        said = f"{ended.stdout}\n{ended.stderr}"
        assert ended.status != 0, said
        assert f"epoch {newest}" in said, said
        is_untouched(before, fingerprints.look_at(cluster.nodes))
        assert max(epochs(cluster)) == newest
        assert len(drifting.not_mended(cluster, EVERYWHERE)) == len(EVERYWHERE)
        # It did not get in the way of who is up to date.
        assert cluster.apply().succeeded().document["changed"] is True
        assert drifting.not_mended(cluster, EVERYWHERE) == []


def test_whoever_lost_the_state_replaces_no_authority(cluster: Cluster, tmp_path: Path) -> None:
    """With an empty state directory ``apply`` knows machines, and not the cluster on them."""
    before = fingerprints.look_at(cluster.nodes)
    stranger = replace(cluster, directory=tmp_path)
    stranger.write()
    ended = stranger.apply()
    said = f"{ended.stdout}\n{ended.stderr}"
    assert ended.status != 0, said
    fatal = [one for one in ended.document["findings"] if one["severity"] == "fatal"]
    assert {(one["host"], one["check"]) for one in fatal} == {
        (name, "cluster") for name in cluster.nodes
    }, said
    assert all("part of another cluster" in one["text"] for one in fatal), said
    assert all("KUBEWRIGHT_STATE_DIR" in one["remedy"] for one in fatal), said
    is_untouched(before, fingerprints.look_at(cluster.nodes))
    # The machines of this host let the stranger's SSH key in. Their owner gets in again.
    cluster.apply().succeeded()
    is_untouched(before, fingerprints.look_at(cluster.nodes))


def overtaking(cluster: Cluster, holder: int) -> Callable[[], tuple[int, Ended]]:
    """A look for an ``apply`` that is let in; while ``holder`` has the lease it is refused."""

    def look() -> tuple[int, Ended]:
        with cluster.begin_apply() as running:
            ended = running.ended(APPLY_LIMIT)
        if ended.status == ExitCode.LOCKED:
            assert f"apply (pid {holder}," in ended.stderr, ended.stderr
            raise NotYet(ended.stderr)
        return running.pid, ended.succeeded()

    return look


def epochs(cluster: Cluster) -> set[int]:
    """Return the newest epoch that each node knows."""
    read = ["cat", "/var/lib/kubewright/epoch"]
    return {int(run_on(node, read)) for node in cluster.nodes}


def is_untouched(before: dict[str, Fingerprint], after: dict[str, Fingerprint]) -> None:
    """Assert that nothing was written or restarted on any node."""
    problems = [
        f"{node}: {problem}"
        for node in before
        for problem in fingerprints.differences(before[node], after[node])
    ]
    assert not problems, drifting.told(problems)
