# SPDX-License-Identifier: Apache-2.0
"""A cluster's identity is made once, whole, and never mended."""

from __future__ import annotations

import datetime
import hashlib
import json
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from ansible_collections.kubewright.cluster.plugins.module_utils._cluster import (
    identity,
    identity_making,
    pki,
)
from cryptography import x509
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec

RunModule = Callable[..., dict[str, Any]]
EveryKill = Callable[[Callable[[], object]], Iterator[int]]
NOW = datetime.datetime(2026, 11, 23, 8, tzinfo=datetime.UTC)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "demo" / "identity"


def ensured(run_module: RunModule, path: Path, name: str = "demo", **more: Any) -> dict[str, Any]:
    return run_module("cluster_identity", path=str(path), cluster_name=name, **more)


def test_made_once_and_read_ever_after(run_module: RunModule, path: Path) -> None:
    first = ensured(run_module, path)
    assert (first["changed"], first["initial_node"]) == (True, "")
    second = ensured(run_module, path)
    assert second["changed"] is False
    for key in ("cluster_id", "control_plane_pki", "ca_certificate", "ca_cert_hash"):
        assert second[key] == first[key]
    on_disk = {
        str(file.relative_to(path / "pki")): file.read_text()
        for file in (path / "pki").rglob("*.*")
    }
    assert on_disk == first["control_plane_pki"]
    assert sorted(on_disk) == sorted(identity.file_names())
    assert sorted(on_disk) == [
        "ca.crt",
        "ca.key",
        "etcd/ca.crt",
        "etcd/ca.key",
        "front-proxy-ca.crt",
        "front-proxy-ca.key",
        "sa.key",
        "sa.pub",
    ]


def test_closed_to_other_users(run_module: RunModule, path: Path) -> None:
    ensured(run_module, path)
    for entry in [path, *path.rglob("*")]:
        if entry.suffix not in (".crt", ".pub"):
            assert entry.stat().st_mode & 0o077 == 0, entry
    (path / "pki" / "ca.key").chmod(0o644)
    assert ensured(run_module, path, check=True)["changed"] is True
    assert ensured(run_module, path)["changed"] is True
    assert (path / "pki" / "ca.key").stat().st_mode & 0o777 == 0o600
    assert ensured(run_module, path)["changed"] is False


def test_initial_node_is_recorded_once(run_module: RunModule, path: Path) -> None:
    ensured(run_module, path)
    predicted = ensured(run_module, path, initial_node="demo-cp-2", check=True)
    assert (predicted["changed"], predicted["initial_node"]) == (True, "demo-cp-2")
    first = ensured(run_module, path, initial_node="demo-cp-1")
    assert (first["changed"], first["initial_node"]) == (True, "demo-cp-1")
    assert ensured(run_module, path, initial_node="demo-cp-1")["changed"] is False
    assert ensured(run_module, path)["initial_node"] == "demo-cp-1"
    refused = ensured(run_module, path, initial_node="demo-cp-2")
    assert "continue with demo-cp-1" in refused["msg"]
    assert ensured(run_module, path)["initial_node"] == "demo-cp-1"


def test_check_mode_makes_one_up(run_module: RunModule, path: Path) -> None:
    result = ensured(run_module, path, check=True)
    assert result["changed"] is True
    assert result["ca_cert_hash"].startswith("sha256:")
    assert not path.parent.exists()


def test_other_clusters_directory_is_refused(run_module: RunModule, path: Path) -> None:
    ensured(run_module, path)
    assert "identity of cluster 'demo'" in ensured(run_module, path, name="other")["msg"]


@pytest.mark.parametrize("lost", ["cluster.json", "pki/ca.key", "pki/etcd/ca.crt", "pki/sa.pub"])
def test_incomplete_one_is_never_mended(run_module: RunModule, path: Path, lost: str) -> None:
    ensured(run_module, path)
    (path / lost).unlink()
    result = ensured(run_module, path)
    assert "Restore it from a backup" in result["msg"]
    assert not (path / lost).exists()


def test_directory_with_something_else_is_refused(run_module: RunModule, path: Path) -> None:
    path.mkdir(parents=True)
    assert ensured(run_module, path)["changed"] is True, "an empty one is taken"
    other = path.with_name("photos")
    other.mkdir()
    (other / "cat.jpg").write_text("")
    assert "not a complete cluster identity" in ensured(run_module, other)["msg"]


