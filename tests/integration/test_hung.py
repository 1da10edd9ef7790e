# SPDX-License-Identifier: Apache-2.0
"""A node that hangs is named within its own limit, and the others go on."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager

import drifting
import hanging
import kube as api
import pytest
from cluster import Cluster
from drifts import EVERYWHERE
from kube import Kube
from waiting import until

from kubewright.cli.exits import ExitCode

#: Somebody else needs something meanwhile.
DRIFTS = [drift for drift in EVERYWHERE if drift.node == "cp-1"]
#: Seconds for all of a plan on a busy host: what is silent on ssh costs 15, and what has to be
#: waited for until its limit is over 105.
SILENT, WORKS = 120.0, 240.0


@pytest.mark.parametrize(
    ("hang", "limit"),
    [(hanging.sshd, SILENT), (hanging.machine, SILENT), (hanging.file_system, WORKS)],
    ids=["sshd", "machine", "file system"],
)
def test_a_node_that_hangs_is_named_and_the_others_go_on(
    cluster: Cluster,
    connect: Callable[[], Kube],
    measured: Callable[[str, object], None],
    hang: Callable[[str], AbstractContextManager[None]],
    limit: float,
) -> None:
    hung, well = cluster.workers[0], cluster.control_planes[0]
    # Its ssh connection is open, and stays so for a minute.
    cluster.plan().succeeded()
    with drifting.made(cluster, DRIFTS), hang(hung):
        told = cluster.run("status", "-o", "json")
        assert told.status == ExitCode.UNHEALTHY, told
        assert [one for one in told.document["troubles"] if hung in one and "SSH" in one], told

        plan = cluster.run("plan", "-o", "json", limit=limit).succeeded()
        measured(f"plan where one node hangs ({hang.__name__})", plan.seconds)
        nodes = {node["name"]: node for node in plan.document["nodes"]}
        assert nodes[hung]["state"] == "unreachable", nodes[hung]
        assert nodes[well]["state"] == "drifted", nodes[well]
        # A DNS server of the cluster may run there, which the others miss.
        found = [one for one in plan.document["findings"] if one["check"] != "traffic"]
        assert [one["host"] for one in found] == [hung], plan.document["findings"]

        ended = cluster.apply()
        measured(f"apply where one node hangs ({hang.__name__})", ended.seconds)
        assert ended.status == ExitCode.UNHEALTHY, ended
        assert f"Left out:\n{hung}: " in ended.stderr, ended.stderr
        assert drifting.not_mended(cluster, DRIFTS) == []
    hanging.released(hung)
    until("Ready", api.all_ready(connect(), frozenset(cluster.nodes)), limit=120)
    assert cluster.apply().succeeded().document["changed"] is False
    assert cluster.run("status").succeeded()
