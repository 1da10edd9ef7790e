# SPDX-License-Identifier: Apache-2.0
"""The Kubernetes API from a node, against a real HTTPS server with a real certificate."""

from __future__ import annotations

import datetime
import json
import socket
import ssl
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from ansible_collections.kubewright.cluster.plugins.module_utils._cluster import pki
from ansible_collections.kubewright.cluster.plugins.module_utils._kube import client
from api_server import HERE, NOBODY, Server, serving

NAME = "api.demo.internal"
NODE = {"metadata": {"name": "web-1"}}


@pytest.fixture
def server(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    """One that lets nobody in without a certificate."""
    with serving(tmp_path, monkeypatch, NAME, ssl.CERT_REQUIRED) as made:
        yield made


def test_the_name_is_verified_whichever_address_is_dialled(server: Server) -> None:
    server.answer("/api/v1/nodes/web-1", NODE)
    with client.as_administrator([HERE], NAME) as api:
        assert api.get(client.node_path("web-1")) == NODE
    assert [request.user for request in server.requests] == ["kubernetes-admin"]
    other = pytest.raises(client.ApiUnreachable, match=r"api\.other\.internal")
    with client.as_administrator([HERE], "api.other.internal") as api, other:
        api.get("/")
    assert len(server.requests) == 1


def test_a_server_of_another_authority_gets_no_request(server: Server, tmp_path: Path) -> None:
    other = pki.make_authority(NAME, datetime.datetime.now(datetime.UTC))
    (tmp_path / "ca.crt").write_text(other.certificate)
    with (
        client.as_kubelet([HERE], NAME) as api,
        pytest.raises(client.ApiUnreachable, match="certificate verify failed"),
    ):
        api.get("/")
    assert server.requests == []


def test_the_next_server_is_asked_when_one_refuses(server: Server) -> None:
    server.answer("/version", {"major": "1"})
    with client.as_kubelet([NOBODY, HERE], NAME) as api:
        assert api.get("/version") == {"major": "1"}


def test_nobody_answers(server: Server) -> None:
    with client.as_kubelet([NOBODY, "127.0.0.3"], NAME) as api:
        with pytest.raises(client.ApiUnreachable) as caught:
            api.get("/version")
        assert f"{NOBODY}: " in str(caught.value)
        assert "127.0.0.3: " in str(caught.value)
    with (
        client.as_kubelet([], NAME) as api,
        pytest.raises(client.ApiUnreachable, match="none is kn"),
    ):
        api.get("/version")


def test_a_server_that_accepts_and_says_nothing(
    server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(client, "TIMEOUT_SECONDS", 0.2)
    with (
        socket.create_server((NOBODY, client.PORT)),
        client.as_kubelet([NOBODY, HERE], NAME) as api,
    ):
        server.answer("/version", {"major": "1"})
        assert api.get("/version") == {"major": "1"}


def test_several_requests_share_a_connection(server: Server) -> None:
    server.answer("/version", {})
    with client.as_kubelet([HERE], NAME) as api:
        assert [api.get(path) for path in ("/version", "/nothing", "/version")] == [{}, None, {}]
    assert len(server.connections) == 1


def test_a_server_that_closes_is_dialled_again_by_its_address(server: Server) -> None:
    server.closing = True
    server.answer("/version", {})
    with client.as_kubelet([HERE], NAME) as api:
        assert [api.get("/version"), api.get("/version")] == [{}, {}]
    assert len(server.connections) == 2


def test_refusals_carry_the_status_and_the_servers_words(server: Server) -> None:
    server.answer("/x", {"message": "the object has been modified"}, status=409, method="PATCH")
    server.answer("/plain", b"etcd is down\n", status=503)
    server.answer("/list", [1], status=500)
    with client.as_kubelet([HERE], NAME) as api:
        with pytest.raises(client.ApiError, match="409: the object has been modified") as caught:
            api.request("PATCH", "/x", {"a": 1}, "application/merge-patch+json")
        assert caught.value.status == 409
        with pytest.raises(client.ApiError, match=r"GET /plain: .* 503: etcd is down$"):
            api.get("/plain")
        with pytest.raises(client.ApiError, match=r"500: \[1\]"):
            api.get("/list")
        with pytest.raises(client.ApiError, match=r"GET /nothing: .* 404: not found"):
            api.request("GET", "/nothing")
    patch = server.requests[0]
    assert (patch.content_type, json.loads(patch.body)) == (
        "application/merge-patch+json",
        {"a": 1},
    )


def test_an_answer_that_is_no_json_is_an_error_in_words(server: Server) -> None:
    server.answer("/version", b"<html>")
    with client.as_kubelet([HERE], NAME) as api, pytest.raises(client.ApiError, match="not JSON"):
        api.get("/version")


def test_credentials_that_are_missing_or_no_good(server: Server, tmp_path: Path) -> None:
    def refused(words: str, speak: Any) -> None:
        with pytest.raises(client.ApiUnreachable, match=words), speak([HERE], NAME):
            pass

    (tmp_path / "kubelet.pem").write_text("half of it")
    refused("kubelet.pem can't be used as credentials", client.as_kubelet)
    (tmp_path / "kubelet.pem").unlink()
    refused("kubelet.pem can't be used as credentials", client.as_kubelet)
    (tmp_path / "admin.conf").write_text("users: []\n")
    refused("admin.conf contains no client certificate", client.as_administrator)
    (tmp_path / "admin.conf").unlink()
    refused("admin.conf can't be read: No such file", client.as_administrator)


def test_names_in_paths_are_quoted() -> None:
    assert client.node_path("a/../b") == "/api/v1/nodes/a%2F..%2Fb"


def test_conditions_by_type() -> None:
    ready = {"type": "Ready", "status": "True", "reason": "x"}
    assert client.conditions({"status": {"conditions": [ready]}}) == {"Ready": "True"}
    assert client.conditions({"status": {"conditions": None}}) == {}
    assert client.conditions({}) == {}
