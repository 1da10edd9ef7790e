# SPDX-License-Identifier: Apache-2.0
"""Which snapshots are healthy, and what is said of the others."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import pytest

from kubewright.observe import (
    ApiServer,
    Condition,
    Etcd,
    EtcdMember,
    Finding,
    Node,
    Report,
    Snapshot,
    troubles,
    warnings,
)
from kubewright.spec.machines import Machine
from kubewright.spec.models import ControlPlane, Pool, Spec
from kubewright.spec.models import Node as Own

SPEC = Spec(
    plugin="kubewright.cluster.spec",
    name="demo",
    version="1.37",
    control_plane=ControlPlane(provider="local", size=3),
    pools=(Pool(name="web", provider="local", size=1),),
)
HOSTS = ("demo-cp-1", "demo-cp-2", "demo-cp-3", "demo-web-1")
READY = Condition("Ready", "True")


def node(name: str) -> Node:
    return Node(name, "", False, "v1.37.2", True, False, "10.0.0.1", (READY,))


def machine(name: str) -> Machine:
    return Machine(f"x://{name}", name, "10.0.0.1", (), "local", "", "", "", "on")


def member(host: str, **more: Any) -> EtcdMember:
    return EtcdMember("1", host, "10.0.0.1", True, **more)


GOOD = Snapshot(
    cluster="demo",
    taken_at=datetime(2026, 1, 1, tzinfo=UTC),
    api_servers=tuple(ApiServer(host, "10.0.0.1", True) for host in HOSTS[:3]),
    etcd=Etcd((member("demo-cp-1", leader=True), member("demo-cp-2"), member("demo-cp-3"))),
    nodes=tuple(node(host) for host in HOSTS),
    machines=tuple(machine(host) for host in HOSTS),
)


def test_a_healthy_cluster() -> None:
    assert troubles(SPEC, GOOD) == ()


def test_no_machines_is_said_once() -> None:
    empty = Snapshot("demo", GOOD.taken_at, nodes_reason="no API server is ready")
    assert troubles(SPEC, empty) == ("no machines yet: run 'kubewright apply'",)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"machines": GOOD.machines[:3]}, ["demo-web-1 has no machine"]),
        (
            {"machines": (*GOOD.machines[:3], replace(GOOD.machines[3], power="off"))},
            [
                "the machine demo-web-1 was off when its provider was last queried; 'kubewright "
                "apply'"
            ],
        ),
        (
            {
                "api_servers": (
                    replace(GOOD.api_servers[0], ready=False, reason="no answer within 3 s"),
                    *GOOD.api_servers[1:],
                )
            },
            ["the API server of demo-cp-1 (10.0.0.1): no answer within 3 s"],
        ),
        (
            {"etcd": Etcd(GOOD.etcd.members[:2])},
            ["etcd has 2 of 3 members"],
        ),
        (
            {
                "etcd": Etcd(
                    (
                        *GOOD.etcd.members[:2],
                        replace(GOOD.etcd.members[2], healthy=False, reason="no answer"),
                    )
                )
            },
            ["etcd's member on demo-cp-3: no answer"],
        ),
        (
            {
                "etcd": Etcd(
                    tuple(replace(m, leader=False, healthy=False) for m in GOOD.etcd.members)
                )
            },
            ["demo-cp-1", "demo-cp-2", "demo-cp-3", "etcd has no quorum: 0 of 3"],
        ),
        (
            {"etcd": Etcd((*GOOD.etcd.members[:2], member("demo-cp-3", learner=True)))},
            ["demo-cp-3 is still a learner"],
        ),
        ({"etcd": Etcd(reason="everyone is away")}, ["etcd can't be queried: everyone is away"]),
        (
            {"nodes": GOOD.nodes[:3]},
            ["demo-web-1 is not a node of the cluster: 'kubewright apply' adds it"],
        ),
        (
            {"nodes": (*GOOD.nodes[:3], replace(GOOD.nodes[3], address="10.0.0.9"))},
            [
                "the node demo-web-1 has the address 10.0.0.9, but its machine has 10.0.0.1: "
                "see 'kubewright plan'"
            ],
        ),
        (
            {
                "nodes": (
                    *GOOD.nodes[:3],
                    replace(
                        GOOD.nodes[3],
                        ready=False,
                        conditions=(Condition("Ready", "Unknown", "NodeStatusUnknown"),),
                    ),
                )
            },
            ["the node demo-web-1 is not ready: NodeStatusUnknown"],
        ),
        (
            {
                "nodes": (
                    *GOOD.nodes[:3],
                    replace(
                        GOOD.nodes[3],
                        conditions=(READY, Condition("DiskPressure", "True", "", "full")),
                    ),
                )
            },
            ["the node demo-web-1 has DiskPressure: full"],
        ),
        ({"nodes": None, "nodes_reason": "why"}, ["the nodes can't be read: why"]),
        (
            {
                "reports": (
                    Report(
                        "demo-web-1",
                        (
                            Finding("volume", "It is full. Do this."),
                            Finding("traffic", "Nobody answers.", "Look."),
                        ),
                    ),
                    Report("demo-web-2", reason="none yet", prepared=False),
                    Report("demo-web-3", reason="why"),
                    Report("demo-web-4", reason="why", remedy="Do that."),
                )
            },
            [
                "the system volume of demo-web-1: It is full. Do this.",
                "demo-web-1: Nobody answers. Look.",
                "demo-web-3 can't be checked over SSH: why",
                "demo-web-4 can't be checked over SSH: why. Do that.",
            ],
        ),
    ],
)
def test_what_is_wrong(changes: dict[str, Any], words: list[str]) -> None:
    found = troubles(SPEC, replace(GOOD, **changes))
    assert len(found) == len(words)
    for sentence, word in zip(found, words, strict=True):
        assert word in sentence


def test_what_ends_soon_is_a_warning_and_what_has_ended_is_not_healthy() -> None:
    def seen(warning: bool) -> Snapshot:
        here = Finding("certificates", "the CA ends.", "Move.", warning)
        there = Finding("certificates", "the certificate of etcd ends.", "Renew it.", warning)
        return replace(GOOD, state=(here,), reports=(Report("demo-cp-1", (there,)),))

    said = ("the CA ends. Move.", "demo-cp-1: the certificate of etcd ends. Renew it.")
    assert (troubles(SPEC, seen(True)), warnings(seen(True))) == ((), said)
    assert (troubles(SPEC, seen(False)), warnings(seen(False))) == (said, ())


def test_a_machine_of_ones_own_that_has_another_address_by_now() -> None:
    """The list of machines has the one that was asked last."""
    own = tuple(Own(name=host, address="10.0.0.1", host_keys=()) for host in HOSTS)
    spec = SPEC.model_copy(
        update={
            "control_plane": ControlPlane(provider="static", nodes=own[:3]),
            "pools": (Pool(name="web", provider="static", nodes=own[3:]),),
        }
    )
    assert troubles(spec, GOOD) == ()
    moved = (Own(name=HOSTS[3], address="10.0.0.9", host_keys=()),)
    pools = (Pool(name="web", provider="static", nodes=moved),)
    assert troubles(spec.model_copy(update={"pools": pools}), GOOD) == (
        "demo-web-1 was checked at 10.0.0.1, but has the address 10.0.0.9 in cluster.yml now: run "
        "'kubewright plan' to check it there",
    )
