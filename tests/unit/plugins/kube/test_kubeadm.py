"""What kubeadm is told, and the record that makes a cut run visible."""

from __future__ import annotations

import json
import re
import time
from pathlib import Path
from typing import Any

import pytest
import yaml
from ansible_collections.kubewright.cluster.plugins.doc_fragments import fence
from ansible_collections.kubewright.cluster.plugins.module_utils._base import commands
from ansible_collections.kubewright.cluster.plugins.module_utils._base.errors import KubewrightError
from ansible_collections.kubewright.cluster.plugins.module_utils._kube import (
    kubeadm_config,
    memberships,
)
from ansible_collections.kubewright.cluster.plugins.module_utils._onnode import flannel
from ansible_collections.kubewright.cluster.plugins.modules import kubeadm

NODE = {
    "name": "demo-web-1",
    "address": "192.0.2.11",
    "provider_id": "local://demo/demo-web-1",
    "labels": {"kubewright.io/pool": "web", "a": "b"},
    "ignore_preflight_errors": ["Swap"],
}
DISCOVERY = {"endpoint": "api.demo.internal:7443", "ca_cert_hash": "sha256:00"}


def argument(registration: dict[str, object], name: str) -> object:
    """The value of one kubelet argument."""
    arguments = registration["kubeletExtraArgs"]
    assert isinstance(arguments, list)
    return next(entry["value"] for entry in arguments if entry["name"] == name)


def test_a_node_without_remains_is_none(tmp_path: Path) -> None:
    assert (
        memberships.read_membership(tmp_path / "record", tmp_path / "kubelet.conf").phase == "none"
    )


def test_a_kubelet_that_somebody_else_joined_is_refused(tmp_path: Path) -> None:
    (tmp_path / "kubelet.conf").touch()
    with pytest.raises(memberships.ForeignCluster, match="kubeadm reset"):
        memberships.read_membership(tmp_path / "record", tmp_path / "kubelet.conf")


def test_started_is_partial_and_finished_is_joined(tmp_path: Path) -> None:
    record = tmp_path / "state" / "kubeadm.json"
    memberships.write_membership("started", "join", "worker", "id", record)
    assert memberships.read_membership(record).phase == "partial"
    memberships.write_membership("finished", "join", "worker", "id", record)
    membership = memberships.read_membership(record)
    assert (membership.phase, membership.role, membership.cluster_id) == ("joined", "worker", "id")
    memberships.remove_membership(record)
    assert not record.exists()


@pytest.mark.parametrize(
    ("content", "wrong"),
    [
        (b"", "it is empty"),
        (b"\n", "it is empty"),
        (b'{"phase": "fin', "it is not JSON"),
        (b"\xff\xfe\xfd", "it is not JSON"),
        (b"[]", "it is not a mapping"),
        (b"null", "it is not a mapping"),
        (b'{"phase": "finished", "role": "worker", "cluster_id": "id"}', "it has no operation"),
        (b'{"phase": "finished", "operation": "join", "role": "worker"}', "it has no cluster_id"),
        (
            b'{"phase": "done", "operation": "join", "role": "worker", "cluster_id": "id"}',
            "its phase is 'done' instead of started or finished",
        ),
        (
            b'{"phase": "finished", "operation": "join", "role": [], "cluster_id": "id"}',
            "its role is [] instead of control_plane or worker",
        ),
    ],
)
def test_a_damaged_record_is_no_guess(tmp_path: Path, content: bytes, wrong: str) -> None:
    record = tmp_path / "kubeadm.json"
    record.write_bytes(content)
    with pytest.raises(KubewrightError) as raised:
        memberships.read_membership(record)
    assert f"{record} is damaged: {wrong}" in str(raised.value)
    assert "kubectl get node" in str(raised.value) and "kubeadm reset" in str(raised.value)
    assert record.read_bytes() == content


def test_the_kubelet_may_write_its_kubeconfig(tmp_path: Path) -> None:
    """Its directory is read-only to it, so that kubeadm finds a link there."""
    link, target = tmp_path / "kubernetes/kubelet.conf", tmp_path / "kubelet/kubelet.conf"
    for _ in range(2):
        memberships.lay_kubelet_conf(link, target)
        link.write_text("written")
        assert (link.is_symlink(), target.read_text()) == (True, "written")
    assert target.parent.stat().st_mode & 0o777 == 0o700
    link.unlink()
    link.write_text("of kubeadm before there was a link")
    memberships.lay_kubelet_conf(link, target)
    assert link.readlink() == target


def test_registration_carries_what_cannot_change_later() -> None:
    registration = kubeadm_config.node_registration(NODE)
    assert argument(registration, "provider-id") == "local://demo/demo-web-1"
    assert argument(registration, "node-labels") == "a=b,kubewright.io/pool=web"
    assert argument(registration, "node-ip") == "192.0.2.11"
    assert registration["ignorePreflightErrors"] == ["Swap"]
    assert registration["imagePullPolicy"] == "Never"


def test_production_ignores_no_check() -> None:
    registration = kubeadm_config.node_registration({"name": "n", "address": "192.0.2.1"})
    assert "ignorePreflightErrors" not in registration
    assert [entry["name"] for entry in registration["kubeletExtraArgs"]] == ["node-ip"]


def test_only_a_second_init_may_find_its_own_remains() -> None:
    first, second = (
        kubeadm_config.init_documents(NODE, [], "token", again)[0]["nodeRegistration"]
        for again in (False, True)
    )
    assert first["ignorePreflightErrors"] == ["Swap"]
    assert "DirAvailable--var-lib-etcd" in second["ignorePreflightErrors"]


