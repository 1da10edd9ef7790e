# SPDX-License-Identifier: Apache-2.0
"""The Kubernetes API from a node, against a real HTTPS server with a real certificate."""

from __future__ import annotations

import datetime
import json
import socket
import ssl
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from ansible_collections.kubewright.cluster.plugins.module_utils import (
    _api,
    _kubeconfig,
    _pki,
)

NAME = "api.demo.internal"
HERE, NOBODY = "127.0.0.1", "127.0.0.2"
NODE = {"metadata": {"name": "web-1"}}


@dataclass
class Request:
    method: str
    path: str
    content_type: str | None
    body: bytes
    user: str


@dataclass
class Server:
    """Answers by method and path; everything else is not found. `closing`: as one that stops."""

    answers: dict[tuple[str, str], tuple[int, bytes]] = field(default_factory=dict)
    requests: list[Request] = field(default_factory=list)
    connections: set[Any] = field(default_factory=set)
    closing: bool = False

    def answer(self, path: str, document: Any, status: int = 200, method: str = "GET") -> None:
        data = document if isinstance(document, bytes) else json.dumps(document).encode()
        self.answers[(method, path)] = (status, data)


def handler(server: Server) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def handle_any(self) -> None:
            body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
            subject = self.connection.getpeercert()["subject"]  # type: ignore[attr-defined]
            user = dict(pair for part in subject for pair in part)["commonName"]
            kind = self.headers.get("Content-Type")
            server.requests.append(Request(self.command, self.path, kind, body, user))
            server.connections.add(self.client_address)
            missing = (404, json.dumps({"message": "not found"}).encode())
            status, data = server.answers.get((self.command, self.path), missing)
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


@dataclass(frozen=True)
class Credentials:
    """Authority, which is the server's certificate too, and a client's pair."""

    authority: _pki.Pair
    client: _pki.Pair


def make_credentials(name: str) -> Credentials:
    now = datetime.datetime.now(datetime.UTC)
    authority = _pki.make_authority(name, now)
    subject = _pki.Subject("kubernetes-admin", ("kubeadm:cluster-admins",))
    return Credentials(authority, _pki.make_client(authority, subject, 1, now))


@pytest.fixture(scope="module")
def credentials() -> Credentials:
    return make_credentials(NAME)


@pytest.fixture
def server(
    credentials: Credentials, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Server]:
    """An API server on 127.0.0.1, and a node whose credentials it takes."""
    (tmp_path / "ca.crt").write_text(credentials.authority.certificate)
    (tmp_path / "ca.key").write_text(credentials.authority.key)
    (tmp_path / "kubelet.pem").write_text(credentials.client.certificate + credentials.client.key)
    target = _kubeconfig.Target("demo", "https://x", "", credentials.authority.certificate, "a")
    (tmp_path / "admin.conf").write_text(_kubeconfig.render(target, credentials.client))
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH, cafile=str(tmp_path / "ca.crt"))
    context.load_cert_chain(tmp_path / "ca.crt", tmp_path / "ca.key")
    context.verify_mode = ssl.CERT_REQUIRED
    made = Server()
    with ThreadingHTTPServer((HERE, 0), handler(made)) as listener:
        listener.daemon_threads = True
        listener.socket = context.wrap_socket(listener.socket, server_side=True)
        thread = threading.Thread(target=listener.serve_forever, args=(0.05,))
        thread.start()
        monkeypatch.setattr(_api, "PORT", listener.server_port)
        monkeypatch.setattr(_api, "CA", tmp_path / "ca.crt")
        monkeypatch.setattr(_api, "ADMINISTRATOR", tmp_path / "admin.conf")
        monkeypatch.setattr(_api, "KUBELET_CLIENT", tmp_path / "kubelet.pem")
        yield made
        listener.shutdown()
        thread.join()


def test_the_name_is_verified_whichever_address_is_dialled(server: Server) -> None:
    server.answer("/api/v1/nodes/web-1", NODE)
    with _api.as_administrator([HERE], NAME) as api:
        assert api.get(_api.node_path("web-1")) == NODE
    assert [request.user for request in server.requests] == ["kubernetes-admin"]
    other = pytest.raises(_api.ApiUnreachable, match=r"api\.other\.internal")
    with _api.as_administrator([HERE], "api.other.internal") as api, other:
        api.get("/")
    assert len(server.requests) == 1


