# SPDX-License-Identifier: Apache-2.0
"""A kubeconfig is kept good, and made again only for a reason."""

from __future__ import annotations

import base64
import datetime
import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from ansible_collections.kubewright.cluster.plugins.module_utils._cluster import (
    identity,
    identity_making,
    pki,
)
from cryptography import x509
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

RunModule = Callable[..., dict[str, Any]]
EveryKill = Callable[[Callable[[], object]], Iterator[int]]


@pytest.fixture
def state(tmp_path: Path) -> Path:
    identity_making.ensure(tmp_path / "identity", "demo", "", check_mode=False)
    return tmp_path


def kubeconfig(run_module: RunModule, state: Path, **more: Any) -> dict[str, Any]:
    arguments = {
        "path": str(state / "kubeconfig"),
        "identity_path": str(state / "identity"),
        "cluster_name": "demo",
        "server": "https://192.0.2.11:6443",
        **more,
    }
    return run_module("kubeconfig", **arguments)


def client(state: Path) -> x509.Certificate:
    document = yaml.safe_load((state / "kubeconfig").read_text())
    data = document["users"][0]["user"]["client-certificate-data"]
    return x509.load_pem_x509_certificate(base64.b64decode(data))


def test_written_once(run_module: RunModule, state: Path) -> None:
    assert kubeconfig(run_module, state, check=True)["changed"] is True
    assert not (state / "kubeconfig").exists()
    result = kubeconfig(run_module, state, tls_server_name="api.demo.internal")
    assert (result["changed"], result["renewed"]) == (True, "there was none")
    again = kubeconfig(run_module, state, tls_server_name="api.demo.internal")
    assert (again["changed"], again["renewed"]) == (False, "")
    assert again["expires_at"] == result["expires_at"]
    assert (state / "kubeconfig").stat().st_mode & 0o777 == 0o600

    document = yaml.safe_load((state / "kubeconfig").read_text())
    assert (document["apiVersion"], document["kind"]) == ("v1", "Config")
    authority = (state / "identity" / "pki" / "ca.crt").read_bytes()
    assert document["clusters"] == [
        {
            "name": "demo",
            "cluster": {
                "server": "https://192.0.2.11:6443",
                "tls-server-name": "api.demo.internal",
                "certificate-authority-data": base64.b64encode(authority).decode(),
            },
        }
    ]
    name = "kubernetes-admin@demo"
    assert document["current-context"] == name
    assert document["contexts"] == [{"name": name, "context": {"cluster": "demo", "user": name}}]


def test_certificate_is_the_administrators(run_module: RunModule, state: Path) -> None:
    kubeconfig(run_module, state, validity_days=90)
    certificate = client(state)
    authority = x509.load_pem_x509_certificate((state / "identity/pki/ca.crt").read_bytes())
    certificate.verify_directly_issued_by(authority)
    names = certificate.subject
    assert names.get_attributes_for_oid(NameOID.COMMON_NAME)[0].value == "kubernetes-admin"
    groups = names.get_attributes_for_oid(NameOID.ORGANIZATION_NAME)
    assert [group.value for group in groups] == ["kubeadm:cluster-admins"]
    usage = certificate.extensions.get_extension_for_class(x509.ExtendedKeyUsage).value
    assert list(usage) == [ExtendedKeyUsageOID.CLIENT_AUTH]
    left = certificate.not_valid_after_utc - datetime.datetime.now(datetime.UTC)
    assert 89 <= left.days <= 90


def test_new_server_keeps_the_certificate(run_module: RunModule, state: Path) -> None:
    kubeconfig(run_module, state)
    before = client(state)
    result = kubeconfig(run_module, state, server="https://192.0.2.12:6443")
    assert (result["changed"], result["renewed"]) == (True, "")
    assert client(state) == before
    assert "192.0.2.11" in result["diff"]["before"]
    assert "192.0.2.12" in result["diff"]["after"]


