# Copyright: the Kubewright authors
# Apache License 2.0 (see LICENSE or https://www.apache.org/licenses/LICENSE-2.0)
"""Certificates are renewed beside the old ones, and whoever is killed meanwhile leaves no wreck."""

from __future__ import annotations

import base64
import json
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import certified
import pytest
from ansible_collections.kubewright.cluster.plugins.module_utils._base import atomic, commands
from ansible_collections.kubewright.cluster.plugins.module_utils._base.errors import KubewrightError
from ansible_collections.kubewright.cluster.plugins.module_utils._cluster import pki
from ansible_collections.kubewright.cluster.plugins.module_utils._kube import renewal
from ansible_collections.kubewright.cluster.plugins.module_utils._onnode import (
    certificates as expiry,
)
from ansible_collections.kubewright.cluster.plugins.modules import certificates

NOW = certified.NOW
CLUSTER = {"apiVersion": "kubeadm.k8s.io/v1beta4", "kind": "ClusterConfiguration"}
PARAMS: dict[str, Any] = {
    "role": "control_plane",
    "address": "192.0.2.11",
    "documents": [CLUSTER, {"kind": "KubeletConfiguration"}],
    "server": "https://api.demo.internal:7443",
    "token": "abcdef.0123456789abcdef",
    "controller_time": NOW.timestamp() + 3600,
}


class Killed(BaseException):
    """The process ends here."""


class Machine:
    """A node whose kubeadm and kubelet do what the real ones do to files."""

    def __init__(self, root: Path, authority: pki.Pair) -> None:
        self.root, self.authority = root, authority
        self.commands: list[list[str]] = []
        #: What a kubelet does that starts.
        self.kubelet: Callable[[], None] = lambda: None
        self.staged: list[str] = []

    def __call__(
        self, argv: Sequence[str], *, timeout: float = 0, stdin: str = ""
    ) -> commands.Result:
        self.commands.append(list(argv))
        said = ""
        if argv[0].endswith("kubeadm"):
            said = self._kubeadm(Path(argv[2]), argv[3:])
        elif argv[:2] == ["systemctl", "restart"]:
            self.kubelet()
        elif argv[0] == "journalctl":
            said = (
                'E1129 20:14:09.1 6 server.go:9] "Failed to start" err="no certificate is signed"\n'
                "kubelet.service: Consumed 1s CPU time.\n"
            )
        return commands.Result(tuple(argv), 0, said, "")

    def _kubeadm(self, stage: Path, arguments: Sequence[str]) -> str:
        assert (stage.stat().st_mode & 0o777) == 0o700
        told = (stage / "kubeadm.yaml").read_text()
        assert '"advertiseAddress": "192.0.2.11"' in told and "KubeletConf" not in told
        self.staged = sorted(
            str(path.relative_to(stage)) for path in stage.rglob("*") if path.is_file()
        )
        made = certified.pair(self.authority, 365)
        if arguments[0] == "kubeconfig":
            return certified.kubeconfig(made)
        for name in expiry.OF_KUBEADM:
            path = stage / "etc/kubernetes" / name
            if not path.exists():
                continue
            if path.suffix == ".conf":
                path.write_text(certified.kubeconfig(made))
            else:
                path.write_text(made.certificate)
                path.with_suffix(".key").write_text(made.key)
        return ""

    @property
    def node(self) -> renewal.Node:
        return renewal.Node(
            "cp-1",
            self,
            Path("/opt/kubewright/bin"),
            1.0,
            self.root / "etc/kubernetes",
            self.root / "var/lib/kubelet/pki",
            self.root / "renewal.json",
            self.root / "run/renewal",
        )

    def found(self) -> list[expiry.Certificate]:
        return expiry.of_node(self.node.kubernetes, self.node.kubelet)

    def converge(self, check_mode: bool = False, **params: Any) -> list[str]:
        told = {**PARAMS, **params}
        return [one.name for one in certificates.converge(self.node, told, NOW, check_mode)]


def a_control_plane(root: Path, **left: Any) -> Machine:
    return Machine(root, certified.lay(root, **left))


def a_worker(root: Path, **left: Any) -> Machine:
    return Machine(root, certified.lay(root, control_plane=False, **left))


