# Copyright: the Kubewright authors
# Apache License 2.0 (see LICENSE or https://www.apache.org/licenses/LICENSE-2.0)
"""When a node's certificates end, read without a library, and what is said of them."""

from __future__ import annotations

import datetime
import json
import subprocess
import sys
from pathlib import Path

import certified
import pytest
from ansible_collections.kubewright.cluster.plugins.module_utils._cluster import pki
from ansible_collections.kubewright.cluster.plugins.module_utils._onnode import certificates, report
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import rsa

NOW = certified.NOW


def of(root: Path) -> list[certificates.Certificate]:
    return certificates.of_node(root / "etc/kubernetes", root / "var/lib/kubelet/pki")


def told(root: Path, now: datetime.datetime = NOW) -> list[str]:
    return certificates.reasons(of(root), now, root / "renewal.json")


@pytest.mark.parametrize("year", [1999, 2026, 2049, 2050, 2137])
def test_dates_are_read_as_cryptography_reads_them(year: int) -> None:
    """UTCTime until 2049, GeneralizedTime from 2050 on (RFC 5280, 4.1.2.5)."""
    begins = datetime.datetime(year, 2, 3, 4, 5, 6, tzinfo=datetime.UTC)
    authority = pki.make_authority("kubernetes", begins + pki.BACKDATE)
    read = x509.load_pem_x509_certificate(authority.certificate.encode())
    assert certificates.validity(authority.certificate) == (
        read.not_valid_before_utc,
        read.not_valid_after_utc,
    )
    assert (
        certificates.validity(f"text before\n{authority.key}{authority.certificate}")[0] == begins
    )


def test_an_rsa_certificate_with_a_long_body_is_read() -> None:
    """kubeadm's default; its lengths take two and three bytes."""
    key = rsa.generate_private_key(65537, 2048)
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "kube-apiserver")])
    names = [x509.DNSName(f"name-{number}.example.com") for number in range(3000)]
    made = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(NOW)
        .not_valid_after(NOW + datetime.timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName(names), critical=False)
        .sign(key, hashes.SHA256())
    )
    pem = made.public_bytes(serialization.Encoding.PEM).decode()
    assert len(pem) > 65536
    assert certificates.validity(pem) == (NOW, NOW + datetime.timedelta(days=1))


@pytest.mark.parametrize("cut", range(60, 900, 40))
def test_a_damaged_certificate_is_told_and_never_a_traceback(cut: int) -> None:
    pem = pki.make_authority("kubernetes", NOW).certificate
    body = "".join(pem.splitlines()[1:-1])
    rest = body[: min(cut, len(body) - 4)]
    damaged = f"-----BEGIN CERTIFICATE-----\n{rest}\n-----END CERTIFICATE-----\n"
    with pytest.raises(ValueError, match="damaged certificate"):
        certificates.validity(damaged)
    with pytest.raises(ValueError, match="no certificate"):
        certificates.validity(pem[:cut].replace("-----END", ""))


def test_a_node_whose_certificates_are_good_has_nothing_to_say(tmp_path: Path) -> None:
    certified.lay(tmp_path, days_left=31)
    assert [one.name for one in of(tmp_path)] == [
        *certificates.OF_KUBEADM,
        certificates.KUBELET_CLIENT,
        certificates.KUBELET_SERVER,
    ]
    assert told(tmp_path) == []
    assert certificates.report(NOW, tmp_path) == []
    assert certificates.summary(of(tmp_path), NOW, tmp_path / "none")["serves"] is True


def test_one_that_ends_soon_is_named_with_whose_where_and_when(tmp_path: Path) -> None:
    certified.lay(tmp_path, but={"pki/apiserver.crt": 12.5})
    path = tmp_path / "etc/kubernetes/pki/apiserver.crt"
    (reason,) = told(tmp_path)
    assert reason.startswith(
        f"the certificate of the API server ({path}) expires in 12 days (2026-12-12): "
        "apply renews all certificates on this node, "
    )
    (one,) = certificates.report(NOW, tmp_path)
    assert one["text"] == (
        f"the certificate of the API server ({path}) expires in 12 days (2026-12-12)"
    )
    assert one["due"] and not one["over"]
    assert certificates.summary(of(tmp_path), NOW, tmp_path / "none")["serves"] is True


@pytest.mark.parametrize("name", [*certificates.TO_SERVE, certificates.KUBELET_CLIENT])
def test_an_api_server_without_a_good_certificate_is_not_waited_for(
    tmp_path: Path, name: str
) -> None:
    certified.lay(tmp_path, but={name: -1})
    (reason,) = told(tmp_path)
    assert "expired on 2026-11-28" in reason
    told_of = certificates.summary(of(tmp_path), NOW, tmp_path / "none")
    assert told_of["due"] is True and told_of["serves"] is False


