# SPDX-License-Identifier: Apache-2.0
"""Machines that are gone with all that was on them are made anew, and take their old places."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import etcd
import kube as api
import machines
import yaml
from cluster import Cluster
from kube import Kube
from waiting import until

from kubewright.cli.exits import ExitCode


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


def test_a_cluster_keeps_its_networks(cluster: Cluster, tmp_path: Path) -> None:
    """Only flannel would follow another one."""
    spec = yaml.safe_load((cluster.directory / "cluster.yml").read_text())
    changed = tmp_path / "cluster.yml"
    changed.write_text(yaml.safe_dump({**spec, "pod_cidr": "10.200.0.0/16"}))
    for words in (["plan"], ["apply", "--yes"]):
        ended = cluster.run(*words, "--file", str(changed), limit=120)
        assert ended.status == ExitCode.FAILED, ended
        assert "pod_cidr was 10.244.0.0/16 when cluster" in ended.stderr, ended.stderr


def test_a_cluster_that_is_not_there_yet_can_be_planned(cluster: Cluster, tmp_path: Path) -> None:
    stranger = replace(cluster, name="kwnone", directory=tmp_path)
    stranger.write()
    plan = stranger.plan().succeeded().document
    assert {node["name"]: node["state"] for node in plan["nodes"]} == dict.fromkeys(
        stranger.nodes, "missing"
    )
    assert plan["changes"] is True
