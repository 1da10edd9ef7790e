# SPDX-License-Identifier: Apache-2.0
"""Maintenance of a node whose configuration and certificates are read-only to everybody else."""

from __future__ import annotations

import base64
import json
import random
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta

import etcd
import kube as api
import pytest
import sealed
import yaml
from cluster import Cluster
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID
from kube import Kube
from machines import IMAGE_ROOT, CommandFailed, put, run_on
from waiting import NotYet, until

MAINTENANCE = "kubewright-maintenance"
KUBEADM = f"{IMAGE_ROOT}/bin/kubeadm"
KUBELET_PKI = "/var/lib/kubelet/pki"
CURRENT = f"{KUBELET_PKI}/kubelet-client-current.pem"
KUBELET_CONF = "/etc/kubernetes/kubelet.conf"
BOOTSTRAP_CONF = "/etc/kubernetes/bootstrap-kubelet.conf"
MOMENTS = 50

#: Runs on the node: begins a maintenance again and again, and kills it midway with all that it
#: has started, after the given parts of the time that a whole one takes, until it has done so often
#: enough. Each time it looks whether anybody may write where nobody should.
_KILL = """
import errno, itertools, json, os, signal, subprocess, sys, time

moments, parts, places, command = json.loads(sys.argv[1])
quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL, "start_new_session": True}
begun = time.monotonic()
subprocess.run(command, check=True, **quiet)
whole = time.monotonic() - begun
killed, accepted = 0, []
for part in itertools.islice(itertools.cycle(parts), 4 * moments):
    child = subprocess.Popen(command, **quiet)
    try:
        child.wait(part * whole)
    except subprocess.TimeoutExpired:
        killed += 1
        os.killpg(child.pid, signal.SIGKILL)
        child.wait()
    for place in places:
        try:
            os.close(os.open(f"{place}/kubewright-test", os.O_WRONLY | os.O_CREAT))
        except OSError as error:
            if error.errno == errno.EROFS:
                continue
        accepted.append(f"{place} after {part:.2f} of {whole:.2f} s")
    if killed == moments:
        break
print(json.dumps({"killed": killed, "accepted": accepted, "whole": whole}))
"""


def test_certificates_are_renewed_in_it(cluster: Cluster) -> None:
    node = cluster.control_planes[0]
    read = ["sha256sum", "/etc/kubernetes/pki/apiserver.crt", "/etc/kubernetes/admin.conf"]
    before = run_on(node, read).splitlines()
    run_on(node, [MAINTENANCE, KUBEADM, "certs", "renew", "all"])
    assert not set(before) & set(run_on(node, read).splitlines())
    assert sealed.accepting(node) == []


def test_without_it_kubeadm_is_refused(cluster: Cluster) -> None:
    with pytest.raises(CommandFailed, match="read-only file system"):
        run_on(cluster.control_planes[0], [KUBEADM, "certs", "renew", "all"])


def test_killed_at_any_moment_it_leaves_nothing_open(
    cluster: Cluster, kube: Kube, measured: Callable[[str, object], None]
) -> None:
    node = cluster.control_planes[1]
    chance = random.Random(1)
    parts = [chance.uniform(0, 1) for _ in range(MOMENTS)]
    command = [MAINTENANCE, KUBEADM, "certs", "renew", "all"]
    order = json.dumps([MOMENTS, parts, sealed.PLACES, command])
    seen = json.loads(run_on(node, ["python3", "-c", _KILL, order], limit=300))
    measured("a maintenance that was killed midway takes", seen["whole"])
    assert seen["accepted"] == []
    assert seen["killed"] == MOMENTS
    # Whoever was killed while he wrote a certificate writes it again.
    run_on(node, command)
    begun = api.now()
    run_on(node, ["systemctl", "restart", "kubelet.service"])
    until("Ready", api.all_ready(kube, frozenset(cluster.nodes), begun), limit=60)
    etcd.healthy_voters(node, frozenset(cluster.control_planes))
    assert cluster.apply().succeeded().document["changed"] is False


