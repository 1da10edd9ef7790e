# Copyright: the Kubewright authors
# Apache License 2.0 (see LICENSE or https://www.apache.org/licenses/LICENSE-2.0)
"""Keys and certificates as kubeadm expects them. No I/O.

All keys are ECDSA P-256. kubeadm takes over existing authorities with RSA or ECDSA keys (its
``pkiutil.TryLoadKeyFromDisk``) and signs what it makes under them; a P-256 signature costs a
fraction of an RSA one on a small node. kubeadm's own keys follow
``ClusterConfiguration.encryptionAlgorithm: ECDSA-P256``. Keys are in the traditional PEM form
(``EC PRIVATE KEY``) that client-go's ``keyutil`` writes and reads.

Only modules that run on the controller import this: it needs the Python library ``cryptography``.
"""

from __future__ import annotations

import datetime
import hashlib
from collections.abc import Mapping
from dataclasses import dataclass

from ansible_collections.kubewright.cluster.plugins.module_utils._base.errors import KubewrightError
from ansible_collections.kubewright.cluster.plugins.module_utils._cluster.identity import (
    AUTHORITIES,
)

MINIMUM_CRYPTOGRAPHY = "42.0.0"

try:
    from cryptography import x509
    from cryptography.hazmat.primitives import hashes, serialization
    from cryptography.hazmat.primitives.asymmetric import ec
    from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID
except ImportError:  # reported by require_cryptography()
    HAVE_CRYPTOGRAPHY = False
else:
    HAVE_CRYPTOGRAPHY = hasattr(x509.Certificate, "not_valid_after_utc")

CA_DAYS = 3650
BACKDATE = datetime.timedelta(hours=1)  # clocks of the nodes may be behind


@dataclass(frozen=True)
class Pair:
    """A certificate and its private key, both PEM."""

    certificate: str
    key: str


@dataclass(frozen=True)
class Subject:
    """Who a client certificate speaks for: user name and groups."""

    user: str
    groups: tuple[str, ...]


def require_cryptography() -> None:
    """Raise `KubewrightError` when ``cryptography`` is missing or too old."""
    if not HAVE_CRYPTOGRAPHY:
        raise KubewrightError(
            f"The Python that runs this module lacks cryptography >= {MINIMUM_CRYPTOGRAPHY}. "
            "Install it there (pip install cryptography), or set ansible_python_interpreter "
            "of localhost to {{ ansible_playbook_python }} if that one has it."
        )


def control_plane_pki(now: datetime.datetime) -> dict[str, str]:
    """New authorities and service-account keys: PEM by path under ``/etc/kubernetes/pki``."""
    files = {}
    for path, common_name in AUTHORITIES.items():
        pair = make_authority(common_name, now)
        files[f"{path}.crt"], files[f"{path}.key"] = pair.certificate, pair.key
    account = ec.generate_private_key(ec.SECP256R1())
    files["sa.key"] = _key_pem(account)
    files["sa.pub"] = _public_pem(account.public_key())
    return files


