# Copyright: the Kubewright authors
# Apache License 2.0 (see LICENSE or https://www.apache.org/licenses/LICENSE-2.0)
"""Private to the collection: what kubeadm is told, and how far it came on this node.

kubeadm's init and join are many steps and none of them is undone when the process dies, so the node
keeps a record of its own: "started" before kubeadm runs and "finished" after it. A node
whose record says "started" is partial; a partial init is run again over what it left (each of its
phases accepts its own earlier work), a partial join is reset first, because kubeadm refuses to join
over its own remains.

Sources: kubeadm's v1beta4 configuration API; cmd/kubeadm/app/cmd/{init,join,reset}.go of 1.37.
"""

from __future__ import annotations

import dataclasses
import json
import secrets
import string
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from ansible_collections.kubewright.cluster.plugins.module_utils import (
    _atomic,
    _labels,
    _machines,
)
from ansible_collections.kubewright.cluster.plugins.module_utils._errors import KubewrightError

RECORD = Path("/var/lib/kubewright/kubeadm.json")
KUBELET_CONF = Path("/etc/kubernetes/kubelet.conf")
# Where it really lies: the kubelet writes it anew, and /etc/kubernetes is read-only to it.
KUBELET_OWN_CONF = Path("/var/lib/kubelet/kubelet.conf")
CRI_SOCKET = "unix:///run/containerd/containerd.sock"
API = "kubeadm.k8s.io/v1beta4"
# What a record can say.
WRITTEN = {
    "phase": ("started", "finished"),
    "operation": ("init", "join"),
    "role": ("control_plane", "worker"),
}

# Seconds that kubeadm waits for any one thing. Its own limits, one minute for a call to the API
# among them, end a first start on a slow disk. That of a whole run (the option timeout of the
# module) is longer, so that kubeadm says what it has waited for; and the next run waits longer
# still for the lock of a run that was cut.
WAITS_SECONDS = 480
WAITS = (
    "controlPlaneComponentHealthCheck",
    "discovery",
    "etcdAPICall",
    "kubeletHealthCheck",
    "kubernetesAPICall",
    "tlsBootstrap",
)

# What a second `kubeadm init` finds of the first one, and may.
OWN_REMAINS = (
    "DirAvailable--var-lib-etcd",
    "DirAvailable--etc-kubernetes-manifests",
    "FileAvailable--etc-kubernetes-manifests-etcd.yaml",
    "FileAvailable--etc-kubernetes-manifests-kube-apiserver.yaml",
    "FileAvailable--etc-kubernetes-manifests-kube-controller-manager.yaml",
    "FileAvailable--etc-kubernetes-manifests-kube-scheduler.yaml",
    "Port-6443",
    "Port-10250",
    "Port-10257",
    "Port-10259",
    "Port-2379",
    "Port-2380",
)


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
                "this node to a cluster. Take the node out of that cluster first (kubeadm reset), "
                "or name another machine."
            ) from None
        return Membership("none")
    try:
        data = json.loads(content)
        wrong = _trouble(data)
    except ValueError as error:
        wrong = f"it is no JSON ({error})" if content.strip() else "it is empty"
    if wrong:
        raise DamagedRecord(
            f"{record} is damaged: {wrong}. Nothing was changed on this node. If "
            "`kubectl get node` shows it Ready, copy the file from a Ready node of the same role "
            'in the same cluster, or write {"phase": "finished", "operation": "join", "role": '
            '"control_plane" or "worker", "cluster_id": "..."} into it, with the cluster_id that '
            "other nodes have there. If the node is not in the cluster, run `kubeadm reset` on it "
            f"and remove {record}. Then run the same again."
        )
    phase = "joined" if data["phase"] == "finished" else "partial"
    return Membership(phase, data["operation"], data["role"], data["cluster_id"])


def _trouble(data: Any) -> str:
    """What is wrong with a record, "" when it is as `write_membership` writes it."""
    if not isinstance(data, dict):
        return "it holds no mapping"
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
    _atomic.make_directories(record.parent)
    _atomic.write_file(record, json.dumps(content).encode(), mode=0o644)


def remove_membership(record: Path = RECORD) -> None:
    """Forget the record, on disk when this returns."""
    if _atomic.remove_if_there(record):
        _atomic.fsync_directory(record.parent)


