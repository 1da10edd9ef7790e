# SPDX-License-Identifier: Apache-2.0
"""A real HTTPS server in the place of an API server, and a node whose credentials it takes."""

from __future__ import annotations

import datetime
import json
import ssl
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from ansible_collections.kubewright.cluster.plugins.module_utils._cluster import kubeconfig, pki
from ansible_collections.kubewright.cluster.plugins.module_utils._kube import client

#: Where it listens, and an address where nobody does.
HERE, NOBODY = "127.0.0.1", "127.0.0.2"
#: As a name in the certificate it lets the server be reached by name and by host alike.
NAME = "localhost"
ADMINISTRATOR, KUBELET = "kubernetes-admin", "system:node:web-1"


@dataclass(frozen=True)
class Request:
    """One that came; `user`: whom its certificate names, empty without one."""

    method: str
    path: str
    content_type: str | None
    body: bytes
    user: str


@dataclass
class Server:
    """Answers by method and path; everything else is not found. `closing`: as one that stops."""

    answers: dict[tuple[str, str], list[tuple[int, bytes]]] = field(default_factory=dict)
    requests: list[Request] = field(default_factory=list)
    connections: set[Any] = field(default_factory=set)
    closing: bool = False
    port: int = 0

    @property
    def asked(self) -> list[tuple[str, str]]:
        """User and path of each request."""
        return [(request.user, request.path) for request in self.requests]

    def answer(self, path: str, *documents: Any, status: int = 200, method: str = "GET") -> None:
        """Add answers for *path*: each is given once, the last one from then on."""
        told = [
            (status, one if isinstance(one, bytes) else json.dumps(one).encode())
            for one in documents
        ]
        self.answers.setdefault((method, path), []).extend(told)

    def next_answer(self, method: str, path: str) -> tuple[int, bytes]:
        """Return status and body."""
        left = self.answers.get((method, path)) or [(404, b'{"message": "not found"}')]
        return left.pop(0) if len(left) > 1 else left[0]


def _handler(server: Server) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def handle_any(self) -> None:
            body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
            certificate = self.connection.getpeercert() or {}  # type: ignore[attr-defined]
            subject = dict(pair for part in certificate.get("subject", ()) for pair in part)
            kind, user = self.headers.get("Content-Type"), subject.get("commonName", "")
            server.requests.append(Request(self.command, self.path, kind, body, user))
            server.connections.add(self.client_address)
            status, data = server.next_answer(self.command, self.path)
            self.send_response(status)
            self.send_header("Content-Length", str(len(data)))
            if server.closing:
                self.send_header("Connection", "close")
            self.end_headers()
            self.wfile.write(data)

        do_GET = do_PATCH = handle_any

        def log_message(self, format: str, *args: Any) -> None:
            pass

    return Handler


@contextmanager
def serving(
    directory: Path,
    monkeypatch: pytest.MonkeyPatch,
    name: str = NAME,
    verify: ssl.VerifyMode = ssl.CERT_OPTIONAL,
) -> Iterator[Server]:
    """Serve on `HERE`; *directory* gets ``ca.crt``, ``admin.conf`` and ``kubelet.pem``.

    *name* is in the server's certificate. *verify*: whether clients need one of their own.
    """
    now = datetime.datetime.now(datetime.UTC)
    authority = pki.make_authority(name, now)  # its certificate is the server's too
    administrator, kubelet = (
        pki.make_client(authority, pki.Subject(user, ()), 1, now)
        for user in (ADMINISTRATOR, KUBELET)
    )
    (directory / "ca.crt").write_text(authority.certificate)
    (directory / "ca.key").write_text(authority.key)
    (directory / "kubelet.pem").write_text(kubelet.certificate + kubelet.key)
    target = kubeconfig.Target("demo", "https://x", "", authority.certificate, "a")
    (directory / "admin.conf").write_text(kubeconfig.render(target, administrator))
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH, cafile=str(directory / "ca.crt"))
    context.load_cert_chain(directory / "ca.crt", directory / "ca.key")
    context.verify_mode = verify
    with ThreadingHTTPServer((HERE, 0), _handler(made := Server())) as listener:
        listener.daemon_threads = True
        listener.socket = context.wrap_socket(listener.socket, server_side=True)
        made.port = listener.server_port
        thread = threading.Thread(target=listener.serve_forever, args=(0.05,))
        thread.start()
        monkeypatch.setattr(client, "PORT", made.port)
        monkeypatch.setattr(client, "CA", directory / "ca.crt")
        monkeypatch.setattr(client, "ADMINISTRATOR", directory / "admin.conf")
        monkeypatch.setattr(client, "KUBELET_CLIENT", directory / "kubelet.pem")
        try:
            yield made
        finally:
            listener.shutdown()
            thread.join()
