# SPDX-License-Identifier: Apache-2.0
"""A real HTTP server on loopback that has images, and goes wrong as it is told."""

from __future__ import annotations

import re
import ssl
import subprocess
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path


@dataclass
class Served:
    """What is there, by name, and what has been asked for: name, first byte, bytes sent."""

    files: dict[str, bytes] = field(default_factory=dict)
    asked: list[tuple[str, int, int]] = field(default_factory=list)
    url: str = ""
    ranges: bool = True
    #: After so many bytes of an image each connection is cut, or falls silent.
    cut_after: int | None = None
    silent: bool = False
    redirect: str = ""
    length: bool = True
    ended: threading.Event = field(default_factory=threading.Event)

    def images(self) -> list[tuple[int, int]]:
        """The requests for images: first byte and bytes sent."""
        return [(start, sent) for name, start, sent in self.asked if not name.endswith(".sig")]


@contextmanager
def serving(directory: Path, *, tls: bool = False) -> Iterator[Served]:
    """Serve until the end of the block; with *tls* under a certificate that nobody trusts."""
    served = Served()
    server = ThreadingHTTPServer(("127.0.0.1", 0), _handler(served))
    server.daemon_threads = True
    if tls:
        key, certificate = directory / "key.pem", directory / "certificate.pem"
        words = "openssl req -x509 -newkey rsa:2048 -nodes -days 1 -subj /CN=127.0.0.1"
        names = ["-addext", "subjectAltName=IP:127.0.0.1"]
        command = [*words.split(), *names, "-keyout", key, "-out", certificate]
        subprocess.run(command, check=True, capture_output=True)
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(certificate, key)
        server.socket = context.wrap_socket(server.socket, server_side=True)
    served.url = f"{'https' if tls else 'http'}://127.0.0.1:{server.server_port}/images"
    thread = threading.Thread(target=server.serve_forever, args=(0.02,))
    thread.start()
    try:
        yield served
    finally:
        served.ended.set()
        server.shutdown()
        thread.join()
        server.server_close()


def _handler(served: Served) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        def log_message(self, format: str, *args: object) -> None:
            """Tests look at what was asked instead."""

        def do_GET(self) -> None:
            name = self.path.rpartition("/")[2]
            if served.redirect:
                self.send_response(302)
                self.send_header("Location", f"{served.redirect}/{name}")
                self.end_headers()
                return
            if name not in served.files:
                served.asked.append((name, 0, 0))
                self.send_error(404)
                return
            self._send(name, served.files[name])

        def _send(self, name: str, content: bytes) -> None:
            found = re.fullmatch(r"bytes=(\d+)-", self.headers.get("Range", ""))
            start = int(found[1]) if found and served.ranges else 0
            if start and start >= len(content):
                self.send_response(416)
                self.send_header("Content-Range", f"bytes */{len(content)}")
                self.end_headers()
                return
            body = content[start:]
            self.send_response(206 if start else 200)
            if start:
                whole = f"{start}-{len(content) - 1}/{len(content)}"
                self.send_header("Content-Range", f"bytes {whole}")
            if served.length:
                self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            image = not name.endswith(".sig")
            sent = body[: served.cut_after] if image else body
            served.asked.append((name, start, len(sent)))
            self.wfile.write(sent)
            self.wfile.flush()
            if image and served.silent:
                served.ended.wait(30)

    return Handler


@dataclass(frozen=True)
class Signer:
    """A key that signs."""

    key: Path

    @classmethod
    def make(cls, directory: Path, name: str) -> Signer:
        key = directory / name
        command = ["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", name, "-f", str(key)]
        subprocess.run(command, check=True)
        return cls(key)

    @property
    def public(self) -> str:
        return self.key.with_name(f"{self.key.name}.pub").read_text().strip()

    def sign(self, content: bytes, namespace: str = "kubewright-image") -> bytes:
        command = ["ssh-keygen", "-q", "-Y", "sign", "-f", str(self.key), "-n", namespace]
        return subprocess.run(command, input=content, check=True, capture_output=True).stdout
