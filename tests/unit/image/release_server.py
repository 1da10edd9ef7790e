# SPDX-License-Identifier: Apache-2.0
"""A web server with release files that fails in the ways servers do, and makers of such files."""

from __future__ import annotations

import base64
import hashlib
import io
import ipaddress
import ssl
import struct
import tarfile
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

MACHINES = {"amd64": 62, "arm64": 183}


@dataclass
class ReleaseServer:
    """Serves ``directory``; what goes wrong is in the fields, and what was asked in ``asked``."""

    directory: Path
    ranges: bool = True
    # path -> after how many bytes the connection is cut, once for each number
    cuts: dict[str, list[int]] = field(default_factory=dict)
    # "name:password"
    login: str | None = None
    redirects: dict[str, str] = field(default_factory=dict)
    statuses: dict[str, int] = field(default_factory=dict)
    # path and the Range header
    asked: list[tuple[str, str | None]] = field(default_factory=list)
    url: str = ""

    def put(self, address: str, data: bytes) -> str:
        """Add a file; return its sha256."""
        path = self.directory / address
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)
        return hashlib.sha256(data).hexdigest()


@contextmanager
def served(server: ReleaseServer, tls: ssl.SSLContext | None = None) -> Iterator[ReleaseServer]:
    """Run the server on a free port of loopback."""

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def log_message(self, *_: object) -> None:
            pass

        def do_GET(self) -> None:
            path = self.path.partition("?")[0].lstrip("/")
            begin = self.headers.get("Range")
            server.asked.append((path, begin))
            given = base64.b64decode((self.headers.get("Authorization") or "Basic ")[6:]).decode()
            file = server.directory / path
            if self.path in server.redirects:
                self._say(302, {"Location": server.redirects[self.path]})
            elif server.login is not None and given != server.login:
                self._say(401, {"WWW-Authenticate": 'Basic realm="releases"'})
            elif path in server.statuses:
                self._say(server.statuses[path], {})
            elif not file.is_file():
                self._say(404, {})
            else:
                self._send(path, file.read_bytes(), begin if server.ranges else None)

        def _send(self, path: str, data: bytes, begin: str | None) -> None:
            tag = f'"{hashlib.sha256(data).hexdigest()}"'
            headers = {"ETag": tag} | ({"Accept-Ranges": "bytes"} if server.ranges else {})
            status, first = 200, 0
            if begin is not None and self.headers.get("If-Range", tag) == tag:
                first = int(begin.removeprefix("bytes=").removesuffix("-"))
                if first >= len(data):
                    self._say(416, {"Content-Range": f"bytes */{len(data)}"})
                    return
                status = 206
                headers["Content-Range"] = f"bytes {first}-{len(data) - 1}/{len(data)}"
            rest = data[first:]
            self._head(status, headers | {"Content-Length": str(len(rest))})
            if cuts := server.cuts.get(path):
                self.wfile.write(rest[: cuts.pop(0)])
                self.wfile.flush()
                self.close_connection = True
            else:
                self.wfile.write(rest)

        def _say(self, status: int, headers: Mapping[str, str]) -> None:
            self._head(status, {**headers, "Content-Length": "0"})

        def _head(self, status: int, headers: Mapping[str, str]) -> None:
            self.send_response(status)
            for name, value in headers.items():
                self.send_header(name, value)
            self.end_headers()

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as http:
        if tls is not None:
            http.socket = tls.wrap_socket(http.socket, server_side=True)
        # A refused certificate ends the handshake; that is what the test is about.
        http.handle_error = lambda *_: None  # type: ignore[method-assign]
        server.url = f"{'https' if tls else 'http'}://127.0.0.1:{http.server_address[1]}"
        thread = threading.Thread(target=http.serve_forever, args=(0.05,))
        thread.start()
        try:
            yield server
        finally:
            http.shutdown()
            thread.join()


def program(name: str, arch: str = "amd64") -> bytes:
    """The smallest thing that says for which processor it is: an ELF header and its name."""
    return struct.pack("<4sBBB9xHHI", b"\x7fELF", 2, 1, 1, 2, MACHINES[arch], 1) + (
        bytes(44) + name.encode()
    )


def archive(files: Mapping[str, bytes]) -> bytes:
    """A tar.gz of files."""
    data = io.BytesIO()
    with tarfile.open(fileobj=data, mode="w:gz") as tar:
        for name, contents in files.items():
            item = tarfile.TarInfo(name)
            item.size = len(contents)
            tar.addfile(item, io.BytesIO(contents))
    return data.getvalue()


@dataclass(frozen=True)
class Certificates:
    """Files of an authority and of a server's certificate that it signed for 127.0.0.1."""

    authority: Path
    certificate: Path
    key: Path

    @classmethod
    def make(cls, directory: Path) -> Certificates:
        def name(text: str) -> x509.Name:
            return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, text)])

        def builder(subject: str, key: ec.EllipticCurvePrivateKey) -> x509.CertificateBuilder:
            begin = datetime.now(UTC) - timedelta(days=1)
            return (
                x509.CertificateBuilder()
                .subject_name(name(subject))
                .issuer_name(name("a test's authority"))
                .public_key(key.public_key())
                .serial_number(x509.random_serial_number())
                .not_valid_before(begin)
                .not_valid_after(begin + timedelta(days=30))
            )

        root, own = ec.generate_private_key(ec.SECP256R1()), ec.generate_private_key(ec.SECP256R1())
        authority = builder("a test's authority", root).add_extension(
            x509.BasicConstraints(ca=True, path_length=None), critical=True
        )
        place = x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address("127.0.0.1"))])
        leaf = builder("127.0.0.1", own).add_extension(place, critical=False)
        made = cls(directory / "authority.pem", directory / "server.pem", directory / "server.key")
        pem = serialization.Encoding.PEM
        made.authority.write_bytes(authority.sign(root, hashes.SHA256()).public_bytes(pem))
        made.certificate.write_bytes(leaf.sign(root, hashes.SHA256()).public_bytes(pem))
        made.key.write_bytes(
            own.private_bytes(pem, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
        )
        return made

    def context(self) -> ssl.SSLContext:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(self.certificate, self.key)
        return context