def test_init_leaves_no_token_of_a_day() -> None:
    document = kubeadm_config.init_documents(NODE, [], "abcdef.0123456789abcdef", False)[0]
    assert document["bootstrapTokens"][0]["ttl"] == "1s"
    assert "show-join-command" in document["skipPhases"]


def test_a_worker_has_no_control_plane_section() -> None:
    worker = kubeadm_config.join_documents(NODE, "worker", DISCOVERY, "token")[0]
    control_plane = kubeadm_config.join_documents(NODE, "control_plane", DISCOVERY, "token")[0]
    assert "controlPlane" not in worker
    assert control_plane["controlPlane"]["localAPIEndpoint"]["advertiseAddress"] == "192.0.2.11"
    assert worker["discovery"]["bootstrapToken"]["caCertHashes"] == ["sha256:00"]


def test_no_limit_of_kubeadm_ends_a_slow_start_before_ours() -> None:
    """It gives the API one minute by itself, which a slow disk takes for the first start alone."""
    first = kubeadm_config.init_documents(NODE, [], "token", False)[0]["timeouts"]
    assert first == kubeadm_config.join_documents(NODE, "worker", DISCOVERY, "token")[0]["timeouts"]
    assert set(first) >= {"kubernetesAPICall", "controlPlaneComponentHealthCheck", "etcdAPICall"}
    seconds = {int(value.removesuffix("s")) for value in first.values()}
    ours = yaml.safe_load(kubeadm.DOCUMENTATION)["options"]["timeout"]["default"]
    lock = yaml.safe_load(fence.ModuleDocFragment.DOCUMENTATION)["options"]["lock_timeout"]
    assert 300 < max(seconds) < ours < lock["default"]


def test_the_stream_is_one_json_document_after_each_separator() -> None:
    stream = kubeadm_config.as_yaml([{"a": 1}, {"b": 2}])
    assert [json.loads(part) for part in stream.split("---\n")[1:]] == [{"a": 1}, {"b": 2}]


def test_tokens_have_kubeadms_form_and_differ() -> None:
    tokens = {kubeadm_config.bootstrap_token() for _ in range(20)}
    assert len(tokens) == 20
    assert all(re.fullmatch(r"[a-z0-9]{6}\.[a-z0-9]{16}", token) for token in tokens)


def test_secrets_are_struck_out() -> None:
    assert (
        kubeadm_config.without_secrets("Using token: s3cret, s3cret", ["s3cret", ""])
        == "Using token: ********, ********"
    )


DYING = """\
kubelet.service: Scheduled restart job, restart counter is at 1.
panic: unrecognized feature gate: Foo
kubelet.service: Scheduled restart job, restart counter is at 2.
"""


class Runner:
    """A kubeadm that waits for a kubelet; systemd has started that one *restarts* times."""

    def __init__(self, restarts: int, rc: int = 0) -> None:
        self.restarts, self.rc = restarts, rc
        self.since: list[str] = []

    def __call__(self, argv: Any, *, timeout: float = 0, stdin: str = "", watch: Any = None) -> Any:
        text, rc = "", 0
        if argv[0] == "journalctl":
            text = DYING
            self.since += [word for word in argv if word.startswith("--since=@")]
        elif argv[0] == "systemctl":
            text = f"LoadState=loaded\nActiveState=activating\nNRestarts={self.restarts}\n"
        else:
            rc = self.rc
            watch()
        return commands.Result(tuple(argv), rc, text, "timed out")


def running(runner: Runner) -> kubeadm.Kubeadm:
    made = kubeadm.Kubeadm.__new__(kubeadm.Kubeadm)
    made.params = {"binary_directory": "/opt/kubewright/bin", "timeout": 580}
    made.runner = runner
    return made


def test_a_kubelet_that_its_settings_kill_is_not_waited_for() -> None:
    began = time.time()
    runner = Runner(2)
    with pytest.raises(KubewrightError) as caught:
        running(runner).run(["join"], [])
    assert "restarted 2 times in the last minute: unrecognized feature gate: Foo" in str(
        caught.value
    )
    assert "kubelet_args" in str(caught.value)
    # What an earlier join left in the journal is not this one's.
    assert float(runner.since[0].removeprefix("--since=@")) >= began - 0.001


def test_a_reset_needs_no_kubelet() -> None:
    running(Runner(2)).run(["reset"], [], needs_kubelet=False)


def test_a_kubelet_that_lives_does_not_end_kubeadm() -> None:
    running(Runner(0)).run(["join"], [])
    with pytest.raises(KubewrightError, match="kubeadm join failed with status 1"):
        running(Runner(0, rc=1)).run(["join"], [])


@pytest.mark.parametrize("bridge", ["cni0", "docker0"])
def test_what_flannel_had_of_a_node_that_is_gone_goes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, bridge: str
) -> None:
    """Or the next Node's first pods get addresses of this one's network."""
    subnets = tmp_path / "subnet.env"
    subnets.write_text("FLANNEL_SUBNET=10.244.1.1/24\n")
    monkeypatch.setattr(flannel, "SUBNETS", subnets)
    monkeypatch.setattr(kubeadm, "ETCD_DATA", tmp_path / "etcd")
    monkeypatch.setattr(memberships, "remove_membership", lambda: None)
    monkeypatch.setattr("socket.if_nameindex", lambda: [(1, "lo"), (2, bridge)])
    ran: list[list[str]] = []

    def run(argv: list[str], **_: Any) -> commands.Result:
        ran.append(argv)
        return commands.Result(tuple(argv), 0, "", "")

    made = running(Runner(0))
    monkeypatch.setattr(made, "runner", run)
    kubeadm.reset(made)
    assert not subnets.exists()
    deleted = ["ip", "link", "delete", "cni0"]
    assert ran[1:] == ([deleted] if bridge == "cni0" else [])