def content(root: Path) -> dict[str, bytes]:
    return {str(path): path.read_bytes() for path in root.rglob("*") if path.is_file()}


def test_a_node_whose_certificates_are_good_is_not_touched(tmp_path: Path) -> None:
    machine = a_control_plane(tmp_path)
    before = content(tmp_path)
    assert machine.converge() == []
    assert (machine.commands, content(tmp_path)) == ([], before)


def test_a_prediction_changes_nothing(tmp_path: Path) -> None:
    machine = a_control_plane(tmp_path, but={"pki/apiserver.crt": 12})
    before = content(tmp_path)
    assert machine.converge(check_mode=True) == ["pki/apiserver.crt"]
    assert (machine.commands, content(tmp_path)) == ([], before)


def test_a_control_plane_gets_new_ones_and_nothing_of_them_is_left_elsewhere(
    tmp_path: Path,
) -> None:
    machine = a_control_plane(tmp_path, but={"pki/apiserver.crt": 12})
    authority = content(tmp_path)[str(tmp_path / "etc/kubernetes/pki/ca.key")]
    assert machine.converge() == ["pki/apiserver.crt"]
    assert expiry.due(machine.found(), NOW) == []
    # What runs has the old ones still.
    assert abs(renewal.renewed_at(machine.node.record) - time.time()) < 60
    assert not machine.node.stage.exists()
    assert "etc/kubernetes/pki/front-proxy-ca.key" in machine.staged
    assert (tmp_path / "etc/kubernetes/pki/ca.key").read_bytes() == authority
    # The kubelet's are good, so it is left alone.
    assert [command[0] for command in machine.commands] == ["/opt/kubewright/bin/kubeadm"]


def test_modes_stay_what_they_were(tmp_path: Path) -> None:
    machine = a_control_plane(tmp_path, days_left=1)
    for name, mode in (("admin.conf", 0o600), ("pki/apiserver.crt", 0o644)):
        (machine.node.kubernetes / name).chmod(mode)
    machine.converge()
    assert ((machine.node.kubernetes / "admin.conf").stat().st_mode & 0o777) == 0o600
    assert ((machine.node.kubernetes / "pki/apiserver.crt").stat().st_mode & 0o777) == 0o644


