# Copyright: the Kubewright authors
# Apache License 2.0 (see LICENSE or https://www.apache.org/licenses/LICENSE-2.0)
"""The Kubernetes API from a node, with credentials that lie there.

A worker speaks as its kubelet, which may read and label its own Node and nothing else of the
cluster; a control plane as the administrator. Nothing but the standard library: nodes have no more.
"""

from __future__ import annotations

import contextlib
import http.client
import json
import os
import socket
import ssl
import urllib.parse
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ansible_collections.kubewright.cluster.plugins.module_utils._base.errors import KubewrightError
from ansible_collections.kubewright.cluster.plugins.module_utils._cluster import kubeconfig

PORT = 6443
NODES = "/api/v1/nodes"
TIMEOUT_SECONDS = 5.0
CONNECT_SECONDS = 2.0
CA = Path("/etc/kubernetes/pki/ca.crt")
ADMINISTRATOR = Path("/etc/kubernetes/admin.conf")
KUBELET_CLIENT = Path("/var/lib/kubelet/pki/kubelet-client-current.pem")


class ApiUnreachable(KubewrightError):
    """No API server answered, or the credentials on this node can't be used."""


class ApiError(KubewrightError):
    """An API server refused; `status` is HTTP's, `said` its message."""

    def __init__(self, method: str, path: str, status: int, said: str) -> None:
        super().__init__(f"{method} {path}: the API server answered {status}: {said[:300]}")
        self.status = status
        self.said = said


@dataclass
class Api:
    """*servers*: addresses, tried in order. *name*: the host name in every server's certificate."""

    servers: Sequence[str]
    name: str
    context: ssl.SSLContext
    _connection: http.client.HTTPSConnection | None = field(default=None, repr=False)

    def get(self, path: str) -> dict[str, Any] | None:
        """The object at *path*, None when there is none."""
        try:
            return self.request("GET", path)
        except ApiError as error:
            if error.status == http.client.NOT_FOUND:
                return None
            raise

    def request(
        self, method: str, path: str, body: Any = None, content_type: str = "application/json"
    ) -> dict[str, Any]:
        """One request; raises `ApiError` for an answer that is no success, or `ApiUnreachable`."""
        data = None if body is None else json.dumps(body).encode()
        headers = {"Accept": "application/json"}
        if data is not None:
            headers["Content-Type"] = content_type
        connection = self._connect()
        try:
            connection.request(method, path, data, headers)
            response = connection.getresponse()
            text = response.read()
        except (OSError, http.client.HTTPException) as error:
            self.close()
            raise ApiUnreachable(f"{method} {path}: {error}") from error
        if not http.client.OK <= response.status < http.client.MULTIPLE_CHOICES:
            raise ApiError(method, path, response.status, _message(text))
        try:
            answer: dict[str, Any] = json.loads(text)
        except ValueError as error:
            raise ApiError(method, path, response.status, "the answer is not JSON") from error
        return answer

    def _connect(self) -> http.client.HTTPSConnection:
        # A server that shuts down ends the connection with an answer; http.client would dial again
        # by itself, by the name.
        if self._connection is not None and self._connection.sock is not None:
            return self._connection
        reasons = []
        for server in self.servers:
            # The certificate is verified for the shared name, whichever address is dialled.
            connection = http.client.HTTPSConnection(
                self.name, PORT, timeout=TIMEOUT_SECONDS, context=self.context
            )
            try:
                plain = socket.create_connection((server, PORT), CONNECT_SECONDS)
                plain.settimeout(TIMEOUT_SECONDS)
                connection.sock = self.context.wrap_socket(plain, server_hostname=self.name)
            except OSError as error:
                reasons.append(f"{server}: {error}")
            else:
                self._connection = connection
                return connection
        raise ApiUnreachable(f"no API server answers ({'; '.join(reasons) or 'none is known'})")

    def close(self) -> None:
        """End the connection, if there is one."""
        if self._connection is not None:
            self._connection.close()
            self._connection = None


@contextlib.contextmanager
def as_administrator(servers: Sequence[str], name: str) -> Iterator[Api]:
    """The API with the administrator's credentials of a control plane."""
    try:
        client = kubeconfig.client_in(ADMINISTRATOR.read_text("utf-8"))
    except OSError as error:
        raise ApiUnreachable(f"{ADMINISTRATOR} can't be read: {error.strerror}") from error
    if client is None:
        raise ApiUnreachable(f"{ADMINISTRATOR} contains no client certificate")
    # ssl takes files alone; this one lives in memory, and nobody else can open it.
    fd = os.memfd_create("kubewright-client")
    try:
        os.write(fd, f"{client.certificate}\n{client.key}\n".encode())
        context = _context(Path(f"/proc/self/fd/{fd}"))
    finally:
        os.close(fd)
    with contextlib.closing(Api(servers, name, context)) as api:
        yield api


@contextlib.contextmanager
def as_kubelet(servers: Sequence[str], name: str) -> Iterator[Api]:
    """The API with the credentials of this node's kubelet."""
    with contextlib.closing(Api(servers, name, _context(KUBELET_CLIENT))) as api:
        yield api


def node_path(node: str) -> str:
    """The path of a Node."""
    return f"{NODES}/{urllib.parse.quote(node, safe='')}"


def lease_path(node: str) -> str:
    """The path of the Lease that a kubelet renews."""
    name = urllib.parse.quote(node, safe="")
    return f"/apis/coordination.k8s.io/v1/namespaces/kube-node-lease/leases/{name}"


def conditions(item: Mapping[str, Any]) -> dict[str, str]:
    """Status by type of an object's conditions."""
    found = (item.get("status") or {}).get("conditions") or []
    return {entry["type"]: entry["status"] for entry in found}


def _context(client: Path) -> ssl.SSLContext:
    try:
        context = ssl.create_default_context(cafile=str(CA))
        context.load_cert_chain(str(client))
    except (OSError, ssl.SSLError) as error:
        raise ApiUnreachable(f"{CA} and {client} can't be used as credentials: {error}") from error
    return context


def _message(text: bytes) -> str:
    try:
        return str(json.loads(text)["message"])
    except (ValueError, KeyError, TypeError):
        return text.decode("utf-8", "replace").strip()
