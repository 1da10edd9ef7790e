# SPDX-License-Identifier: Apache-2.0
"""``destroy`` leaves nothing on the host. The last file: it removes the cluster of the others."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import leftovers
import machines
import processes
import pytest
from cluster import Cluster
from conftest import Creation
from machines import CommandFailed, run_on
from waiting import NotYet, until


def test_destroy_leaves_nothing(
    creation: Creation, measured: Callable[[str, object], None]
) -> None:
    ended = creation.cluster.destroy().succeeded()
    measured("destroy", ended.seconds)
    assert left_since(creation.baseline) == []


@pytest.fixture
def killed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    """A small cluster to kill an ``apply`` of; whatever is left of it goes at the end."""
    made = Cluster("kwtestk", tmp_path_factory.mktemp("killed"), control_plane_size=1, pool_size=1)
    made.write()
    made.clear_away()
    yield made
    made.destroy().succeeded()  # as often as one likes


def test_destroy_after_a_killed_apply_leaves_nothing(killed: Cluster) -> None:
    baseline = leftovers.snapshot()
    with killed.begin_apply() as running:
        running.wait_for_line("Prepare the nodes", limit=120)
        until("prepared half-way", lambda: _one_has_a_volume(killed), limit=60, interval=0.05)
        running.kill()
    # Podman hears of a machine's end from its monitor alone.
    machines.lose_monitor(killed.workers[0])

    killed.destroy().succeeded()
    processes.none_works_on(killed.state, limit=5)
    assert left_since(baseline) == []


def left_since(baseline: leftovers.Snapshot) -> list[str]:
    """Return what the host has more than it had then."""
    return leftovers.added(baseline, leftovers.snapshot())


def _one_has_a_volume(made: Cluster) -> None:
    for machine in made.nodes:
        try:
            run_on(machine, ["test", "-e", "/var/lib/kubewright/volume.ext4"])
        except CommandFailed:
            continue
        return
    raise NotYet("no node has a system volume")
