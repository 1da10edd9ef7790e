# SPDX-License-Identifier: Apache-2.0
"""An authority, and TLS servers on loopback that answer as they are told."""

from __future__ import annotations

import ipaddress
import json
import ssl
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID


@dataclass
class Authority:
    """A CA on disk: ``ca.crt`` and ``ca.key`` in a directory."""

    directory: Path
    key: ec.EllipticCurvePrivateKey = field(
        default_factory=lambda: ec.generate_private_key(ec.SECP256R1())
    )

    def __post_init__(self) -> None:
        self.directory.mkdir(parents=True, exist_ok=True)
        self.name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "kubernetes")])
        certificate = self._builder(self.name, self.key).add_extension(
            x509.BasicConstraints(ca=True, path_length=None), critical=True
        )
        self.pem = certificate.sign(self.key, hashes.SHA256()).public_bytes(
            serialization.Encoding.PEM
        )
        self.certificate_file.write_bytes(self.pem)
        self.key_file.write_bytes(_private(self.key))

    @property
    def certificate_file(self) -> Path:
        return self.directory / "ca.crt"

    @property
    def key_file(self) -> Path:
        return self.directory / "ca.key"

    def _builder(self, subject: x509.Name, key: ec.EllipticCurvePrivateKey) -> Any:
        now = datetime.now(UTC)
        return (
            x509.CertificateBuilder()
            .subject_name(subject)
            .issuer_name(self.name)
            .public_key(key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - timedelta(minutes=1))
            .not_valid_after(now + timedelta(hours=1))
        )

    def issue(self, *names: str) -> tuple[bytes, bytes]:
        """Return certificate and key for DNS names and addresses."""
        key = ec.generate_private_key(ec.SECP256R1())
        alternatives: list[x509.GeneralName] = []
        for name in names:
            try:
                alternatives.append(x509.IPAddress(ipaddress.ip_address(name)))
            except ValueError:
                alternatives.append(x509.DNSName(name))
        subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, names[0])])
        builder = self._builder(subject, key)
        if alternatives:
            builder = builder.add_extension(x509.SubjectAlternativeName(alternatives), False)
        signed = builder.sign(self.key, hashes.SHA256())
        return signed.public_bytes(serialization.Encoding.PEM), _private(key)


def _private(key: ec.EllipticCurvePrivateKey) -> bytes:
    return key.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.NoEncryption(),
    )


@pytest.fixture
def authority(tmp_path: Path) -> Authority:
    return Authority(tmp_path / "pki")


Answer = tuple[int, Any]
#: Serves a table of path -> (status, body) at an address; gives the port.
Serve = Callable[..., int]


@pytest.fixture
def serve(tmp_path: Path) -> Iterator[Serve]:
    with ExitStack() as stack:

        def start(
            authority: Authority,
            names: list[str],
            answers: dict[str, Answer],
            *,
            address: str = "127.0.0.1",
            port: int = 0,
            clients: Authority | None = None,
        ) -> int:
            class Handler(BaseHTTPRequestHandler):
                def do_GET(self) -> None:
                    length = int(self.headers.get("Content-Length", 0))
                    self.rfile.read(length)
                    status, body = answers.get(self.path.partition("?")[0], (404, ""))
                    content = body.encode() if isinstance(body, str) else json.dumps(body).encode()
                    self.send_response(status)
                    self.send_header("Content-Type", "application/json")
                    self.send_header("Content-Length", str(len(content)))
                    self.end_headers()
                    self.wfile.write(content)

                do_POST = do_GET

                def log_message(self, *_: object) -> None:
                    """Say nothing."""

            certificate, key = authority.issue(*names)
            chain = tmp_path / f"server-{address}-{port}-{len(names)}.pem"
            chain.write_bytes(certificate + key)
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            context.load_cert_chain(chain)
            if clients is not None:
                context.load_verify_locations(clients.certificate_file)
                context.verify_mode = ssl.CERT_REQUIRED
            server = ThreadingHTTPServer((address, port), Handler)
            server.handle_error = lambda *_: None  # type: ignore[method-assign]
            server.socket = context.wrap_socket(
                server.socket, server_side=True, do_handshake_on_connect=False
            )
            thread = threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True)
            thread.start()
            stack.callback(server.server_close)
            stack.callback(server.shutdown)
            return int(server.server_address[1])

        yield start
