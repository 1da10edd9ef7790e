# Copyright: the Kubewright authors
# Apache License 2.0 (see LICENSE or https://www.apache.org/licenses/LICENSE-2.0)
"""What another cluster has left on a machine.

Only for machines without a record of ours. Roles that were interrupted before kubeadm ran left
authorities and services of this very cluster, which are none.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from ansible_collections.kubewright.cluster.plugins.module_utils._base import owned
from ansible_collections.kubewright.cluster.plugins.module_utils._machine import processes

CONFIGURATIONS = (
    "admin.conf",
    "super-admin.conf",
    "kubelet.conf",
    "bootstrap-kubelet.conf",
    "controller-manager.conf",
    "scheduler.conf",
)
PROGRAMS = (
    "kubelet",
    "containerd",
    "dockerd",
    "crio",
    "etcd",
    "kube-apiserver",
    "k3s",
    "rke2",
    "k0s",
    "kubelite",
)
DISTRIBUTIONS = {
    "k3s": "var/lib/rancher/k3s",
    "rke2": "var/lib/rancher/rke2",
    "microk8s": "var/snap/microk8s",
    "k0s": "var/lib/k0s",
}
LINKS = ("cni0", "flannel.1", "cilium_host", "kube-ipvs0", "weave", "cali*")
OUR_NETWORK = "10-flannel.conflist"
SHOWN = 3


def is_prepared(root: Path) -> bool:
    """Whether roles of ours have been at work here before."""
    units = root / processes.UNITS
    return any(processes.is_managed(units / name) for name in (owned.VOLUME_MOUNT, owned.BALANCER))


def leftovers(root: Path, ca_certificate: str = "") -> list[dict[str, str]]:
    """What there is, as ``kind`` and ``where``.

    *ca_certificate*: of this cluster's authority; one of another authority is a leftover. Without
    it authorities are not looked at.
    """
    return [{"kind": kind, "where": where} for kind, where in _found(root, ca_certificate)]


def _found(root: Path, ca_certificate: str) -> Iterator[tuple[str, str]]:
    kubernetes = root / "etc/kubernetes"
    files = [kubernetes / name for name in CONFIGURATIONS if (kubernetes / name).exists()]
    files += sorted((kubernetes / "manifests").glob("[!.]*"))
    if files:
        yield "kubernetes", _shown(root, files)
    authority = kubernetes / "pki/ca.crt"
    known = ca_certificate.strip()
    if known and authority.exists() and authority.read_text(errors="replace").strip() != known:
        yield "authority", _shown(root, [authority])
    data = root / "var/lib/etcd"
    if data.is_dir() and any(path.name != "lost+found" for path in data.iterdir()):
        yield "etcd", _shown(root, [data])
    for name, directory in DISTRIBUTIONS.items():
        if (root / directory).is_dir() and any((root / directory).iterdir()):
            yield name, _shown(root, [root / directory])
    for process in processes.processes(root):
        if process.name in PROGRAMS and not processes.is_ours(process, root):
            yield "process", str(process)
    links = [path.name for name in LINKS for path in sorted((root / "sys/class/net").glob(name))]
    if links:
        yield "links", ", ".join(links[:SHOWN])
    networks = [
        path
        for path in sorted((root / "etc/cni/net.d").glob("*"))
        if path.suffix in (".conf", ".conflist", ".json")
        and not (path.name == OUR_NETWORK and is_prepared(root))
    ]
    if networks:
        yield "network", _shown(root, networks)


def _shown(root: Path, paths: list[Path]) -> str:
    names = [f"/{path.relative_to(root)}" for path in paths[:SHOWN]]
    more = len(paths) - len(names)
    return ", ".join(names) + (f" and {more} more" if more else "")
