# SPDX-License-Identifier: Apache-2.0
"""One writer a cluster: never two at once, and none that was overtaken."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import drifting
import fingerprints
import machines
from cluster import APPLY_LIMIT, Cluster, Ended
from drifts import EVERYWHERE
from fingerprints import Fingerprint
from frozen import freeze
from machines import run_on
from waiting import NotYet, until

from kubewright.agreed import lease
from kubewright.cli.exits import ExitCode

#: The first play, which changes nothing; and the one after the nodes were asked.
FIRST_PLAY = "List the machines"
DECIDES = "Decide what to do"


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
                    limit=lease.TTL_SECONDS + 30,
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


def test_of_two_controllers_with_one_number_the_second_is_refused(
    cluster: Cluster, tmp_path: Path
) -> None:
    """Two state directories: nothing keeps the two apart but what the nodes know."""
    twin = replace(cluster, directory=tmp_path / "twin")
    shutil.copytree(cluster.directory, twin.directory)
    # As that of a colleague, who has the file at another place.
    record = json.loads((twin.state / "record.json").read_text())
    record["file"] = str(twin.directory / "cluster.yml")
    (twin.state / "record.json").write_text(json.dumps(record))
    with drifting.made(cluster, EVERYWHERE):
        with twin.begin_apply() as second:
            # It has asked all nodes, and knows of nobody.
            second.wait_for_line(DECIDES, limit=120)
            frozen = freeze(second.pid, limit=30)
            try:
                first = cluster.apply().succeeded()
                ((epoch, run),) = claims(cluster)
                assert epoch == first.document["epoch"]
                written = fingerprints.look_at(cluster.nodes)
            finally:
                frozen.wake()
            refused = second.ended(limit=APPLY_LIMIT)
        said = f"status {refused.status}\n{refused.stderr}\n{refused.stdout}"
        assert refused.status == ExitCode.FAILED, said
        assert refused.document["epoch"] == epoch, said
        told = " ".join(refused.stderr.split())
        assert re.search(rf"Another run owns this node since 20\S+ \S+ UTC: .*{run}", told), said
        assert "run it again, which takes a higher epoch" in told, said
        assert refused.document["host_tasks"]["changed"] == 0, said
        is_untouched(written, fingerprints.look_at(cluster.nodes))
        assert claims(cluster) == {(epoch, run)}
    # What it was told to do.
    with drifting.made(cluster, EVERYWHERE):
        assert twin.apply().succeeded().document["epoch"] == epoch + 1
        ((_, theirs),) = claims(cluster)
        assert theirs != run
    # The first one knows nothing of that, and takes a number above all the same.
    with drifting.made(cluster, EVERYWHERE):
        assert cluster.apply().succeeded().document["changed"] is True
        ((newest, ours),) = claims(cluster)
        assert newest == epoch + 2 and ours != theirs
        assert drifting.not_mended(cluster, EVERYWHERE) == []


def test_whoever_lost_the_state_has_no_machine(cluster: Cluster, tmp_path: Path) -> None:
    """With an empty state directory nothing tells that these machines are this cluster's."""
    before = fingerprints.look_at(cluster.nodes)
    stranger = replace(cluster, directory=tmp_path)
    stranger.write()
    for ended in (stranger.plan(), stranger.apply(), stranger.destroy()):
        assert ended.status != 0, ended
        (owner,) = machines.owners(cluster.name)
        assert (
            f"also called {cluster.name} (id {owner}) has these objects here: " in ended.stderr
        ), ended
        assert f"kubewright destroy --cluster-id {owner}" in ended.stderr, ended
    is_untouched(before, fingerprints.look_at(cluster.nodes))
    assert cluster.apply().succeeded().document["host_tasks"]["changed"] == 0


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


def claims(cluster: Cluster) -> set[tuple[int, str]]:
    """Return the epoch and the run that each node has obeyed last."""
    read = ["cat", "/var/lib/kubewright/epoch"]
    told = [run_on(node, read).split() for node in cluster.nodes]
    return {(int(epoch), run) for epoch, run in told}


def epochs(cluster: Cluster) -> set[int]:
    """Return the newest epoch that each node knows."""
    return {epoch for epoch, _ in claims(cluster)}


def is_untouched(before: dict[str, Fingerprint], after: dict[str, Fingerprint]) -> None:
    """Assert that nothing was written or restarted on any node."""
    problems = [
        f"{node}: {problem}"
        for node in before
        for problem in fingerprints.differences(before[node], after[node])
    ]
    assert not problems, drifting.told(problems)
