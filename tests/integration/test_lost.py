# SPDX-License-Identifier: Apache-2.0
"""Machines that are gone with all that was on them are made anew, and take their old places."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import etcd
import kube as api
import lab
import machines
import pytest
import yaml
from cluster import API_PORT, APPLY_LIMIT, POOL, Cluster
from kube import Kube
from points import Kill
from probing import Probers, of_api
from waiting import until

from kubewright.cli.exits import ExitCode

#: A balancer may need this many seconds to take a dead API server out.
DETECTION = 3.0
#: Seconds for the restart of three control planes, in turn.
RESTARTED = 600
#: Seconds in which the API is asked: on an idle machine a restart of all three takes less.
PROBED = 240


def test_lost_machines_are_replaced_also_the_one_that_began(
    cluster: Cluster, connect: Callable[[], Kube], measured: Callable[[str, object], None]
) -> None:
    lost = (cluster.control_planes[0], cluster.workers[0])
    machines.lose(*lost)
    ended = cluster.apply().succeeded()
    measured("apply after a control plane and a worker were lost", ended.seconds)
    until("Ready", api.all_ready(connect(), frozenset(cluster.nodes)), limit=60)
    expected = frozenset(cluster.control_planes)
    for machine in cluster.control_planes:
        seen = etcd.healthy_voters(machine, expected)
        assert len(seen.cluster_ids) == 1, seen
    # The kubeconfig here may change: it names the control plane that acts, and another one may now.
    again = cluster.apply().succeeded().document
    assert again["host_tasks"]["changed"] == 0
    assert again["host_task_counts"] == dict.fromkeys(sorted(cluster.nodes), 1)


@contextmanager
def written(cluster: Cluster, **changed: Any) -> Iterator[None]:
    """Have cluster.yml say something else meanwhile."""
    spec = yaml.safe_load((cluster.directory / "cluster.yml").read_text())
    (cluster.directory / "cluster.yml").write_text(yaml.safe_dump({**spec, **changed}))
    try:
        yield
    finally:
        cluster.write()


def test_a_cluster_keeps_its_networks(cluster: Cluster) -> None:
    """Only flannel would follow another one."""
    with written(cluster, pod_cidr="10.200.0.0/16"):
        for words in (["plan"], ["apply", "--yes"]):
            ended = cluster.run(*words, limit=120)
            assert ended.status == ExitCode.FAILED, ended
            assert "pod_cidr was 10.244.0.0/16 when cluster" in ended.stderr, ended.stderr


@pytest.mark.parametrize(
    ("role", "then"), [("control_plane", "apply"), ("worker", "apply"), ("worker", "reset")]
)
def test_a_reset_that_was_cut_between_the_books_and_the_node(
    cluster: Cluster, connect: Callable[[], Kube], role: str, then: str
) -> None:
    """Its Node is deleted, which its kubelet does not make anew, and everything else is there."""
    node = (cluster.control_planes if role == "control_plane" else cluster.workers)[-1]
    kill = Kill("node", "Restore the machine", "", node, 1, "before", 0, 0)
    lab.killed_run(*lab.killed_reset(cluster, kill))
    there = frozenset(cluster.nodes)
    known = {item.metadata.name for item in connect().core.list_node().items}
    assert known == there - {node}
    machines.run_on(node, ["systemctl", "is-active", "kubelet"])
    if then == "reset":
        cluster.run("reset", "--yes", "--node", node, limit=APPLY_LIMIT).succeeded()
        machines.run_on(node, ["test", "!", "-e", "/var/lib/kubewright"])
    cluster.apply().succeeded()
    until("Ready", api.all_ready(connect(), there), limit=60)
    voters = frozenset(cluster.control_planes)
    first = cluster.control_planes[0]
    until("whole", lambda: etcd.healthy_voters(first, voters), limit=60)


def test_a_machine_that_podman_takes_for_running_is_off_and_comes_back(
    cluster: Cluster, connect: Callable[[], Kube]
) -> None:
    lost = cluster.workers[0]
    machines.lose_monitor(lost)
    nodes = {node["name"]: node for node in cluster.plan().succeeded().document["nodes"]}
    assert nodes[lost]["reason"] == "its machine is off; apply powers it on", nodes[lost]
    cluster.apply().succeeded()
    until("Ready", api.all_ready(connect(), frozenset(cluster.nodes)), limit=60)


def test_control_planes_are_restarted_in_turn_and_never_too_many(
    cluster: Cluster, connect: Callable[[], Kube], measured: Callable[[str, object], None]
) -> None:
    """One that is off is brought back first; without it no other one goes."""
    *others, off = cluster.control_planes
    power = cluster.begin_playbook("power_off", "-e", f"kubewright_target={off}")
    power.ended(APPLY_LIMIT).succeeded()
    # What comes before in the order of turns is not touched either.
    for playbook, target in (
        ("power_off", f"{others[1]},{cluster.workers[0]}"),
        ("reboot", others[0]),
    ):
        started = {name: machines.started(name) for name in cluster.nodes if name != off}
        ended = cluster.begin_playbook(playbook, "-e", f"kubewright_target={target}").ended(300)
        assert ended.status != 0, ended
        assert "2 of etcd's 3 members are healthy" in ended.stdout, ended
        assert f"First power on or repair {off}" in ended.stdout, ended
        assert {name: machines.started(name) for name in started} == started

    credentials = connect().credentials()
    probers = Probers([of_api(cluster.workers[0], credentials, cluster.api_name, API_PORT)], PROBED)
    try:
        started = {name: machines.started(name) for name in cluster.control_planes}
        probers.begin(time.monotonic())
        run = cluster.begin_playbook("reboot", "-e", "kubewright_target=control_plane")
        ended = run.ended(RESTARTED).succeeded()
        (seen,) = probers.finish().values()
    finally:
        probers.stop()
    measured("three control planes restarted, one of which was off", ended.seconds)
    again = {name: machines.started(name) for name in cluster.control_planes}
    assert all(again[name] != started[name] for name in again), (started, again)
    assert min(again, key=lambda name: again[name]) == off, again
    # The API was there all the time, but for what a balancer needs to see that a server goes.
    moments = [failure["at"] for failure in seen.failed]
    measured("failed probes meanwhile", f"{len(moments)} of {seen.probes}")
    gone = [at for at in moments if all(not 0 < at - one <= DETECTION for one in moments)]
    assert len(gone) <= len(others), seen.failed
    assert all(any(0 <= at - first <= DETECTION for first in gone) for at in moments), seen.failed
    until("Ready", api.all_ready(connect(), frozenset(cluster.nodes)), limit=60)
    voters = frozenset(cluster.control_planes)
    for name in cluster.control_planes:
        until("healthy", partial(etcd.healthy_voters, name, voters), limit=60)


def test_a_machine_in_no_pool_is_shown_and_left_alone(cluster: Cluster) -> None:
    spare = cluster.workers[-1]
    pool = {"name": POOL, "provider": "local", "size": cluster.pool_size - 1}
    with written(cluster, pools=[pool]):
        shown = cluster.plan().succeeded().document["findings"]
        assert [one["host"] for one in shown if "in no pool" in one["text"]] == [spare], shown
        cluster.apply().succeeded()
        assert spare in cluster.addresses
        assert spare in cluster.run("status").stdout.split("not in the file")[1]
    machines.run_on(spare, ["systemctl", "is-active", "kubelet"])


def test_another_file_of_the_same_name_is_refused(cluster: Cluster, tmp_path: Path) -> None:
    other = tmp_path / "cluster.yml"
    other.write_text((cluster.directory / "cluster.yml").read_text())
    for words in (["plan"], ["apply", "--yes"], ["status"], ["destroy", "--yes"]):
        ended = cluster.run(*words, "--file", str(other))
        assert ended.status == ExitCode.BAD_INPUT, ended
        assert f"that of {cluster.directory / 'cluster.yml'}" in ended.stderr, ended.stderr


def test_a_cluster_that_is_not_there_yet_can_be_planned(cluster: Cluster, tmp_path: Path) -> None:
    stranger = replace(cluster, name="kwnone", directory=tmp_path)
    stranger.write()
    plan = stranger.plan().succeeded().document
    assert {node["name"]: node["state"] for node in plan["nodes"]} == dict.fromkeys(
        stranger.nodes, "missing"
    )
    assert plan["changes"] is True