def test_a_kubelet_rotates_its_certificate(cluster: Cluster, kube: Kube) -> None:
    node = cluster.workers[0]
    short = f"{KUBELET_PKI}/kubelet-client-short.pem"
    put(node, short, _nearly_expired(cluster, node))
    run_on(node, ["ln", "--symbolic", "--force", "--no-dereference", short, CURRENT])
    begun = api.now()
    run_on(node, ["systemctl", "restart", "kubelet.service"])

    def rotated() -> None:
        if run_on(node, ["readlink", CURRENT]).strip() == short:
            raise NotYet("it still has the certificate that nearly expires")

    until("rotated", rotated, limit=60)
    until("Ready", api.all_ready(kube, frozenset(cluster.nodes), begun), limit=60)
    run_on(node, ["rm", short])
    assert sealed.accepting(node) == []


def test_a_kubelet_writes_its_kubeconfig_anew(cluster: Cluster, kube: Kube) -> None:
    node = cluster.workers[1]
    run_on(node, ["systemctl", "stop", "kubelet.service"])
    target = run_on(node, ["readlink", "--canonicalize", KUBELET_CONF]).strip()
    server = yaml.safe_load(run_on(node, ["cat", target]))["clusters"][0]["cluster"]["server"]
    with _token(cluster.control_planes[0]) as token:
        bootstrap = json.dumps(_kubeconfig(cluster, server, token)).encode()
        run_on(node, ["sh", "-c", f"rm {target} {KUBELET_PKI}/kubelet-client-*"])
        write = ["sh", "-c", f"umask 077; cat >{BOOTSTRAP_CONF}"]
        run_on(node, [MAINTENANCE, *write], stdin=bootstrap)
        begun = api.now()
        run_on(node, ["systemctl", "start", "kubelet.service"])
        until("Ready", api.all_ready(kube, frozenset(cluster.nodes), begun), limit=60)
    run_on(node, [MAINTENANCE, "rm", BOOTSTRAP_CONF])
    assert run_on(node, ["readlink", "--canonicalize", KUBELET_CONF]).strip() == target
    assert CURRENT in run_on(node, ["cat", KUBELET_CONF])
    assert sealed.accepting(node) == []


def _nearly_expired(cluster: Cluster, node: str) -> bytes:
    """Return a kubelet's client certificate and key whose time is over in three minutes."""
    pki = cluster.state / "identity" / "pki"
    authority = x509.load_pem_x509_certificate((pki / "ca.crt").read_bytes())
    signer = serialization.load_pem_private_key((pki / "ca.key").read_bytes(), None)
    assert isinstance(signer, ec.EllipticCurvePrivateKey)
    key, now = ec.generate_private_key(ec.SECP256R1()), datetime.now(UTC)
    name = [
        x509.NameAttribute(NameOID.ORGANIZATION_NAME, "system:nodes"),
        x509.NameAttribute(NameOID.COMMON_NAME, f"system:node:{node}"),
    ]
    certificate = (
        x509.CertificateBuilder()
        .subject_name(x509.Name(name))
        .issuer_name(authority.subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(hours=1))
        .not_valid_after(now + timedelta(minutes=3))
        .add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.CLIENT_AUTH]), critical=False)
        .sign(signer, hashes.SHA256())
    )
    pem = serialization.Encoding.PEM
    private = key.private_bytes(
        pem, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    return certificate.public_bytes(pem) + private


@contextmanager
def _token(control_plane: str) -> Iterator[str]:
    """A token to join with, which is taken back."""
    kubeadm = [KUBEADM, "--kubeconfig=/etc/kubernetes/admin.conf", "token"]
    token = run_on(control_plane, [*kubeadm, "create", "--ttl=5m"]).strip()
    try:
        yield token
    finally:
        run_on(control_plane, [*kubeadm, "delete", token.split(".")[0]])


def _kubeconfig(cluster: Cluster, server: str, token: str) -> dict[str, object]:
    authority = (cluster.state / "identity/pki/ca.crt").read_bytes()
    return {
        "apiVersion": "v1",
        "kind": "Config",
        "clusters": [
            {
                "name": "default",
                "cluster": {
                    "server": server,
                    "certificate-authority-data": base64.b64encode(authority).decode(),
                },
            }
        ],
        "users": [{"name": "default", "user": {"token": token}}],
        "contexts": [{"name": "default", "context": {"cluster": "default", "user": "default"}}],
        "current-context": "default",
    }
