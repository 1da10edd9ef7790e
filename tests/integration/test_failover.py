# SPDX-License-Identifier: Apache-2.0
"""Power cuts: of each control plane in turn, then of everything at once."""

from __future__ import annotations

import time
from collections.abc import Callable
from functools import partial
from urllib.parse import urlsplit

import etcd
import kube as api
import pytest
import workload
from cluster import API_PORT, Cluster
from kube import Kube
from machines import power_off, power_on, run_on
from probing import RATE, SECONDS, Probers, none_failed, of_api
from waiting import until

NAMESPACE = "default"
#: A balancer may need this many seconds to take a dead API server out.
DETECTION = 3.0
#: Seconds from the cut in which everything must be whole again.
RECOVERY = 300.0
#: What flannel, its plugins and containerd have noted of pods' networks.
CNI_BOOKS = ("/var/lib/cni/flannel", "/var/lib/cni/networks/cbr0", "/var/lib/cni/results")


@pytest.mark.parametrize("index", range(3))
def test_any_control_plane_may_lose_power(
    cluster: Cluster,
    connect: Callable[[], Kube],
    test_image: str,
    measured: Callable[[str, object], None],
    index: int,
) -> None:
    lost = cluster.control_planes[index]
    others = [name for name in cluster.control_planes if name != lost]
    survivors = [name for name in cluster.nodes if name != lost]
    voters = frozenset(cluster.control_planes)
    leader = until("healthy", partial(etcd.healthy_voters, others[0], voters), 60).leader

    credentials = connect().credentials()
    probers = Probers([of_api(one, credentials, cluster.api_name, API_PORT) for one in survivors])
    try:
        power_off(lost)
        cut = time.monotonic()
        probers.begin(cut + DETECTION)

        # Meanwhile the command finds a way in, and what the cluster runs can change.
        kube = connect()
        server = urlsplit(kube.entry["server"]).hostname
        assert server in [cluster.addresses[name] for name in others]
        name = f"during-{index + 1}"
        kube.apps.create_namespaced_deployment(NAMESPACE, workload.deployment(name, replicas=2))
        until(f"available: {name}", api.available(kube, NAMESPACE, name), limit=SECONDS)
        deployed = time.monotonic() - cut
        until(f"known to be lost: {lost}", api.not_ready(kube, lost), limit=SECONDS)

        seen = probers.finish()
    finally:
        probers.stop()
        on_again = api.now()
        power_on(lost)

    left = cut + RECOVERY - time.monotonic()
    until("whole", api.all_ready(kube, frozenset(cluster.nodes), since=on_again), limit=left)
    left = cut + RECOVERY - time.monotonic()
    until("healthy", partial(etcd.healthy_voters, lost, voters), limit=left)
    whole = api.now() - on_again

    measured(f"{lost} off: was etcd's leader", leader == lost)
    measured(f"{lost} off: a new Deployment available after", deployed)
    measured(f"{lost} off: slowest probe", max(result.slowest for result in seen.values()))
    measured(f"{lost} on: whole after", whole.total_seconds())
    measured(f"{lost} off: latest probe", max(result.latest_start for result in seen.values()))
    none_failed(seen, RATE * SECONDS)


def test_everything_may_lose_power(
    cluster: Cluster,
    connect: Callable[[], Kube],
    servers: dict[str, str],
    measured: Callable[[str, object], None],
) -> None:
    before = connect()
    for node in cluster.workers:
        # What a machine would lose, and a container does not: the plugins of networks sync nothing.
        # Control planes run no pod with a network of its own, and have no such files.
        run_on(node, ["find", *CNI_BOOKS, "-type", "f", "-exec", "truncate", "--size=0", "{}", "+"])
    power_off(*cluster.nodes)
    cut = time.monotonic()
    try:
        # The command says what is wrong, in words.
        answer = cluster.run("kubeconfig")
        assert answer.status != 0
        assert answer.stdout == ""
        assert "Traceback" not in answer.stderr
        assert cluster.name in answer.stderr, answer.stderr
    finally:
        on_again = api.now()
        power_on(*cluster.nodes)

    def limit() -> float:
        return cut + RECOVERY - time.monotonic()

    ready = api.all_ready(before, frozenset(cluster.nodes), since=on_again)
    until("whole", ready, limit=limit())
    measured("all off and on: nodes Ready after", (api.now() - on_again).total_seconds())
    coredns = api.available(before, "kube-system", "coredns", since=on_again)
    until("available: coredns", coredns, limit=limit())
    voters = frozenset(cluster.control_planes)
    for machine in cluster.control_planes:
        until("healthy", partial(etcd.healthy_voters, machine, voters), limit=limit())
        assert not etcd.strangers(machine), f"etcd's log on {machine} has members that never were"
    for name in servers:
        until(f"back: {name}", api.available(before, NAMESPACE, name, on_again), limit=limit())
    client, server = servers
    reaches = workload.reaches(connect(), servers, client, server)
    until(f"answered by {server}", reaches, limit=limit())
    measured("all off and on: pods reach each other after", (api.now() - on_again).total_seconds())
