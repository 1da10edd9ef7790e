# SPDX-License-Identifier: Apache-2.0
"""Whether containerd and the kubelet answer: on real sockets, whose owners live or stand still."""

from __future__ import annotations

import http.server
import json
import socket
import threading
import time
from collections.abc import Iterator
from concurrent import futures
from pathlib import Path

import pytest
from ansible_collections.kubewright.cluster.plugins.module_utils._onnode import (
    daemons,
    kubelet_died,
    report,
    trial_node,
)

#: What a gRPC server of Go says first: a frame of settings with one of them (six bytes).
SETTINGS = bytes([0, 0, 6, 4, 0, 0, 0, 0, 0]) + bytes([0, 5, 0, 0, 64, 0])


@pytest.fixture
def listening(tmp_path: Path) -> Iterator[socket.socket]:
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as made:
        made.bind(str(tmp_path / "containerd.sock"))
        made.listen()
        yield made


def answered(listening: socket.socket, said: bytes) -> str:
    """What is told of a server that says so: byte by byte, as far as a frame's header goes."""
    last = daemons.FRAME_HEADER - 1

    def answer() -> bytes:
        connection, _ = listening.accept()
        with connection:
            heard = connection.recv(len(daemons.HELLO), socket.MSG_WAITALL)
            for number in range(last):
                connection.send(said[number : number + 1])
            # At once: whoever has a whole header may hang up.
            connection.send(said[last:])
        return heard

    with futures.ThreadPoolExecutor(1) as pool:
        heard = pool.submit(answer)
        told = daemons.containerd(Path(listening.getsockname()))
        assert heard.result(10) == daemons.HELLO
    return told


def test_one_that_lives(listening: socket.socket) -> None:
    assert answered(listening, SETTINGS) == ""


@pytest.mark.parametrize("said", [b"", b"HTTP/1.1 400 Bad Request\r\n\r\n", SETTINGS[:5]])
def test_something_else_answers(listening: socket.socket, said: bytes) -> None:
    path = listening.getsockname()
    assert answered(listening, said) == f"the service at {path} is not containerd"


def test_one_that_stands_still_takes_connections(listening: socket.socket) -> None:
    """The kernel does, for a process that was stopped or hangs."""
    began = time.monotonic()
    told = daemons.containerd(Path(listening.getsockname()), seconds=0.3)
    assert told == "containerd does not answer within 0.3 s"
    assert time.monotonic() - began < 2


def test_one_that_is_not_there(tmp_path: Path) -> None:
    told = daemons.containerd(tmp_path / "none.sock")
    assert told == "containerd does not answer: No such file or directory"


@pytest.fixture
def kubelet(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[int]:
    """One that is healthy; gives its port."""

    class Healthy(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200)
            self.end_headers()

        def log_message(self, *_: object) -> None:
            """Say nothing."""

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Healthy)
    threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True).start()
    configuration = tmp_path / "kubelet.conf"
    configuration.write_text(json.dumps({"healthzPort": server.server_port}))
    monkeypatch.setattr(trial_node, "KUBELET", configuration)
    yield server.server_port
    server.shutdown()
    server.server_close()


def test_what_a_node_reports(tmp_path: Path, kubelet: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(report, "JOINED", tmp_path / "config.yaml")
    monkeypatch.setattr(daemons, "containerd", lambda: "containerd does not answer within 2 s")
    monkeypatch.setattr(kubelet_died, "look", lambda: "")
    assert report.runtime({}) == [] == report.kubelet({}), "it has not joined yet"
    report.JOINED.touch()
    (told,) = report.runtime({})
    assert told["text"] == "containerd does not answer within 2 s: no pod starts or stops here."
    assert "systemctl restart containerd" in told["remedy"]
    assert report.kubelet({}) == []
    trial_node.KUBELET.write_text(json.dumps({"healthzPort": unused_port()}))
    (told,) = report.kubelet({})
    assert told["text"].startswith("The kubelet does not answer: ")
    # Why it dies says more than that it does not answer meanwhile.
    monkeypatch.setattr(kubelet_died, "look", lambda: "the kubelet has been restarted 3 times")
    (told,) = report.kubelet({})
    assert told["text"] == "the kubelet has been restarted 3 times."


def unused_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as one:
        return int(one.getsockname()[1])