@pytest.mark.parametrize(
    ("more", "why"),
    [
        ({"renew_days": 400}, ""),  # a third of a year at most
        ({"renew_days": 400, "validity_days": 3000}, "it expires at"),
        ({"user": "eve"}, "another user"),
        ({"groups": ["a", "b"]}, "other groups"),
    ],
)
def test_renewed_for_a_reason(
    run_module: RunModule, state: Path, more: dict[str, Any], why: str
) -> None:
    kubeconfig(run_module, state)
    before = client(state)
    result = kubeconfig(run_module, state, **more)
    assert why in result["renewed"]
    assert result["changed"] is bool(why)
    assert (client(state) == before) is not bool(why)


def test_new_authority_renews(run_module: RunModule, state: Path, tmp_path: Path) -> None:
    kubeconfig(run_module, state)
    other = tmp_path / "other"
    identity_making.ensure(other, "demo", "", check_mode=False)
    result = kubeconfig(run_module, state, identity_path=str(other))
    assert result["renewed"] == "another CA signed it"


@pytest.mark.parametrize("text", ["", "garbage", "client-certificate-data: !!!\n"])
def test_damaged_file_is_made_again(run_module: RunModule, state: Path, text: str) -> None:
    (state / "kubeconfig").write_text(text)
    assert kubeconfig(run_module, state)["changed"] is True
    assert client(state)


def test_foreign_key_and_nonsense_pem_renew(state: Path) -> None:
    now = datetime.datetime.now(datetime.UTC)
    _document, files = identity.read(state / "identity")
    authority = pki.Pair(files["ca.crt"], files["ca.key"])
    subject = pki.Subject("eve", ())
    one = pki.make_client(authority, subject, 10, now)
    two = pki.make_client(authority, subject, 10, now)
    mixed = pki.Pair(one.certificate, two.key)
    assert "key does not match" in pki.why_renew(mixed, authority.certificate, subject, now, 1)
    broken = pki.Pair("nonsense", one.key)
    assert "cannot be read" in pki.why_renew(broken, authority.certificate, subject, now, 1)
    assert pki.why_renew(one, authority.certificate, subject, now, 1) == ""


def test_readable_by_others_is_closed(run_module: RunModule, state: Path) -> None:
    kubeconfig(run_module, state)
    (state / "kubeconfig").chmod(0o644)
    result = kubeconfig(run_module, state)
    assert (result["changed"], result["renewed"]) == (True, "")
    assert (state / "kubeconfig").stat().st_mode & 0o777 == 0o600


def test_no_secret_in_the_answer(run_module: RunModule, state: Path) -> None:
    kubeconfig(run_module, state)
    key = yaml.safe_load((state / "kubeconfig").read_text())["users"][0]["user"]["client-key-data"]
    result = kubeconfig(run_module, state, user="eve")
    assert result["changed"] is True
    new = yaml.safe_load((state / "kubeconfig").read_text())["users"][0]["user"]["client-key-data"]
    for secret in (key, new):
        assert secret not in json.dumps(result)


def test_missing_identity(run_module: RunModule, tmp_path: Path) -> None:
    result = kubeconfig(run_module, tmp_path)
    assert "was not written" in result["msg"]
    predicted = kubeconfig(run_module, tmp_path, check=True)
    assert predicted["changed"] is True, "the same run would make it"


def test_killed_writer_leaves_the_old_one(
    run_module: RunModule, state: Path, every_kill: EveryKill, monkeypatch: pytest.MonkeyPatch
) -> None:
    from ansible_collections.kubewright.cluster.plugins.modules import kubeconfig as module

    params: dict[str, Any] = {
        "path": str(state / "kubeconfig"),
        "identity_path": str(state / "identity"),
        "cluster_name": "demo",
        "server": "https://192.0.2.11:6443",
        "tls_server_name": None,
        "user": "kubernetes-admin",
        "groups": [],
        "validity_days": 365,
        "renew_days": 30,
    }
    module.converge(params, False)
    old = client(state)
    for _point in every_kill(lambda: module.converge({**params, "user": "eve"}, False)):
        assert client(state)
        module.converge(params, False)
    assert client(state) != old