def lay_kubelet_conf(link: Path = KUBELET_CONF, target: Path = KUBELET_OWN_CONF) -> None:
    """Have kubeadm and the kubelet write the kubelet's kubeconfig where the kubelet may."""
    _atomic.make_directories(target.parent, 0o700)
    _atomic.make_directories(link.parent)
    if not link.is_symlink() or link.readlink() != target:
        _atomic.replace_link(link, str(target))


def bootstrap_token() -> str:
    """A random bootstrap token in kubeadm's form: six characters, a dot, sixteen characters."""
    alphabet = string.ascii_lowercase + string.digits
    pick = "".join(secrets.choice(alphabet) for _ in range(22))
    return f"{pick[:6]}.{pick[6:]}"


def node_registration(node: Mapping[str, Any], extra_ignored: Sequence[str] = ()) -> dict[str, Any]:
    """kubeadm's NodeRegistrationOptions for `node` (name, address, provider_id, labels, ...)."""
    arguments = [{"name": "node-ip", "value": node["address"]}]
    if node.get("provider_id"):
        if not _machines.ID.fullmatch(node["provider_id"]):
            raise KubewrightError(
                f"provider_id: {node['provider_id']!r} is not <provider>://<id> of letters, digits "
                "and _ . : @ / + = ~ -"
            )
        arguments.append({"name": "provider-id", "value": node["provider_id"]})
    labels = node.get("labels") or {}
    if labels:
        _labels.check(labels)
        value = ",".join(f"{name}={labels[name]}" for name in sorted(labels))
        arguments.append({"name": "node-labels", "value": value})
    ignored = [*(node.get("ignore_preflight_errors") or []), *extra_ignored]
    registration: dict[str, Any] = {
        "name": node["name"],
        "criSocket": CRI_SOCKET,
        "imagePullPolicy": "Never",
        "kubeletExtraArgs": arguments,
    }
    if ignored:
        registration["ignorePreflightErrors"] = ignored
    return registration


def timeouts() -> dict[str, str]:
    """kubeadm's own limits, as its configuration takes them."""
    return dict.fromkeys(WAITS, f"{WAITS_SECONDS}s")


def init_documents(
    node: Mapping[str, Any],
    documents: Sequence[Mapping[str, Any]],
    token: str,
    again: bool,
) -> list[Mapping[str, Any]]:
    """The documents of `kubeadm init`. `again`: over the remains of an init that was cut."""
    configuration = {
        "apiVersion": API,
        "kind": "InitConfiguration",
        # kubeadm makes a token of a day when it is given none; this one is used by nobody, and the
        # controller manager removes it as soon as it runs.
        "bootstrapTokens": [{"token": token, "ttl": "1s", "usages": ["authentication"]}],
        "localAPIEndpoint": {"advertiseAddress": node["address"], "bindPort": 6443},
        "nodeRegistration": node_registration(node, OWN_REMAINS if again else ()),
        # The join command is not ours to show.
        "skipPhases": ["show-join-command"],
        "timeouts": timeouts(),
    }
    if node.get("patches"):
        configuration["patches"] = {"directory": node["patches"]}
    return [configuration, *documents]


def join_documents(
    node: Mapping[str, Any], role: str, discovery: Mapping[str, Any], token: str
) -> list[Mapping[str, Any]]:
    """The documents of `kubeadm join` as `role`; `discovery` has endpoint and ca_cert_hash."""
    configuration: dict[str, Any] = {
        "apiVersion": API,
        "kind": "JoinConfiguration",
        "discovery": {
            "bootstrapToken": {
                "apiServerEndpoint": discovery["endpoint"],
                "caCertHashes": [discovery["ca_cert_hash"]],
                "token": token,
            }
        },
        "nodeRegistration": node_registration(node),
        "timeouts": timeouts(),
    }
    if role == "control_plane":
        configuration["controlPlane"] = {
            "localAPIEndpoint": {"advertiseAddress": node["address"], "bindPort": 6443}
        }
    return [configuration]


def as_yaml(documents: Sequence[Mapping[str, Any]]) -> str:
    """Several documents in one stream. JSON is YAML, and needs no library on the node."""
    return "".join(f"---\n{json.dumps(document)}\n" for document in documents)


def without_secrets(text: str, secret_values: Sequence[str]) -> str:
    """`text` with each secret struck out; kubeadm prints the token that it uses."""
    for value in secret_values:
        if value:
            text = text.replace(value, "********")
    return text
