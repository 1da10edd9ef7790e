# Copyright: the Kubewright authors
# Apache License 2.0 (see LICENSE or https://www.apache.org/licenses/LICENSE-2.0)
"""New certificates for a node whose old ones end, or have ended.

On a control plane kubeadm signs with the CAs that lie there, and needs no API server: also where
all has expired and nothing runs. It writes over its files one after another, and whoever is killed
between leaves half of one. So it works on a copy in memory, from which each file comes by a rename;
between a key and its certificate there is a moment in which they don't match, which
`_onnode.certificates` finds and another renewal repairs.

A kubelet's certificate is signed the same way on a control plane. A worker has no CA: its kubelet
asks for one with a bootstrap token, as when it joined (the kubelet's certificate/bootstrap).
"""

from __future__ import annotations

import base64
import contextlib
import json
import re
import shutil
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

from ansible_collections.kubewright.cluster.plugins.module_utils._base import atomic, commands
from ansible_collections.kubewright.cluster.plugins.module_utils._base.errors import KubewrightError
from ansible_collections.kubewright.cluster.plugins.module_utils._kube import (
    kubeadm_config,
    kubelet,
    memberships,
)
from ansible_collections.kubewright.cluster.plugins.module_utils._onnode import (
    certificates,
    kubelet_died,
)

STAGE = Path("/run/kubewright/renewal")
BOOTSTRAP = Path("/etc/kubernetes/bootstrap-kubelet.conf")
AUTHORITIES = ("ca", "etcd/ca", "front-proxy-ca")
POLL = 0.5


@dataclass(frozen=True)
class Node:
    """The node that is worked on. *kubernetes*, *kubelet*: see `_onnode.certificates`.

    *binaries*: where kubeadm lies. *timeout*: seconds for one command, and for a certificate.
    """

    name: str
    run: commands.Runner
    binaries: Path
    timeout: float
    kubernetes: Path = certificates.KUBERNETES
    kubelet: Path = certificates.KUBELET
    record: Path = certificates.RENEWAL
    stage: Path = STAGE

    def kubeadm(self, *arguments: str) -> str:
        """What kubeadm prints; it may be a secret. A failure has its last words, which are none."""
        result = self.run([str(self.binaries / "kubeadm"), *arguments], timeout=self.timeout)
        if result.rc != 0:
            quiet = commands.Result(result.argv, result.rc, "", result.stderr)
            raise commands.CommandFailed("kubeadm could not renew certificates", quiet)
        return result.stdout

    def restart_kubelet(self) -> None:
        """Restart it, also where it has given up; pods run on."""
        self.run(["systemctl", "reset-failed", kubelet.UNIT], timeout=self.timeout)
        restarted = self.run(["systemctl", "restart", kubelet.UNIT], timeout=self.timeout)
        commands.check(restarted, "the kubelet could not be restarted")


def renew_kubeadms(node: Node, configuration: Sequence[Mapping[str, Any]]) -> list[Path]:
    """Renew all that kubeadm made on this control plane; gives the files that were exchanged.

    *configuration*: kubeadm's, which says how keys are made. Running processes are not touched:
    the record stays until somebody has restarted them.
    """
    made = [name for name in certificates.OF_KUBEADM if (node.kubernetes / name).exists()]
    names = [*made, *(_key(name) for name in made if name.endswith(".crt"))]
    with _staged(node, names, configuration) as copy:
        # In a directory as its root it finds its files under their own names.
        node.kubeadm("--rootfs", str(node.stage), "certs", "renew", "all", "--config=/kubeadm.yaml")
        _write_record(node.record, None)
        exchanged = []
        # A key right before its certificate, so that they don't match for a moment only.
        for name in sorted(names, key=lambda one: (one.rpartition(".")[0], one.endswith(".crt"))):
            path, new = node.kubernetes / name, (copy / name).read_bytes()
            if path.read_bytes() != new:
                mode = path.stat().st_mode & 0o777
                atomic.write_file(path, new, mode=mode)
                exchanged.append(path)
    _write_record(node.record, time.time())
    return exchanged


def renewed_at(record: Path) -> float:
    """When kubeadm's were renewed, in seconds since 1970; endless where that was cut."""
    try:
        return float(json.loads(record.read_bytes())["at"])
    except (ValueError, KeyError, TypeError):
        return float("inf")


def _write_record(record: Path, at: float | None) -> None:
    atomic.write_file(record, json.dumps({"at": at}).encode(), mode=0o644)


def sign_kubelets(node: Node, configuration: Sequence[Mapping[str, Any]]) -> Path:
    """Give the kubelet of this control plane a client's certificate; gives its file.

    It lies where the kubelet keeps its own, and is renewed by it from then on. It reads it when it
    starts.
    """
    with _staged(node, [], configuration):
        text = node.kubeadm(
            "--rootfs",
            str(node.stage),
            "kubeconfig",
            "user",
            f"--client-name=system:node:{node.name}",
            "--org=system:nodes",
            "--config=/kubeadm.yaml",
        )
    parts = [_embedded(text, field) for field in ("certificate", "key")]
    now = datetime.now(timezone.utc)
    # The name that client-go's FileStore gives it.
    path = node.kubelet / f"kubelet-client-{now:%Y-%m-%d-%H-%M-%S}.pem"
    atomic.make_directories(node.kubelet)
    atomic.write_file(path, "".join(parts).encode(), mode=0o600)
    atomic.replace_link(node.kubelet / certificates.KUBELET_CLIENT, str(path))
    return path


