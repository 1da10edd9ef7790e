# Copyright: the Kubewright authors
# Apache License 2.0 (see LICENSE or https://www.apache.org/licenses/LICENSE-2.0)
"""How far kubeadm came on this node.

kubeadm's init and join are many steps and none of them is undone when the process dies, so the node
keeps a record of its own: "started" before kubeadm runs and "finished" after it. A node
whose record says "started" is partial; a partial init is run again over what it left (each of its
phases accepts its own earlier work), a partial join is reset first, because kubeadm refuses to join
over its own remains.

Source: kubeadm's cmd/kubeadm/app/cmd/{init,join,reset}.go of 1.37.
"""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

from ansible_collections.kubewright.cluster.plugins.module_utils._base import atomic
from ansible_collections.kubewright.cluster.plugins.module_utils._base.errors import KubewrightError

RECORD = Path("/var/lib/kubewright/kubeadm.json")
KUBELET_CONF = Path("/etc/kubernetes/kubelet.conf")
# Where it really lies: the kubelet writes it anew, and /etc/kubernetes is read-only to it.
KUBELET_OWN_CONF = Path("/var/lib/kubelet/kubelet.conf")
# What a record can say.
WRITTEN = {
    "phase": ("started", "finished"),
    "operation": ("init", "join"),
    "role": ("control_plane", "worker"),
}


class ForeignCluster(KubewrightError):
    """The node belongs to another cluster, or to one that Kubewright did not make."""


class DamagedRecord(KubewrightError):
    """The node's record can't be understood."""


@dataclasses.dataclass(frozen=True)
class Membership:
    """How far this node came. `phase`: none, partial or joined; what is not known is None."""

    phase: str
    operation: str | None = None
    role: str | None = None
    cluster_id: str | None = None

    def as_dict(self) -> dict[str, str | None]:
        return dataclasses.asdict(self)


def read_membership(record: Path = RECORD, kubelet_conf: Path = KUBELET_CONF) -> Membership:
    """Read the node's own record.

    Raises ForeignCluster when a kubelet is joined without one, DamagedRecord when it can't be
    understood: a guess could reset a node that is at work.
    """
    try:
        content = record.read_bytes()
    except FileNotFoundError:
        if kubelet_conf.exists():
            raise ForeignCluster(
                f"{kubelet_conf} exists, but Kubewright has no record of having joined "
                "this node to a cluster. Remove the node from that cluster first (kubeadm "
                "reset), or use another machine."
            ) from None
        return Membership("none")
    try:
        data = json.loads(content)
        wrong = _trouble(data)
    except ValueError as error:
        wrong = f"it is not JSON ({error})" if content.strip() else "it is empty"
    if wrong:
        raise DamagedRecord(
            f"{record} is damaged: {wrong}. Nothing was changed on this node. If "
            "`kubectl get node` shows it Ready, copy the file from a Ready node of the same role "
            'in the same cluster, or write {"phase": "finished", "operation": "join", "role": '
            '"control_plane" or "worker", "cluster_id": "..."} into it, with the cluster_id '
            "that the other nodes have. If the node is not in the cluster, run `kubeadm reset` "
            f"on it and remove {record}. Then run it again."
        )
    phase = "joined" if data["phase"] == "finished" else "partial"
    return Membership(phase, data["operation"], data["role"], data["cluster_id"])


def _trouble(data: Any) -> str:
    """What is wrong with a record, "" when it is as `write_membership` writes it."""
    if not isinstance(data, dict):
        return "it is not a mapping"
    for key, known in WRITTEN.items():
        if key not in data:
            return f"it has no {key}"
        if data[key] not in known:
            return f"its {key} is {data[key]!r} instead of {' or '.join(known)}"
    if not data.get("cluster_id") or not isinstance(data["cluster_id"], str):
        return "it has no cluster_id"
    return ""


def write_membership(
    phase: str, operation: str, role: str, cluster_id: str, record: Path = RECORD
) -> None:
    """Record `phase` (started or finished), on disk when this returns."""
    content = {"phase": phase, "operation": operation, "role": role, "cluster_id": cluster_id}
    atomic.make_directories(record.parent)
    atomic.write_file(record, json.dumps(content).encode(), mode=0o644)


def remove_membership(record: Path = RECORD) -> None:
    """Forget the record, on disk when this returns."""
    if atomic.remove_if_there(record):
        atomic.fsync_directory(record.parent)


def lay_kubelet_conf(link: Path = KUBELET_CONF, target: Path = KUBELET_OWN_CONF) -> None:
    """Have kubeadm and the kubelet write the kubelet's kubeconfig where the kubelet may."""
    atomic.make_directories(target.parent, 0o700)
    atomic.make_directories(link.parent)
    if not link.is_symlink() or link.readlink() != target:
        atomic.replace_link(link, str(target))
