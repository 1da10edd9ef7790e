"""What kubeadm is told, and the record that makes a cut run visible."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
from ansible_collections.kubewright.cluster.plugins.module_utils import _kubeadm

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
    assert _kubeadm.read_membership(tmp_path / "record", tmp_path / "kubelet.conf").phase == "none"


def test_a_kubelet_that_somebody_else_joined_is_refused(tmp_path: Path) -> None:
    (tmp_path / "kubelet.conf").touch()
    with pytest.raises(_kubeadm.ForeignCluster, match="kubeadm reset"):
        _kubeadm.read_membership(tmp_path / "record", tmp_path / "kubelet.conf")


def test_started_is_partial_and_finished_is_joined(tmp_path: Path) -> None:
    record = tmp_path / "state" / "kubeadm.json"
    _kubeadm.write_membership("started", "join", "worker", "id", record)
    assert _kubeadm.read_membership(record).phase == "partial"
    _kubeadm.write_membership("finished", "join", "worker", "id", record)
    membership = _kubeadm.read_membership(record)
    assert (membership.phase, membership.role, membership.cluster_id) == ("joined", "worker", "id")
    _kubeadm.remove_membership(record)
    assert not record.exists()


def test_registration_carries_what_cannot_change_later() -> None:
    registration = _kubeadm.node_registration(NODE)
    assert argument(registration, "provider-id") == "local://demo/demo-web-1"
    assert argument(registration, "node-labels") == "a=b,kubewright.io/pool=web"
    assert argument(registration, "node-ip") == "192.0.2.11"
    assert registration["ignorePreflightErrors"] == ["Swap"]
    assert registration["imagePullPolicy"] == "Never"


def test_production_ignores_no_check() -> None:
    registration = _kubeadm.node_registration({"name": "n", "address": "192.0.2.1"})
    assert "ignorePreflightErrors" not in registration
    assert [entry["name"] for entry in registration["kubeletExtraArgs"]] == ["node-ip"]


def test_only_a_second_init_may_find_its_own_remains() -> None:
    first, second = (
        _kubeadm.init_documents(NODE, [], "token", again)[0]["nodeRegistration"]
        for again in (False, True)
    )
    assert first["ignorePreflightErrors"] == ["Swap"]
    assert "DirAvailable--var-lib-etcd" in second["ignorePreflightErrors"]


def test_init_leaves_no_token_of_a_day() -> None:
    document = _kubeadm.init_documents(NODE, [], "abcdef.0123456789abcdef", False)[0]
    assert document["bootstrapTokens"][0]["ttl"] == "1m0s"
    assert "show-join-command" in document["skipPhases"]


def test_a_worker_has_no_control_plane_section() -> None:
    worker = _kubeadm.join_documents(NODE, "worker", DISCOVERY, "token")[0]
    control_plane = _kubeadm.join_documents(NODE, "control_plane", DISCOVERY, "token")[0]
    assert "controlPlane" not in worker
    assert control_plane["controlPlane"]["localAPIEndpoint"]["advertiseAddress"] == "192.0.2.11"
    assert worker["discovery"]["bootstrapToken"]["caCertHashes"] == ["sha256:00"]


def test_the_stream_is_one_json_document_after_each_separator() -> None:
    stream = _kubeadm.as_yaml([{"a": 1}, {"b": 2}])
    assert [json.loads(part) for part in stream.split("---\n")[1:]] == [{"a": 1}, {"b": 2}]


def test_tokens_have_kubeadms_form_and_differ() -> None:
    tokens = {_kubeadm.bootstrap_token() for _ in range(20)}
    assert len(tokens) == 20
    assert all(re.fullmatch(r"[a-z0-9]{6}\.[a-z0-9]{16}", token) for token in tokens)


def test_secrets_are_struck_out() -> None:
    assert (
        _kubeadm.without_secrets("Using token: s3cret, s3cret", ["s3cret", ""])
        == "Using token: ********, ********"
    )