def bootstrap_kubelet(node: Node, server: str, token: str) -> None:
    """Have the kubelet ask for a client's certificate with *token*, and wait until it has one.

    *server*: URL of the API, where the kubelet's own kubeconfig has none. Its Node stays as it is.
    """
    path = node.kubernetes / BOOTSTRAP.name
    content = _bootstrap(_server(node) or server, node.kubernetes / "pki/ca.crt", token)
    atomic.write_file(path, json.dumps(content).encode(), mode=0o600)
    try:
        node.restart_kubelet()
        _await_certificate(node)
    finally:
        atomic.remove_if_there(path)


def forget_kubelets_server(node: Node) -> None:
    """Remove the certificate that the kubelet has signed itself; it makes one when it starts."""
    certificate = node.kubelet / certificates.KUBELET_SERVER
    for path in (certificate, certificate.with_suffix(".key")):
        atomic.remove_if_there(path)


def configuration(
    name: str, address: str, documents: Sequence[Mapping[str, Any]]
) -> list[Mapping[str, Any]]:
    """What kubeadm is told of a control plane, out of the cluster's *documents*."""
    own = {
        "apiVersion": kubeadm_config.API,
        "kind": "InitConfiguration",
        "localAPIEndpoint": {"advertiseAddress": address, "bindPort": 6443},
        "nodeRegistration": {"name": name, "criSocket": kubeadm_config.CRI_SOCKET},
    }
    return [own, *(one for one in documents if one["kind"] == "ClusterConfiguration")]


@contextlib.contextmanager
def _staged(
    node: Node, names: Sequence[str], documents: Sequence[Mapping[str, Any]]
) -> Iterator[Path]:
    """A copy of what kubeadm needs, in memory and for root alone, gone afterwards."""
    _remove(node.stage)
    copy = node.stage / "etc/kubernetes"
    authorities = [f"pki/{name}.{end}" for name in AUTHORITIES for end in ("crt", "key")]
    try:
        node.stage.mkdir(mode=0o700, parents=True)
        for name in [*authorities, *names]:
            (copy / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(node.kubernetes / name, copy / name)
        (node.stage / "kubeadm.yaml").write_text(kubeadm_config.as_yaml(documents), "utf-8")
        yield copy
    finally:
        _remove(node.stage)


def _remove(directory: Path) -> None:
    with contextlib.suppress(FileNotFoundError):
        shutil.rmtree(directory)


def _key(name: str) -> str:
    return f"{name.removesuffix('.crt')}.key"


def _embedded(kubeconfig: str, field: str) -> str:
    match = re.search(rf"^\s*client-{field}-data:\s*(\S+)\s*$", kubeconfig, re.MULTILINE)
    if match is None:
        raise KubewrightError("kubeadm printed no kubeconfig with a client certificate.")
    return base64.b64decode(match[1]).decode("ascii")


def _server(node: Node) -> str:
    """The API server in the kubelet's own kubeconfig, "" where it has none."""
    path = node.kubernetes / memberships.KUBELET_CONF.name
    text = path.read_text("utf-8", "replace") if path.exists() else ""
    match = re.search(r"^\s*server:\s*(\S+)\s*$", text, re.MULTILINE)
    return match[1] if match else ""


def _bootstrap(server: str, authority: Path, token: str) -> dict[str, Any]:
    """A kubeconfig with a bootstrap token, as kubeadm lays one for a join. JSON is YAML."""
    name = "tls-bootstrap-token-user"
    trust = base64.b64encode(authority.read_bytes()).decode("ascii")
    return {
        "apiVersion": "v1",
        "kind": "Config",
        "clusters": [
            {
                "name": "kubernetes",
                "cluster": {"server": server, "certificate-authority-data": trust},
            }
        ],
        "users": [{"name": name, "user": {"token": token}}],
        "contexts": [{"name": name, "context": {"cluster": "kubernetes", "user": name}}],
        "current-context": name,
    }


def _await_certificate(node: Node) -> None:
    began, end = time.time(), time.monotonic() + node.timeout
    while certificates.due(
        certificates.of_node(node.kubernetes, node.kubelet),
        datetime.now(timezone.utc),
        certificates.KUBELET_CLIENT,
    ):
        if time.monotonic() >= end:
            why = kubelet_died.reason(kubelet.journal(node.run, began))
            raise KubewrightError(
                f"The kubelet has no new certificate after {node.timeout:g} s. An API server "
                "receives the request and a controller manager signs it: check that both run. The "
                f"kubelet says: {why or 'nothing'}"
            )
        time.sleep(POLL)
