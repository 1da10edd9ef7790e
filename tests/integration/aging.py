# SPDX-License-Identifier: Apache-2.0
"""Certificates of real nodes made to end when a test wants it, signed by the cluster's own CAs.

Each keeps its key, subject, names and uses; nothing differs but its dates. What runs goes on with
what it has read before.
"""

from __future__ import annotations

import base64
import re
from collections.abc import Iterable
from datetime import UTC, datetime, timedelta
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from machines import run_on

KUBERNETES = "/etc/kubernetes"
KUBELET = "/var/lib/kubelet/pki/kubelet-client-current.pem"
PAIRS = (
    "pki/apiserver.crt",
    "pki/apiserver-kubelet-client.crt",
    "pki/apiserver-etcd-client.crt",
    "pki/front-proxy-client.crt",
    "pki/etcd/server.crt",
    "pki/etcd/peer.crt",
    "pki/etcd/healthcheck-client.crt",
)
KUBECONFIGS = ("admin.conf", "controller-manager.conf", "scheduler.conf")
#: All that a control plane has, as files below /etc/kubernetes, and its kubelet's.
ALL = (*PAIRS, *KUBECONFIGS, KUBELET)
YEAR = timedelta(days=365)
_PEM = re.compile("-----BEGIN CERTIFICATE-----.+?-----END CERTIFICATE-----\n", re.DOTALL)
_EMBEDDED = re.compile(r"(client-certificate-data: )(\S+)")


def age(node: str, pki: Path, files: Iterable[str], days_left: float) -> None:
    """Make *files* of *node* certificates of a year of which *days_left* are left.

    *pki*: the CAs in the cluster's state. *files*: paths, or names below /etc/kubernetes.
    """
    for name in files:
        path = name if name.startswith("/") else f"{KUBERNETES}/{name}"
        text = run_on(node, ["cat", path])
        if name.endswith(".conf"):
            found = _EMBEDDED.search(text)
            assert found, f"{path} on {node} has no client certificate"
            made = aged(base64.b64decode(found[2]).decode(), pki, name, days_left)
            text = _EMBEDDED.sub(rf"\g<1>{base64.b64encode(made.encode()).decode()}", text)
        else:
            text = _PEM.sub(lambda pem: aged(pem[0], pki, name, days_left), text)  # noqa: B023
        _write(node, path, text)


def aged(pem: str, pki: Path, name: str, days_left: float) -> str:
    """A certificate like *pem* that ends in *days_left*."""
    authority = "etcd/ca" if "etcd" in name else "front-proxy-ca" if "proxy" in name else "ca"
    issuer = x509.load_pem_x509_certificate((pki / f"{authority}.crt").read_bytes())
    key = serialization.load_pem_private_key((pki / f"{authority}.key").read_bytes(), None)
    old = x509.load_pem_x509_certificate(pem.encode())
    ends = datetime.now(UTC) + timedelta(days=days_left)
    builder = (
        x509.CertificateBuilder()
        .subject_name(old.subject)
        .issuer_name(issuer.subject)
        .public_key(old.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(ends - YEAR)
        .not_valid_after(ends)
    )
    for extension in old.extensions:
        builder = builder.add_extension(extension.value, extension.critical)
    made = builder.sign(key, hashes.SHA256())  # type: ignore[arg-type]
    return made.public_bytes(serialization.Encoding.PEM).decode()


def ends_in(node: str, name: str) -> timedelta:
    """How long a certificate of *node* is still valid."""
    path = name if name.startswith("/") else f"{KUBERNETES}/{name}"
    text = run_on(node, ["cat", path])
    if found := _EMBEDDED.search(text):
        text = base64.b64decode(found[2]).decode()
    pem = _PEM.search(text if text.endswith("\n") else f"{text}\n")
    assert pem, f"{path} on {node} has no certificate"
    read = x509.load_pem_x509_certificate(pem[0].encode())
    return read.not_valid_after_utc - datetime.now(UTC)


def _write(node: str, path: str, text: str) -> None:
    """In place: files of static pods are mounted one by one, and the kubelet's is behind a link."""
    write = ["sh", "-c", 'cat > "$(readlink -f "$1")"', "sh", path]
    run_on(node, ["kubewright-maintenance", *write], stdin=text.encode())
