# SPDX-License-Identifier: Apache-2.0
"""A TCP relay in front of a server: it counts what each client gets, and cuts connections."""

from __future__ import annotations

import socket
import threading
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field

_CHUNK = 1 << 16


@dataclass
class Relay:
    """``sent``: bytes that went to each client's address, ``opened``: connections of each.

    ``cut_after``: the connection that has brought so many bytes is cut, once. With ``stays_cut``
    those after it are ended at once.
    """

    listener: socket.socket
    target: tuple[str, int]
    sent: Counter[str] = field(default_factory=Counter)
    opened: Counter[str] = field(default_factory=Counter)
    cut_after: int | None = None
    stays_cut: bool = False
    _is_cut: bool = False

    @property
    def url(self) -> str:
        """Where it listens."""
        address, port = self.listener.getsockname()
        return f"http://{address}:{port}"

    def mend(self) -> None:
        """Cut nothing any more, and count anew."""
        self.cut_after, self.stays_cut, self._is_cut = None, False, False
        self.sent.clear()
        self.opened.clear()

    def serve(self) -> None:
        """Serve until the listener is closed."""
        while True:
            try:
                client, (address, _) = self.listener.accept()
            except OSError:
                return
            threading.Thread(target=self._relay, args=(client, address), daemon=True).start()

    def _relay(self, client: socket.socket, address: str) -> None:
        self.opened[address] += 1
        with client:
            if self._is_cut and self.stays_cut:
                return
            with socket.create_connection(self.target) as server:
                up = threading.Thread(target=_pump, args=(client, server), daemon=True)
                up.start()
                self._down(server, client, address)

    def _down(self, server: socket.socket, client: socket.socket, address: str) -> None:
        brought = 0
        with suppress(OSError):  # either end is gone: so is the connection
            while chunk := server.recv(_CHUNK):
                client.sendall(chunk)
                brought += len(chunk)
                self.sent[address] += len(chunk)
                if self.cut_after is not None and not self._is_cut and brought >= self.cut_after:
                    self._is_cut = True
                    return


def _pump(source: socket.socket, sink: socket.socket) -> None:
    with suppress(OSError):
        while chunk := source.recv(_CHUNK):
            sink.sendall(chunk)


@contextmanager
def relay(address: str, target: tuple[str, int]) -> Iterator[Relay]:
    """A relay at an address of this host, to a server."""
    with socket.create_server((address, 0)) as listener:
        made = Relay(listener, target)
        threading.Thread(target=made.serve, daemon=True).start()
        yield made
        listener.shutdown(socket.SHUT_RDWR)
