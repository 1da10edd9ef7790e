# SPDX-License-Identifier: Apache-2.0
"""Trust and client certificates, from the cluster's state. Keys are used in memory only."""

from __future__ import annotations

import copy
import os
import ssl
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import yaml
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

#: How long a client certificate that is made for one reading is valid.
VALID = timedelta(minutes=15)
#: Clocks of the machines may be this far behind ours.
SKEW = timedelta(minutes=5)


class CredentialsError(Exception):
    """Something to identify with is missing or damaged; the message says what and what to do."""


def server_trust(authority: Path) -> ssl.SSLContext:
    """Return a context that trusts one authority and nothing else.

    :raises CredentialsError: the file is not there or not a certificate.
    """
    try:
        return trusting(authority.read_text(encoding="ascii"))
    except FileNotFoundError as error:
        raise CredentialsError(
            f"there is no {authority}: the cluster has not been created"
        ) from error
    except (OSError, ValueError, ssl.SSLError) as error:
        raise CredentialsError(f"{authority} is not a certificate: {error}") from error


def client_trust(authority: Path, key: Path, name: str) -> ssl.SSLContext:
    """Return a context that trusts an authority and identifies with a certificate by it.

    The certificate is made for this process and lives for :data:`VALID`.

    :raises CredentialsError: the authority's certificate or key can't be used.
    """
    context = server_trust(authority)
    try:
        issuer = x509.load_pem_x509_certificate(authority.read_bytes())
        issuer_key = serialization.load_pem_private_key(key.read_bytes(), None)
    except (OSError, ValueError, TypeError) as error:
        raise CredentialsError(f"the CA key {key} can't be used: {error}") from error
    own_key = ec.generate_private_key(ec.SECP256R1())
    now = datetime.now(UTC)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)]))
        .issuer_name(issuer.subject)
        .public_key(own_key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - SKEW)
        .not_valid_after(now + VALID)
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.CLIENT_AUTH]), critical=False)
        .sign(issuer_key, hashes.SHA256())  # type: ignore[arg-type]
    )
    pem = certificate.public_bytes(serialization.Encoding.PEM) + own_key.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.NoEncryption(),
    )
    identify(context, pem)
    return context


def trusting(authority: str) -> ssl.SSLContext:
    """Return a context that trusts the authority of this PEM and nothing else.

    :raises ValueError, ssl.SSLError: it is not a certificate.
    """
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.load_verify_locations(cadata=authority)
    return context


def identify(context: ssl.SSLContext, pem: bytes) -> None:
    """Have a context identify with this certificate and its key, which no file gets to hold.

    :raises ssl.SSLError: they are none, or no pair.
    """
    with _in_memory(pem) as file:
        context.load_cert_chain(file)


@contextmanager
def _in_memory(content: bytes) -> Iterator[str]:
    """Give a file's name to libraries that want one; it is in memory alone (memfd_create(2))."""
    descriptor = os.memfd_create("kubewright", os.MFD_CLOEXEC)
    try:
        os.write(descriptor, content)
        yield f"/proc/self/fd/{descriptor}"
    finally:
        os.close(descriptor)


def read_kubeconfig(path: Path) -> dict[str, Any]:
    """Return an administrator's kubeconfig with one cluster and one user, as plain data.

    :raises CredentialsError: it is not there, or not such a file.
    """
    try:
        data = yaml.safe_load(path.read_text(encoding="utf-8"))
        cluster, user = data["clusters"][0]["cluster"], data["users"][0]["user"]
        if "server" not in cluster or not isinstance(user, dict):
            raise ValueError("it has no server or no user")
    except FileNotFoundError as error:
        raise CredentialsError(
            f"there is no {path}: the cluster has not been created; run 'kubewright apply'"
        ) from error
    except (OSError, ValueError, yaml.YAMLError, KeyError, IndexError, TypeError) as error:
        raise CredentialsError(
            f"{path} is not a kubeconfig ({error!r}); remove it and run 'kubewright apply'"
        ) from error
    return dict(data)


def pointed_at(kubeconfig: dict[str, Any], server: str, name: str) -> dict[str, Any]:
    """Return a kubeconfig for the URL ``server`` that expects ``name`` in its certificate."""
    turned = copy.deepcopy(kubeconfig)
    turned["clusters"][0]["cluster"].update({"server": server, "tls-server-name": name})
    return turned
