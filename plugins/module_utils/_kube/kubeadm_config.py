# Copyright: the Kubewright authors
# Apache License 2.0 (see LICENSE or https://www.apache.org/licenses/LICENSE-2.0)
"""What kubeadm is told.

Sources: kubeadm's v1beta4 configuration API; cmd/kubeadm/app/cmd/{init,join,reset}.go of 1.37.
"""

from __future__ import annotations

import json
import secrets
import string
from collections.abc import Mapping, Sequence
from typing import Any

from ansible_collections.kubewright.cluster.plugins.module_utils._base.errors import KubewrightError
from ansible_collections.kubewright.cluster.plugins.module_utils._cluster import labels, machines

CRI_SOCKET = "unix:///run/containerd/containerd.sock"
API = "kubeadm.k8s.io/v1beta4"

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


def bootstrap_token() -> str:
    """A random bootstrap token in kubeadm's form: six characters, a dot, sixteen characters."""
    alphabet = string.ascii_lowercase + string.digits
    pick = "".join(secrets.choice(alphabet) for _ in range(22))
    return f"{pick[:6]}.{pick[6:]}"


def node_registration(node: Mapping[str, Any], extra_ignored: Sequence[str] = ()) -> dict[str, Any]:
    """kubeadm's NodeRegistrationOptions for `node` (name, address, provider_id, labels, ...)."""
    arguments = [{"name": "node-ip", "value": node["address"]}]
    if node.get("provider_id"):
        if not machines.ID.fullmatch(node["provider_id"]):
            raise KubewrightError(
                f"provider_id: {node['provider_id']!r} is not <provider>://<id> of letters, digits "
                "and _ . : @ / + = ~ -"
            )
        arguments.append({"name": "provider-id", "value": node["provider_id"]})
    node_labels = node.get("labels") or {}
    if node_labels:
        labels.check(node_labels)
        value = ",".join(f"{name}={node_labels[name]}" for name in sorted(node_labels))
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