def test_a_server_of_another_authority_gets_no_request(server: Server, tmp_path: Path) -> None:
    (tmp_path / "ca.crt").write_text(make_credentials(NAME).authority.certificate)
    with (
        _api.as_kubelet([HERE], NAME) as api,
        pytest.raises(_api.ApiUnreachable, match="certificate verify failed"),
    ):
        api.get("/")
    assert server.requests == []


def test_the_next_server_is_asked_when_one_refuses(server: Server) -> None:
    server.answer("/version", {"major": "1"})
    with _api.as_kubelet([NOBODY, HERE], NAME) as api:
        assert api.get("/version") == {"major": "1"}


def test_nobody_answers(server: Server) -> None:
    with _api.as_kubelet([NOBODY, "127.0.0.3"], NAME) as api:
        with pytest.raises(_api.ApiUnreachable) as caught:
            api.get("/version")
        assert f"{NOBODY}: " in str(caught.value)
        assert "127.0.0.3: " in str(caught.value)
    with _api.as_kubelet([], NAME) as api, pytest.raises(_api.ApiUnreachable, match="none is kn"):
        api.get("/version")


def test_a_server_that_accepts_and_says_nothing(
    server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(_api, "TIMEOUT_SECONDS", 0.2)
    with socket.create_server((NOBODY, _api.PORT)), _api.as_kubelet([NOBODY, HERE], NAME) as api:
        server.answer("/version", {"major": "1"})
        assert api.get("/version") == {"major": "1"}


def test_several_requests_share_a_connection(server: Server) -> None:
    server.answer("/version", {})
    with _api.as_kubelet([HERE], NAME) as api:
        assert [api.get(path) for path in ("/version", "/nothing", "/version")] == [{}, None, {}]
    assert len(server.connections) == 1


def test_a_server_that_closes_is_dialled_again_by_its_address(server: Server) -> None:
    server.closing = True
    server.answer("/version", {})
    with _api.as_kubelet([HERE], NAME) as api:
        assert [api.get("/version"), api.get("/version")] == [{}, {}]
    assert len(server.connections) == 2


def test_refusals_carry_the_status_and_the_servers_words(server: Server) -> None:
    server.answer("/x", {"message": "the object has been modified"}, 409, "PATCH")
    server.answer("/plain", b"etcd is down\n", 503)
    server.answer("/list", [1], 500)
    with _api.as_kubelet([HERE], NAME) as api:
        with pytest.raises(_api.ApiError, match="409: the object has been modified") as caught:
            api.request("PATCH", "/x", {"a": 1}, "application/merge-patch+json")
        assert caught.value.status == 409
        with pytest.raises(_api.ApiError, match=r"GET /plain: .* 503: etcd is down$"):
            api.get("/plain")
        with pytest.raises(_api.ApiError, match=r"500: \[1\]"):
            api.get("/list")
        with pytest.raises(_api.ApiError, match=r"GET /nothing: .* 404: not found"):
            api.request("GET", "/nothing")
    patch = server.requests[0]
    assert (patch.content_type, json.loads(patch.body)) == (
        "application/merge-patch+json",
        {"a": 1},
    )


def test_an_answer_that_is_no_json_is_an_error_in_words(server: Server) -> None:
    server.answer("/version", b"<html>")
    with _api.as_kubelet([HERE], NAME) as api, pytest.raises(_api.ApiError, match="no JSON"):
        api.get("/version")


def test_credentials_that_are_missing_or_no_good(server: Server, tmp_path: Path) -> None:
    def refused(words: str, speak: Any) -> None:
        with pytest.raises(_api.ApiUnreachable, match=words), speak([HERE], NAME):
            pass

    (tmp_path / "kubelet.pem").write_text("half of it")
    refused("kubelet.pem can't be used as credentials", _api.as_kubelet)
    (tmp_path / "kubelet.pem").unlink()
    refused("kubelet.pem can't be used as credentials", _api.as_kubelet)
    (tmp_path / "admin.conf").write_text("users: []\n")
    refused("admin.conf holds no client certificate", _api.as_administrator)
    (tmp_path / "admin.conf").unlink()
    refused("admin.conf can't be read: No such file", _api.as_administrator)


def test_names_in_paths_are_quoted() -> None:
    assert _api.node_path("a/../b") == "/api/v1/nodes/a%2F..%2Fb"


def test_conditions_by_type() -> None:
    ready = {"type": "Ready", "status": "True", "reason": "x"}
    assert _api.conditions({"status": {"conditions": [ready]}}) == {"Ready": "True"}
    assert _api.conditions({"status": {"conditions": None}}) == {}
    assert _api.conditions({}) == {}