def test_what_all_ended_together_is_one_sentence_for_kubeadm_and_one_for_the_kubelet(
    tmp_path: Path,
) -> None:
    certified.lay(tmp_path, days_left=-30)
    kubeadms, kubelets = told(tmp_path)
    assert (
        "and 8 more expired on 2026-10-30: apply renews all certificates on this node" in kubeadms
    )
    assert kubelets.startswith("the certificates of the kubelet (")
    assert kubelets.endswith(
        "expired on 2026-10-30: apply gets the kubelet a new one and restarts it; pods keep running"
    )


def test_a_worker_has_its_kubelets_alone(tmp_path: Path) -> None:
    certified.lay(tmp_path, control_plane=False, but={certificates.KUBELET_CLIENT: -2})
    assert [one.holder for one in of(tmp_path)] == ["the kubelet", "the kubelet as a server"]
    (one,) = certificates.report(NOW, tmp_path)
    assert one["over"] and one["holder"] == "the kubelet"


@pytest.mark.parametrize("left, due", [(1.2, True), (1.4, False)])
def test_of_a_short_lived_one_a_tenth_has_to_be_left(
    tmp_path: Path, left: float, due: bool
) -> None:
    """Or a kubelet whose certificates live for two weeks would be due all the time."""
    authority = certified.lay(tmp_path)
    made = certified.pair(authority, left, days=13)
    path = tmp_path / "etc/kubernetes/pki/apiserver.crt"
    path.write_text(made.certificate)
    path.with_suffix(".key").write_text(made.key)
    assert bool(told(tmp_path)) is due


def test_a_key_that_is_anothers_is_told(tmp_path: Path) -> None:
    """What somebody leaves who is killed between a key and its certificate."""
    authority = certified.lay(tmp_path)
    key = tmp_path / "etc/kubernetes/pki/etcd/peer.key"
    key.write_text(certified.pair(authority, 300).key)
    (reason,) = told(tmp_path)
    assert "etcd among its members" in reason and "its key does not match" in reason
    assert certificates.summary(of(tmp_path), NOW, tmp_path / "none")["serves"] is False


@pytest.mark.parametrize("content", ["", "no certificate here", "client-certificate-data: !!!\n"])
@pytest.mark.parametrize("name", ["pki/etcd/server.crt", "scheduler.conf"])
def test_a_file_that_is_no_certificate_is_told(tmp_path: Path, name: str, content: str) -> None:
    certified.lay(tmp_path)
    (tmp_path / "etc/kubernetes" / name).write_text(content)
    (reason,) = told(tmp_path)
    assert f"{name}) can't be used: " in reason


def test_a_kubelet_without_its_certificate_is_told(tmp_path: Path) -> None:
    certified.lay(tmp_path, control_plane=False)
    (tmp_path / "var/lib/kubelet/pki" / certificates.KUBELET_CLIENT).unlink()
    (reason,) = told(tmp_path)
    assert "is missing: apply gets the kubelet a new one" in reason


def test_a_renewal_that_was_cut_is_a_reason(tmp_path: Path) -> None:
    certified.lay(tmp_path)
    (tmp_path / "renewal.json").write_text("{}")
    assert told(tmp_path) == [
        "the renewal of its certificates was interrupted, and will be finished"
    ]
    assert certificates.summary(of(tmp_path), NOW, tmp_path / "renewal.json")["due"] is True


def test_a_machine_that_has_not_joined_says_nothing(tmp_path: Path) -> None:
    assert certificates.report(NOW, tmp_path) == []


def test_the_file_runs_on_a_node_by_itself(tmp_path: Path) -> None:
    """Without the collection, and with nothing but the standard library."""
    certified.lay(tmp_path, but={"pki/etcd/peer.crt": 3})
    script = tmp_path / "certificates.py"
    script.write_text(Path(certificates.__file__).read_text())
    code = (
        "import datetime, json, pathlib, sys; sys.path.insert(0, sys.argv[2]); import certificates;"
        "now = datetime.datetime.fromisoformat(sys.argv[1]);"
        "print(json.dumps(certificates.report(now, pathlib.Path(sys.argv[2]))))"
    )
    ran = subprocess.run(
        [sys.executable, "-I", "-c", code, NOW.isoformat(), str(tmp_path)],
        check=True,
        capture_output=True,
        text=True,
    )
    (one,) = json.loads(ran.stdout)
    assert one["holder"] == "etcd among its members"


def test_a_nodes_report_has_a_warning_until_it_has_ended(monkeypatch: pytest.MonkeyPatch) -> None:
    told = [{"text": "one ends", "over": False}, {"text": "one ended", "over": True}]
    monkeypatch.setattr(certificates, "report", lambda _now: told)
    remedy = "'kubewright apply' renews it."
    assert report.report({})["certificates"] == [
        {"text": "one ends.", "remedy": remedy, "about": [], "warning": True},
        {"text": "one ended.", "remedy": remedy, "about": [], "warning": False},
    ]
