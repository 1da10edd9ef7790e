# Copyright: the Kubewright authors
# Apache License 2.0 (see LICENSE or https://www.apache.org/licenses/LICENSE-2.0)
"""A control plane is restarted in an order in which each part finds what it needs."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

import pytest
from ansible_collections.kubewright.cluster.plugins.module_utils._base import commands
from ansible_collections.kubewright.cluster.plugins.module_utils._base.errors import KubewrightError
from ansible_collections.kubewright.cluster.plugins.module_utils._kube import apiserver, static_pods
from ansible_collections.kubewright.cluster.plugins.modules import control_plane_restart

RENEWED, OLD = 1000.0, 900
ALL = ["kube-apiserver", "kube-controller-manager", "kube-scheduler"]


class Containerd:
    """crictl on a node whose kubelet starts again what has ended, unless it is `dead`."""

    def __init__(self, running: Sequence[str] = ALL) -> None:
        self.running = {name: f"{name}-1" for name in running}
        self.stopped: list[str] = []
        self.dead: set[str] = set()
        self.created: dict[str, int] = {}

    def __call__(
        self, argv: Sequence[str], *, timeout: float = 0, stdin: str = ""
    ) -> commands.Result:
        assert argv[3] == "--timeout=0.1s"  # its own is 2 s
        if argv[4] == "ps":
            name = argv[-1].partition("=")[2]
            found = [self.running[name]] if self.running.get(name) else []
            listed = [
                {"id": one, "createdAt": str(self.created.get(one, OLD) * 10**9)} for one in found
            ]
            return commands.Result(tuple(argv), 0, json.dumps({"containers": listed}), "")
        assert argv[4] == "stop"
        for container in argv[7:]:
            name, _, number = container.rpartition("-")
            self.stopped.append(container)
            assert self.running[name] == container
            self.running[name] = "" if name in self.dead else f"{name}-{int(number) + 1}"
        return commands.Result(tuple(argv), 0, "", "")


@pytest.fixture(autouse=True)
def api(monkeypatch: pytest.MonkeyPatch) -> dict[str, bool]:
    """Whether the API server gets ready."""
    told = {"ready": True}
    monkeypatch.setattr(apiserver, "wait_for_api", lambda *_: told["ready"])
    monkeypatch.setattr(static_pods, "POLL", 0.01)
    return told


def pods(containerd: Containerd) -> static_pods.StaticPods:
    return static_pods.StaticPods(
        containerd, Path("/opt/kubewright/bin"), "192.0.2.11", Path("ca.crt"), 0.1
    )


def test_the_api_server_is_ready_before_others_are_stopped(api: dict[str, bool]) -> None:
    containerd = Containerd()
    pods(containerd).restart(RENEWED)
    assert containerd.stopped == [f"{name}-1" for name in ALL]
    api["ready"] = False
    containerd = Containerd()
    with pytest.raises(KubewrightError, match=r"API server of this node is not ready 0\.1 s after"):
        pods(containerd).restart(RENEWED)
    assert containerd.stopped == ["kube-apiserver-1"]


def test_who_ended_by_itself_meanwhile_is_not_stopped_twice() -> None:
    """A controller manager that lost its API server ends, and starts with the new certificate."""
    containerd = Containerd()
    real = containerd.__call__

    def run(argv: Sequence[str], *, timeout: float = 0, stdin: str = "") -> commands.Result:
        result = real(argv)
        if argv[4] == "stop" and "kube-apiserver-1" in argv:
            containerd.running["kube-controller-manager"] = "kube-controller-manager-2"
        return result

    static_pods.StaticPods(run, Path("/b"), "192.0.2.11", Path("ca.crt"), 0.1).restart(RENEWED)
    assert containerd.stopped == ["kube-apiserver-1", "kube-scheduler-1"]


def test_who_started_after_the_renewal_goes_on() -> None:
    """Also where another run was cut when it had restarted some."""
    containerd = Containerd()
    containerd.created = {"kube-apiserver-1": 1001, "kube-scheduler-1": 1000}
    pods(containerd).restart(RENEWED)
    assert containerd.stopped == ["kube-controller-manager-1"]


def test_where_nothing_runs_yet_all_is_awaited_and_nothing_stopped() -> None:
    """After a boot with an expired kubelet, which has just been given a certificate."""
    containerd = Containerd(running=[])
    with pytest.raises(KubewrightError, match=r"kube-apiserver is not running 0\.1 s after"):
        pods(containerd).restart(RENEWED)
    assert containerd.stopped == []


def test_who_does_not_come_back_is_named() -> None:
    containerd = Containerd()
    containerd.dead = {"kube-scheduler"}
    with pytest.raises(KubewrightError, match="kube-scheduler is not running"):
        pods(containerd).restart(RENEWED)


def test_only_a_renewal_makes_a_restart_and_its_record_stays_until_the_end(
    tmp_path: Path, api: dict[str, bool]
) -> None:
    record, containerd = tmp_path / "renewal.json", Containerd()
    assert control_plane_restart.converge(pods(containerd), record, False) == []
    record.write_text("{}")
    assert control_plane_restart.converge(pods(containerd), record, True) == ALL
    assert containerd.stopped == []
    api["ready"] = False
    with pytest.raises(KubewrightError):
        control_plane_restart.converge(pods(containerd), record, False)
    assert record.exists()
    api["ready"] = True
    assert control_plane_restart.converge(pods(containerd), record, False) == ALL
    assert not record.exists()
    assert control_plane_restart.converge(pods(containerd), record, False) == []
