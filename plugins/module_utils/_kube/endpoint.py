# Copyright: the Kubewright authors
# Apache License 2.0 (see LICENSE or https://www.apache.org/licenses/LICENSE-2.0)
"""Where a node's own clients find the API.

Kubelet, kube-proxy and kubectl on a node ask the balancer on its loopback by its address, which is
in the certificate of every API server. Clusters made by an early version asked by a name, which
/etc/hosts had to lead there: others write that file too, cloud-init at each boot.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from ansible_collections.kubewright.cluster.plugins.module_utils._base import atomic, commands
from ansible_collections.kubewright.cluster.plugins.module_utils._kube import client, memberships
from ansible_collections.kubewright.cluster.plugins.module_utils._onnode import kubelet_died

ROOT = Path("/")
KUBELET = str(memberships.KUBELET_OWN_CONF).lstrip("/")
KUBECONFIGS = (
    *(
        f"etc/kubernetes/{name}.conf"
        for name in ("admin", "super-admin", "controller-manager", "scheduler")
    ),
    KUBELET,
)
# What new nodes and kube-proxy learn it from, and kubeadm itself.
CONFIG_MAPS = (
    ("kube-system", "kube-proxy"),
    ("kube-public", "cluster-info"),
    ("kube-system", "kubeadm-config"),
)


def by_name(name: str) -> list[str]:
    """Those of `KUBECONFIGS` on this node that lead to the API by *name*, in this order."""
    return [
        one
        for one in KUBECONFIGS
        if (ROOT / one).is_file() and _mark(name) in (ROOT / one).read_text("utf-8")
    ]


def reasons(name: str) -> list[str]:
    """`by_name` in words."""
    return [
        f"/{one} uses the API's name {name}, which must be in /etc/hosts" for one in by_name(name)
    ]


def converge(
    name: str, address: str, api_servers: Sequence[str], run: commands.Runner, predict: bool
) -> list[str]:
    """Replace the name wherever it is; gives where it was. *predict*: nothing is changed.

    The kubelet's file is the last: as long as it names the host, a run that was cut is done again.
    """
    found, there = reasons(name), by_name(name)
    if predict or not there:
        return found
    if client.ADMINISTRATOR.is_file():
        with client.as_administrator(api_servers, name) as api:
            found += lead_cluster(api, name, address)
    unit = kubelet_died.UNIT
    # Stopped meanwhile: one that was not restarted after a cut would go on with the name.
    if kubelet := KUBELET in there:
        commands.check(run(["systemctl", "stop", unit]), "Stopping the kubelet failed")
    for one in there:
        lead(one, name, address)
    if kubelet:
        commands.check(run(["systemctl", "start", unit]), "Starting the kubelet failed")
    return found


def lead(kubeconfig: str, name: str, address: str) -> None:
    """Let one of `KUBECONFIGS` lead to *address* instead of *name*; mode and owner stay."""
    path = ROOT / kubeconfig
    status, text = path.stat(), path.read_text("utf-8")
    data = text.replace(_mark(name), _mark(address)).encode()
    mode = status.st_mode & 0o7777
    atomic.write_file(path, data, mode=mode, uid=status.st_uid, gid=status.st_gid)


def lead_cluster(api: client.Api, name: str, address: str) -> list[str]:
    """The same for what the cluster tells new nodes and kube-proxy; gives what was changed.

    A kube-proxy that runs goes on as it is: its pod has its own copy of /etc/hosts.
    """
    changed = []
    for namespace, one in CONFIG_MAPS:
        path = f"/api/v1/namespaces/{namespace}/configmaps/{one}"
        live = api.get(path)
        data = {} if live is None else replaced(live.get("data") or {}, name, address)
        if live is not None and data:
            version = live["metadata"]["resourceVersion"]
            body = {"metadata": {"resourceVersion": version}, "data": data}
            api.request("PATCH", path, body, "application/merge-patch+json")
            changed.append(f"ConfigMap {namespace}/{one}")
    return changed


def replaced(data: Mapping[str, Any], name: str, address: str) -> dict[str, str]:
    """The entries of a ConfigMap that name it, as they should be. Pure."""
    return {
        key: text.replace(f"{name}:", f"{address}:")
        for key, text in data.items()
        if f"{name}:" in text
    }


def _mark(host: str) -> str:
    return f"server: https://{host}:"
