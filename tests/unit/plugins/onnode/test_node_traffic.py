# SPDX-License-Identifier: Apache-2.0
"""A node is waited for until traffic flows, and what the probe says of it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from ansible_collections.kubewright.cluster.plugins.module_utils._kube import memberships
from ansible_collections.kubewright.cluster.plugins.module_utils._onnode import check, traffic
from ansible_collections.kubewright.cluster.plugins.modules import node_traffic

RunModule = Callable[..., dict[str, Any]]
TRAFFIC: dict[str, Any] = {
    "name": "web-1",
    "address": "192.0.2.21",
    "nodes": {"web-1": "192.0.2.21"},
    "servers": {},
    "api_name": "api.demo.internal",
    "service_cidr": "10.96.0.0/16",
}
TROUBLE = traffic.Trouble("DNS does not answer here.", "Look at it.", ("cp-1",))
TOLD = {"text": "DNS does not answer here.", "remedy": "Look at it.", "about": ["cp-1"]}


@pytest.fixture
def looks(monkeypatch: pytest.MonkeyPatch) -> list[list[traffic.Trouble]]:
    """What is found at each look; nothing at those after it."""
    found: list[list[traffic.Trouble]] = []
    monkeypatch.setattr(node_traffic, "POLL", 0.0)

    def troubles(request: traffic.Request) -> list[traffic.Trouble]:
        assert request == traffic.Request(**TRAFFIC)
        return found.pop(0) if found else []

    monkeypatch.setattr(check, "troubles", troubles)
    return found


def test_it_is_waited_for(run_module: RunModule, looks: list[list[traffic.Trouble]]) -> None:
    looks += [[TROUBLE], [TROUBLE]]
    result = run_module("node_traffic", **TRAFFIC)
    assert (result["changed"], result["troubles"], looks) == (False, [], [])


def test_what_does_not_flow_in_time_is_an_error(
    run_module: RunModule, looks: list[list[traffic.Trouble]]
) -> None:
    looks += [[TROUBLE]]
    result = run_module("node_traffic", **TRAFFIC, timeout=0)
    assert result["failed"] is True
    assert result["msg"] == (
        "Traffic does not pass after 0 s. DNS does not answer here. Look at it."
    )


def test_check_mode_looks_once(run_module: RunModule, looks: list[list[traffic.Trouble]]) -> None:
    looks += [[TROUBLE]]
    result = run_module("node_traffic", check=True, **TRAFFIC)
    assert (result["changed"], result["troubles"]) == (False, [TOLD])


def test_a_node_says_it_in_the_probe(
    run_module: RunModule,
    looks: list[list[traffic.Trouble]],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    looks += [[TROUBLE]]
    assert run_module("node_state", traffic=TRAFFIC)["traffic"] == [], "it has not joined"
    joined = memberships.Membership("joined", "join", "worker", "ours")
    monkeypatch.setattr(memberships, "read_membership", lambda: joined)
    assert run_module("node_state")["traffic"] == [], "it was not asked"
    assert run_module("node_state", traffic=TRAFFIC)["traffic"] == [TOLD]
    assert looks == []


def test_what_the_probe_can_not_look_at_is_unknown(
    run_module: RunModule, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fails(request: traffic.Request) -> list[traffic.Trouble]:
        raise OSError(2, "No such file or directory", "/etc/kubernetes/pki/ca.crt")

    joined = memberships.Membership("joined", "join", "worker", "ours")
    monkeypatch.setattr(memberships, "read_membership", lambda: joined)
    monkeypatch.setattr(check, "troubles", fails)
    (found,) = run_module("node_state", traffic=TRAFFIC)["unknown"]
    assert found.startswith("whether traffic flows: ")
