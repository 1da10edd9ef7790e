# SPDX-License-Identifier: Apache-2.0
"""An HTTP server of the store's images: by digest, read-only, with ranges for cut transfers.

What nodes get is verified by digest and signature, so the server need not be trusted and speaks no
TLS. Each request has a thread that waits for the network; the kernel sends the file.
"""

from __future__ import annotations

import re
import socket
import sys
from collections.abc import Callable
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

from kubewright.agreed import image_format
from kubewright.image.errors import ImageError
from kubewright.image.signing import signature_of
from kubewright.image.store import Store

#: A client that takes or says nothing for so long is let go (s).
SILENCE_SECONDS = 60.0
_PATH = re.compile(r"/([0-9a-f]{64})\.squashfs(\.sig)?")
_RANGE = re.compile(r"bytes=(\d*)-(\d*)")

Tell = Callable[[str], None]


def server(store: Store, address: str, port: int, tell: Tell) -> ThreadingHTTPServer:
    """A server that listens; ``serve_forever()`` runs it. ``tell`` gets a line for each request.

    ``port`` 0: any that is free. Raises ImageError when it can't listen there.
    """

    try:
        family = socket.getaddrinfo(address, port, type=socket.SOCK_STREAM)[0][0]
        return _Server(family, (address, port), store, tell)
    except OSError as fault:
        raise ImageError(
            f"Can't listen on {address}, port {port}: {fault.strerror}.",
            "Give an address of this machine and a free port: --listen ADDRESS:PORT.",
        ) from fault


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    # Many nodes begin at the same moment.
    request_queue_size = 1024

    def __init__(
        self, family: socket.AddressFamily, place: tuple[str, int], store: Store, tell: Tell
    ) -> None:
        self.address_family = family
        self.store, self.tell = store, tell
        super().__init__(place, _Handler)

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Tell why a request was not answered completely: a client that went away, or a fault."""
        self.tell(f"{client_address[0]} was not answered completely: {sys.exception()!r}")


class _Handler(BaseHTTPRequestHandler):
    server: _Server
    protocol_version = "HTTP/1.1"
    server_version = "kubewright"
    sys_version = ""
    timeout = SILENCE_SECONDS

    def do_GET(self) -> None:
        """Send a file, or a part of it."""
        self._answer(body=True)

    def do_HEAD(self) -> None:
        """Say how long it is."""
        self._answer(body=False)

    def log_message(self, format: str, *args: Any) -> None:
        """Tell of a request: who, what, and how it was answered."""
        text = (format % args).translate({code: "?" for code in (*range(32), 127)})
        self.server.tell(f"{self.address_string()} {text}")

    def _answer(self, *, body: bool) -> None:
        try:
            path = self._file()
            file = path.open("rb") if path else None
        except FileNotFoundError:
            file = None
        except ImageError as fault:
            self.server.tell(str(fault))
            self._refuse(HTTPStatus.INTERNAL_SERVER_ERROR)
            return
        if file is None:
            self._refuse(HTTPStatus.NOT_FOUND)
            return
        with file:
            size = file.seek(0, 2)
            part = wanted(self.headers.get("Range"), size)
            if part is None:
                self._refuse(HTTPStatus.REQUESTED_RANGE_NOT_SATISFIABLE, f"bytes */{size}")
                return
            start, end = part
            whole = part == (0, size) and not self.headers.get("Range")
            self.send_response(HTTPStatus.OK if whole else HTTPStatus.PARTIAL_CONTENT)
            self.send_header("Content-Type", "application/octet-stream")
            self.send_header("Content-Length", str(end - start))
            self.send_header("Accept-Ranges", "bytes")
            if not whole:
                self.send_header("Content-Range", f"bytes {start}-{end - 1}/{size}")
            self.end_headers()
            if body and end > start:
                self.wfile.flush()
                self.connection.sendfile(file, start, end - start)

    def _file(self) -> Path | None:
        """The file of the store that is meant; None when it has none of that name."""
        found = _PATH.fullmatch(self.path)
        if not found:
            return None
        for image in self.server.store.list():
            if image.digest == found[1]:
                path = self.server.store.path(image)
                return signature_of(path) if found[2] == image_format.SUFFIX else path
        return None

    def _refuse(self, status: HTTPStatus, content_range: str = "") -> None:
        self.send_response(status)
        if content_range:
            self.send_header("Content-Range", content_range)
        self.send_header("Content-Length", "0")
        self.end_headers()


def wanted(header: str | None, size: int) -> tuple[int, int] | None:
    """First byte and the one after the last that a Range header of a file of ``size`` bytes means.

    All of them without a header, or for one that need not be understood (RFC 9110, 14.2); None
    where it has none of them.
    """
    found = _RANGE.fullmatch(header.strip()) if header else None
    if found is None or (not found[1] and not found[2]):
        return 0, size
    if not found[1]:
        length = min(int(found[2]), size)
        return (size - length, size) if length else None
    start, end = int(found[1]), min(int(found[2]) + 1 if found[2] else size, size)
    if found[2] and int(found[2]) < int(found[1]):
        return 0, size
    return (start, end) if start < size else None
