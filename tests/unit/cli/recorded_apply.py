# SPDX-License-Identifier: Apache-2.0
"""Events of a recorded apply on three control planes and a worker."""

from __future__ import annotations

from typing import Any

HOSTS = ("demo-cp-1", "demo-cp-2", "demo-cp-3", "demo-web-1")
PROBE = "kubewright.cluster.node_state"
REPORT = "kubewright.cluster.preflight_report"
LOOK = "Compare the node with its desired state"
REFUSED = "Task failed: Failed to connect to the host via ssh: ssh: connect: Connection refused"
SWAP = {
    "host": "demo-web-1",
    "check": "swap",
    "severity": "fatal",
    "text": "swap is on",
    "remedy": "swapoff -a",
}


def raw(kind: str, host: str, task: str, action: str = "x.y.z", **res: Any) -> dict[str, Any]:
    data = {"host": host, "task": task, "task_action": action, "task_uuid": "1", "res": res}
    return {"event": kind, "created": "2026-01-01T00:00:01+00:00", "event_data": data}


def play(name: str) -> dict[str, Any]:
    return {"event": "playbook_on_play_start", "event_data": {"name": name}}


def answer(host: str, phase: str = "joined", ready: bool = True, **drift: Any) -> dict[str, Any]:
    told = {"drift": drift, "membership": {"phase": phase}, "node": {"ready": ready}}
    return raw("runner_on_ok", host, LOOK, PROBE, **told)


def silent(host: str) -> dict[str, Any]:
    return raw("runner_on_unreachable", host, LOOK, PROBE, msg=REFUSED)


def report(*findings: dict[str, str]) -> dict[str, Any]:
    return raw("runner_on_ok", "localhost", "Judge", REPORT, findings=list(findings))


UNCHANGED = [answer(host) for host in HOSTS]
DRIFTED = [*UNCHANGED[:3], answer(HOSTS[3], worker=["kubelet is stopped"])]