def test_what_a_cluster_keeps_for_life(run_module: RunModule, path: Path) -> None:
    old, new = {"pod_cidr": "10.244.0.0/16"}, {"pod_cidr": "10.240.0.0/16"}
    assert ensured(run_module, path, fixed=old)["begun"] is False
    assert ensured(run_module, path, fixed=new)["changed"], "nothing runs yet"
    begun = ensured(run_module, path, begun=True)
    assert (begun["changed"], begun["begun"]) == (True, True)
    again = ensured(run_module, path, fixed=new)
    assert (again["changed"], again["begun"]) == (False, True)
    for check in (True, False):
        refused = ensured(run_module, path, check=check, fixed=old)
        assert "pod_cidr was 10.240.0.0/16 when cluster 'demo' was created" in refused["msg"]
    assert dict(identity.read(path)[0].fixed) == new


def test_killed_anywhere_it_is_whole_or_not_there(path: Path, every_kill: EveryKill) -> None:
    def make() -> None:
        identity_making.ensure(path, "demo", "demo-cp-1", check_mode=False)

    for _point in every_kill(make):
        if path.exists():
            made, pki = identity.read(path)
            assert made.initial_node == "demo-cp-1"
            assert len(pki) == 8
            path.rename(path.with_name("seen"))
            _remove(path.with_name("seen"))
    assert {entry.name for entry in path.parent.iterdir()} == {path.name, "schema.json"}


def _remove(directory: Path) -> None:
    for entry in sorted(directory.rglob("*"), reverse=True):
        entry.rmdir() if entry.is_dir() else entry.unlink()
    directory.rmdir()


def test_killed_while_recording_the_node(path: Path, every_kill: EveryKill) -> None:
    before = identity_making.ensure(path, "demo", "", check_mode=False)
    document = (path / "cluster.json").read_text()

    def record() -> None:
        identity_making.ensure(path, "demo", "demo-cp-1", check_mode=False)

    for _point in every_kill(record):
        made, pki = identity.read(path)
        assert made.initial_node in ("", "demo-cp-1")
        assert pki == before.pki
        (path / "cluster.json").write_text(document)
    assert identity.read(path)[0].initial_node == "demo-cp-1"


def test_authorities_are_what_kubeadm_expects() -> None:
    made = pki.control_plane_pki(NOW)
    for file, common_name in identity.AUTHORITIES.items():
        certificate = x509.load_pem_x509_certificate(made[f"{file}.crt"].encode())
        key = serialization.load_pem_private_key(made[f"{file}.key"].encode(), None)
        assert made[f"{file}.key"].startswith("-----BEGIN EC PRIVATE KEY-----\n")
        assert isinstance(key, ec.EllipticCurvePrivateKey)
        assert key.curve.name == "secp256r1"
        assert key.public_key() == certificate.public_key()
        assert certificate.subject.rfc4514_string() == f"CN={common_name}"
        constraints = certificate.extensions.get_extension_for_class(x509.BasicConstraints)
        assert (constraints.value.ca, constraints.critical) == (True, True)
        usage = certificate.extensions.get_extension_for_class(x509.KeyUsage).value
        assert usage.key_cert_sign
        certificate.verify_directly_issued_by(certificate)
        assert certificate.not_valid_before_utc < NOW
        assert (certificate.not_valid_after_utc - NOW).days == 3650
    private = serialization.load_pem_private_key(made["sa.key"].encode(), None)
    public = serialization.load_pem_public_key(made["sa.pub"].encode())
    assert private.public_key() == public


def test_hash_is_the_one_that_openssl_gives(tmp_path: Path) -> None:
    """The recipe in Kubernetes' documentation of ``--discovery-token-ca-cert-hash``."""
    made = pki.control_plane_pki(NOW)
    (tmp_path / "ca.crt").write_text(made["ca.crt"])
    script = f"openssl x509 -pubkey -noout -in {tmp_path}/ca.crt | openssl pkey -pubin -outform der"
    der = subprocess.run(["sh", "-c", script], capture_output=True, check=True).stdout
    assert pki.public_key_hash(made["ca.crt"]) == f"sha256:{hashlib.sha256(der).hexdigest()}"


def test_missing_library_is_named(
    run_module: RunModule, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pki, "HAVE_CRYPTOGRAPHY", False)
    result = ensured(run_module, path)
    assert "lacks cryptography >= 42.0.0" in result["msg"]
    assert not path.exists()


def test_diff_has_no_key(run_module: RunModule, path: Path) -> None:
    result = ensured(run_module, path, initial_node="demo-cp-1")
    assert "PRIVATE" not in json.dumps(result["diff"])
    assert "PRIVATE" not in json.dumps(result["invocation"])