def make_authority(common_name: str, now: datetime.datetime) -> Pair:
    """A self-signed authority, valid for ten years, as kubeadm would make it."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, common_name)])
    certificate = (
        _builder(name, name, key.public_key(), now, CA_DAYS)
        .add_extension(_usage(authority=True), critical=True)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
        .add_extension(x509.SubjectAlternativeName([x509.DNSName(common_name)]), critical=False)
        .sign(key, hashes.SHA256())
    )
    return Pair(_certificate_pem(certificate), _key_pem(key))


def make_client(authority: Pair, subject: Subject, days: int, now: datetime.datetime) -> Pair:
    """A client certificate for *subject*, signed by *authority*, valid for *days*."""
    issuer, issuer_key = _load(authority.certificate), _load_key(authority.key)
    key = ec.generate_private_key(ec.SECP256R1())
    certificate = (
        _builder(_name(subject), issuer.subject, key.public_key(), now, days)
        .add_extension(_usage(authority=False), critical=True)
        .add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.CLIENT_AUTH]), critical=False)
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(
            x509.AuthorityKeyIdentifier.from_issuer_public_key(issuer_key.public_key()),
            critical=False,
        )
        .sign(issuer_key, hashes.SHA256())
    )
    return Pair(_certificate_pem(certificate), _key_pem(key))


def why_renew(
    client: Pair, authority: str, subject: Subject, now: datetime.datetime, days_left: float
) -> str:
    """Why *client* needs to be made again, "" when it is good for *days_left* more days."""
    try:
        certificate, issuer = _load(client.certificate), _load(authority)
        key = _load_key(client.key)
        certificate.verify_directly_issued_by(issuer)
    except KubewrightError:
        return "it cannot be read"
    except Exception:  # InvalidSignature, ValueError, TypeError: all say "not by this one"
        return "another CA signed it"
    if key.public_key() != certificate.public_key():
        return "its key does not match"
    if certificate.subject != _name(subject):
        return "it is for another user or other groups"
    if certificate.not_valid_after_utc - now < datetime.timedelta(days=days_left):
        return f"it expires at {certificate.not_valid_after_utc.isoformat()}"
    return ""


def require_pairs(files: Mapping[str, str]) -> None:
    """Check that *files*, as `control_plane_pki` gives them, can be read and belong together.

    Raises `KubewrightError` with the name of the file, never with what is in it.
    """
    for path in AUTHORITIES:
        try:
            same = (
                _load_key(files[f"{path}.key"]).public_key()
                == _load(files[f"{path}.crt"]).public_key()
            )
        except KubewrightError as error:
            raise KubewrightError(f"{path}.crt or {path}.key: {error}") from error
        if not same:
            raise KubewrightError(f"{path}.key is not the key of {path}.crt.")
    try:
        account = _load_key(files["sa.key"]).public_key()
    except KubewrightError as error:
        raise KubewrightError(f"sa.key: {error}") from error
    if _public_pem(account).split() != files["sa.pub"].split():
        raise KubewrightError("sa.pub is not the public key of sa.key.")


def expires_at(certificate: str) -> datetime.datetime:
    """End of validity of a PEM certificate, in UTC."""
    return _load(certificate).not_valid_after_utc


def public_key_hash(certificate: str) -> str:
    """kubeadm's discovery hash: ``sha256:`` and the hash of the DER SubjectPublicKeyInfo."""
    der = (
        _load(certificate)
        .public_key()
        .public_bytes(serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo)
    )
    return f"sha256:{hashlib.sha256(der).hexdigest()}"


def _builder(
    subject: x509.Name,
    issuer: x509.Name,
    key: ec.EllipticCurvePublicKey,
    now: datetime.datetime,
    days: int,
) -> x509.CertificateBuilder:
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(key)
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - BACKDATE)
        .not_valid_after(now + datetime.timedelta(days=days))
    )


def _usage(*, authority: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=True,
        key_encipherment=True,
        key_cert_sign=authority,
        content_commitment=False,
        data_encipherment=False,
        key_agreement=False,
        crl_sign=False,
        encipher_only=False,
        decipher_only=False,
    )


def _name(subject: Subject) -> x509.Name:
    groups = [x509.NameAttribute(NameOID.ORGANIZATION_NAME, group) for group in subject.groups]
    return x509.Name([*groups, x509.NameAttribute(NameOID.COMMON_NAME, subject.user)])


def _load(certificate: str) -> x509.Certificate:
    try:
        return x509.load_pem_x509_certificate(certificate.encode())
    except ValueError as error:
        raise KubewrightError(f"A certificate cannot be read: {error}.") from error


def _load_key(key: str) -> ec.EllipticCurvePrivateKey:
    try:
        loaded = serialization.load_pem_private_key(key.encode(), password=None)
    except (ValueError, TypeError) as error:
        raise KubewrightError("A private key cannot be read; is it encrypted?") from error
    if not isinstance(loaded, ec.EllipticCurvePrivateKey):
        raise KubewrightError("A private key is not ECDSA; Kubewright only creates ECDSA keys.")
    return loaded


def _public_pem(key: ec.EllipticCurvePublicKey) -> str:
    return key.public_bytes(
        serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
    ).decode()


def _certificate_pem(certificate: x509.Certificate) -> str:
    return certificate.public_bytes(serialization.Encoding.PEM).decode()


def _key_pem(key: ec.EllipticCurvePrivateKey) -> str:
    return key.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.TraditionalOpenSSL,
        serialization.NoEncryption(),
    ).decode()
