# SPDX-License-Identifier: Apache-2.0
"""What must be true of a cluster whose ``apply`` was killed and then repaired by another one."""

from __future__ import annotations

import re
from collections.abc import Sequence
from datetime import datetime, timedelta
from functools import partial
from pathlib import Path

import etcd
import kube as api
import processes
from cluster import VERSION, Cluster, Ended
from kube import Kube
from machines import run_on
from waiting import NotYet, until

from kubewright.act.leftovers import LASTING, System

#: kubeadm and Ansible's modules, which a node may go on with when its controller is gone.
_AT_WORK = r"kubeadm (init|join|reset)|AnsiballZ_|/usr/bin/python3$"
#: Where a node's own files are, each file system named; its containers' are left out.
_PLACES = ("/", "/var", "/var/lib/kubewright/system", "/run", "/tmp")
_TEMPORARY = (
    *("-ignore_readdir_race", "-path", "/var/lib/containerd", "-prune", "-o"),
    *("(", "-name", "*.kubewright-tmp", "-o", "-path", "*/generations/.new-*", ")", "-print"),
)
#: The line that tells the end of the probe, with the time since the command began.
_PROBED = re.compile(r"^\[ *(\d+):(\d\d)\] Probe the nodes: ", re.MULTILINE)


def repaired(ended: Ended, run: str) -> None:
    """The apply after the killed one did it, and told whose work it finished."""
    ended.succeeded()
    assert f"the run {run} was left unfinished" in ended.stderr, ended.stderr


def changes_nothing(ended: Ended, nodes: Sequence[str]) -> None:
    """An apply found nothing to do, and asked each node once."""
    answer = ended.succeeded().document
    assert answer["changed"] is False, f"it changed something again: {answer['host_tasks']}"
    counts = answer["host_task_counts"]
    assert counts == dict.fromkeys(nodes, 1), f"host-tasks of an unchanged cluster: {counts}"


def probed(repair: Ended) -> timedelta:
    """Return how long an apply had run when all nodes had answered.

    A module that the killed run had started on a node goes on there, and the probe waits for its
    end: what is made later is not of the killed run.
    """
    told = _PROBED.search(repair.stderr)
    assert told, repair.stderr
    return timedelta(minutes=int(told[1]), seconds=int(told[2]))


def whole(
    cluster: Cluster, killed_run: str, repair_settled: datetime, again_begun: datetime
) -> None:
    """The cluster is what its file says, and nothing of the killed run is left.

    Join tokens that were made before ``repair_settled`` may be the killed run's.
    A node that is silent stays Ready for 40 seconds, so each must have been heard from since the
    last apply began.
    """
    kube = _connect(cluster)
    nodes = until("Ready", api.all_ready(kube, frozenset(cluster.nodes), again_begun), limit=30)
    versions = {node.name: node.version for node in nodes.values()}
    assert versions == dict.fromkeys(cluster.nodes, f"v{VERSION}"), versions
    _one_etcd(cluster)
    until("available: DNS", api.available(kube, "kube-system", "coredns"), limit=30)
    api.no_join_token_is_left(kube, repair_settled)
    no_process_is_left(cluster, killed_run)
    for node in cluster.nodes:
        found = run_on(node, ["find", *_PLACES, "-xdev", *_TEMPORARY]).split()
        assert not found, f"{node}: left by killed writers: {found}"


def no_process_is_left(cluster: Cluster, run: str) -> None:
    """Neither here nor on a node does anything of the killed run go on."""
    until("without processes of the killed run", lambda: _none_of(run), limit=10)
    processes.none_works_on(cluster.state, limit=10)
    for node in cluster.nodes:
        until(f"{node} without work", partial(_none_at_work, node), limit=10)


def _connect(cluster: Cluster) -> Kube:
    path = cluster.directory / "kubeconfig.yaml"
    path.write_text(cluster.run("kubeconfig").succeeded().stdout)
    return Kube(path, Path("kubectl"))  # which nothing here calls


def _one_etcd(cluster: Cluster) -> None:
    """Every control plane's member knows exactly all of them as healthy voters of one cluster."""
    expected = frozenset(cluster.control_planes)
    ids: set[int] = set()
    for machine in cluster.control_planes:
        ids |= etcd.healthy_voters(machine, expected).cluster_ids
    assert len(ids) == 1, f"etcd clusters: {ids}"


def _none_of(run: str) -> None:
    system = System()
    found = system.of_run(run)
    names = [f"{entry.pid} ({entry.name})" for entry in found if entry.name not in LASTING]
    system.close(found)
    if names:
        raise NotYet(", ".join(names))


def _none_at_work(node: str) -> None:
    look = 'pgrep --full --list-full "$1" || test $? = 1'
    found = run_on(node, ["sh", "-c", look, "look", _AT_WORK])
    # The shell's own command line has the pattern in it.
    lines = [line for line in found.splitlines() if _AT_WORK not in line]
    if lines:
        raise NotYet("; ".join(lines))