def test_one_that_is_killed_at_any_write_is_finished_by_the_next(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each is at all times the old one, the new one, or one that is seen to be wrong."""
    real = atomic.write_file
    # A pair is two files, a kubeconfig one; the record is written before and after.
    of_kubeadm = 2 + sum(2 if name.endswith(".crt") else 1 for name in expiry.OF_KUBEADM)
    of_kubelet = 1
    for cut_at in range(of_kubeadm + of_kubelet):
        root = tmp_path / str(cut_at)
        machine = a_control_plane(root, days_left=-400)
        left = iter([True] * cut_at)

        def write(*args: Any, left: Iterator[bool] = left, **kwargs: Any) -> None:
            if not next(left, False):
                raise Killed
            real(*args, **kwargs)

        with monkeypatch.context() as patched:
            patched.setattr(atomic, "write_file", write)
            try:
                machine.converge()
            except Killed:
                # Nobody takes it for finished who has not all of it.
                at = renewal.renewed_at(machine.node.record) if cut_at else None
                assert (at not in (None, float("inf"))) is (cut_at >= of_kubeadm)
                assert expiry.reasons(machine.found(), NOW, machine.node.record)
        machine.converge()
        assert expiry.due(machine.found(), NOW) == []
        assert machine.node.record.exists()


def test_what_a_killed_one_left_in_memory_goes(tmp_path: Path) -> None:
    machine = a_control_plane(tmp_path, days_left=1)
    left = machine.node.stage / "etc/kubernetes/pki/ca.key"
    left.parent.mkdir(parents=True)
    left.write_text("of the one before")
    machine.converge()
    assert not machine.node.stage.exists()


def test_the_kubelet_of_a_control_plane_needs_no_api(tmp_path: Path) -> None:
    """Its API server is started by that very kubelet."""
    machine = a_control_plane(tmp_path, but={expiry.KUBELET_CLIENT: -30})
    assert machine.converge() == [expiry.KUBELET_CLIENT]
    assert expiry.due(machine.found(), NOW) == []
    (signed, *rest) = machine.commands
    assert "--client-name=system:node:cp-1" in signed and "--org=system:nodes" in signed
    assert rest == [
        ["systemctl", "reset-failed", "kubelet.service"],
        ["systemctl", "restart", "kubelet.service"],
    ]
    current = (tmp_path / "var/lib/kubelet/pki" / expiry.KUBELET_CLIENT).resolve()
    assert (current.stat().st_mode & 0o777) == 0o600
    assert not machine.node.record.exists()


@pytest.mark.parametrize("server", ["https://127.0.0.1:7443", ""])
def test_the_kubelet_of_a_worker_asks_with_a_token(tmp_path: Path, server: str) -> None:
    machine = a_worker(tmp_path, but={expiry.KUBELET_CLIENT: -30})
    if server:
        own = machine.node.kubernetes / "kubelet.conf"
        own.write_text(f"clusters:\n- cluster:\n    server: {server}\n")
    laid = machine.node.kubernetes / "bootstrap-kubelet.conf"
    told: dict[str, Any] = {}

    def bootstrap() -> None:
        told.update(json.loads(laid.read_text()))
        assert (laid.stat().st_mode & 0o777) == 0o600
        certified.lay_kubelets(tmp_path, machine.authority, 365)

    machine.kubelet = bootstrap
    assert machine.converge(role="worker") == [expiry.KUBELET_CLIENT]
    assert told["users"][0]["user"] == {"token": PARAMS["token"]}
    cluster = told["clusters"][0]["cluster"]
    assert cluster["server"] == (server or PARAMS["server"])
    authority = (machine.node.kubernetes / "pki/ca.crt").read_bytes()
    assert base64.b64decode(cluster["certificate-authority-data"]) == authority
    assert not laid.exists()
    assert PARAMS["token"] not in json.dumps(machine.commands)


def test_a_kubelet_that_gets_none_is_told_with_its_own_words(tmp_path: Path) -> None:
    machine = a_worker(tmp_path, but={expiry.KUBELET_CLIENT: -30})
    with pytest.raises(KubewrightError, match="no new certificate after 1 s") as caught:
        machine.converge(role="worker")
    assert str(caught.value).endswith("The kubelet says: Failed to start: no certificate is signed")
    assert PARAMS["token"] not in str(caught.value)
    assert not (machine.node.kubernetes / "bootstrap-kubelet.conf").exists()


@pytest.mark.parametrize("make", [a_control_plane, a_worker])
def test_a_kubelet_makes_its_servers_again(tmp_path: Path, make: Callable[..., Machine]) -> None:
    machine = make(tmp_path, but={expiry.KUBELET_SERVER: 2})
    there = machine.node.kubelet / "kubelet.crt"
    seen: list[bool] = []
    machine.kubelet = lambda: seen.append(there.exists())
    role = "control_plane" if make is a_control_plane else "worker"
    assert machine.converge(role=role) == [expiry.KUBELET_SERVER]
    assert seen == [False]


def test_a_node_whose_clock_is_wrong_is_refused(tmp_path: Path) -> None:
    """With the wrong year all seems to have expired, and new ones would begin in that year."""
    machine = a_control_plane(tmp_path, days_left=-400)
    before = content(tmp_path)
    with pytest.raises(KubewrightError, match="clock says 2026-11-29 12:00") as caught:
        machine.converge(controller_time=NOW.timestamp() - 500 * 86400)
    assert "timedatectl" in str(caught.value)
    assert (machine.commands, content(tmp_path)) == ([], before)


def test_what_kubeadm_says_is_told_and_its_output_is_not(tmp_path: Path) -> None:
    machine = a_control_plane(tmp_path, days_left=1)

    def fail(argv: Sequence[str], *, timeout: float = 0, stdin: str = "") -> commands.Result:
        return commands.Result(tuple(argv), 1, "secret", "failed to load existing certificate")

    node = renewal.Node("cp-1", fail, Path("/bin"), 1.0, machine.node.kubernetes)
    with pytest.raises(KubewrightError, match="failed to load existing certificate") as caught:
        node.kubeadm("certs", "renew", "all")
    assert "secret" not in str(caught.value)
