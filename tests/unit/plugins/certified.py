# Copyright: the Kubewright authors
# Apache License 2.0 (see LICENSE or https://www.apache.org/licenses/LICENSE-2.0)
"""The certificates of a control plane or a worker, made for tests, ending when wanted."""

from __future__ import annotations

import base64
import datetime
from collections.abc import Mapping
from pathlib import Path

from ansible_collections.kubewright.cluster.plugins.module_utils._cluster import pki
from ansible_collections.kubewright.cluster.plugins.module_utils._onnode import certificates

NOW = datetime.datetime(2026, 11, 29, 12, tzinfo=datetime.UTC)
YEAR = 365
SUBJECT = pki.Subject("someone", ("system:nodes",))


def pair(
    authority: pki.Pair, days_left: float, days: int = YEAR, now: datetime.datetime = NOW
) -> pki.Pair:
    """A certificate of *days*, of which *days_left* are left at *now*; and its key."""
    made_at = now - datetime.timedelta(days=days - days_left)
    return pki.make_client(authority, SUBJECT, days, made_at)


def kubeconfig(client: pki.Pair) -> str:
    """A kubeconfig as kubeadm writes one."""
    certificate, key = (
        base64.b64encode(text.encode()).decode() for text in (client.certificate, client.key)
    )
    return (
        "apiVersion: v1\nclusters:\n- cluster:\n    server: https://192.0.2.11:6443\n  name: x\n"
        f"users:\n- name: someone\n  user:\n    client-certificate-data: {certificate}\n"
        f"    client-key-data: {key}\n"
    )


def lay(
    root: Path,
    *,
    control_plane: bool = True,
    days_left: float = 200,
    but: Mapping[str, float] | None = None,
    now: datetime.datetime = NOW,
) -> pki.Pair:
    """Lay a node's certificates below *root*, with *days_left*, *but* some by name.

    Gives the CA.
    """
    but = but or {}
    kubernetes, kubelet = root / "etc/kubernetes", root / "var/lib/kubelet/pki"
    (kubernetes / "pki/etcd").mkdir(parents=True)
    kubelet.mkdir(parents=True)
    authorities = {
        name: pki.make_authority(name, now) for name in ("ca", "etcd/ca", "front-proxy-ca")
    }
    for name, authority in authorities.items():
        (kubernetes / f"pki/{name}.crt").write_text(authority.certificate)
        if control_plane:
            (kubernetes / f"pki/{name}.key").write_text(authority.key)
    for name in certificates.OF_KUBEADM if control_plane else ():
        made = pair(authorities["ca"], but.get(name, days_left), now=now)
        path = kubernetes / name
        if path.suffix == ".conf":
            path.write_text(kubeconfig(made))
        else:
            path.write_text(made.certificate)
            path.with_suffix(".key").write_text(made.key)
    client = but.get(certificates.KUBELET_CLIENT, days_left)
    lay_kubelets(root, authorities["ca"], client, now)
    server = pair(authorities["ca"], but.get(certificates.KUBELET_SERVER, days_left), now=now)
    (kubelet / "kubelet.crt").write_text(server.certificate)
    (kubelet / "kubelet.key").write_text(server.key)
    return authorities["ca"]


def lay_kubelets(
    root: Path, authority: pki.Pair, days_left: float, now: datetime.datetime = NOW
) -> None:
    """Give the kubelet below *root* another client's certificate."""
    kubelet = root / "var/lib/kubelet/pki"
    made = pair(authority, days_left, now=now)
    file = kubelet / f"kubelet-client-{days_left}.pem"
    file.write_text(made.certificate + made.key)
    link = kubelet / certificates.KUBELET_CLIENT
    link.unlink(missing_ok=True)
    link.symlink_to(file)
