# SPDX-License-Identifier: Apache-2.0
"""Runs on a node: new connections at a rate, each with one request, until it is told to stop.

    prober.py <JSON>

The JSON has ``address``, ``port``, ``path``, ``says`` (what the answer has to contain), ``rate`` (a
second), ``seconds`` (the longest that it goes on), and for TLS ``name`` (in the server's
certificate) and ``directory`` (with ca.crt, client.crt and client.key).

Prints "ready", reads the moment of the first probe from stdin (seconds of CLOCK_MONOTONIC, which a
host shares with its containers), probes until stdin has another line or ends, and prints what it
saw as one JSON object.

Each probe begins at its own moment, however slow others are: name of the rate is the rate.
Standard library only: it runs with the node's own Python.
"""

from __future__ import annotations

import http.client
import json
import socket
import ssl
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

#: Seconds that one probe may take, from connecting to the last byte of the answer.
LIMIT = 2.0
#: So many failures are told: a pipe holds them until they are read.
MOST = 100


class Prober:
    """What to ask whom, and how."""

    def __init__(self, told: dict[str, Any]) -> None:
        self._place = (told["address"], told["port"])
        self._name: str = told.get("name") or told["address"]
        self._path: str = told["path"]
        self._says = told["says"].encode()
        self._context = None
        if "directory" in told:
            directory = Path(told["directory"])
            self._context = ssl.create_default_context(cafile=str(directory / "ca.crt"))
            self._context.load_cert_chain(directory / "client.crt", directory / "client.key")

    def read_once(self) -> None:
        """One new connection and one read; raises when it fails or takes longer than LIMIT."""
        deadline = time.monotonic() + LIMIT
        with socket.create_connection(self._place, timeout=LIMIT) as plain:
            plain.settimeout(max(0.001, deadline - time.monotonic()))
            if self._context is None:
                status, body = self._exchange(plain)
            else:
                with self._context.wrap_socket(plain, server_hostname=self._name) as secure:
                    secure.settimeout(max(0.001, deadline - time.monotonic()))
                    status, body = self._exchange(secure)
        if status != 200:
            raise OSError(f"status {status}: {body[:200]!r}")
        if self._says not in body:
            raise OSError(f"something else: {body[:200]!r}")
        if time.monotonic() > deadline:
            raise TimeoutError(f"longer than {LIMIT} s")

    def _exchange(self, one: socket.socket) -> tuple[int, bytes]:
        request = f"GET {self._path} HTTP/1.1\r\nHost: {self._name}\r\nConnection: close\r\n\r\n"
        one.sendall(request.encode())
        answer = http.client.HTTPResponse(one, method="GET")
        answer.begin()
        return answer.status, answer.read()

    def probe(self, planned: float) -> dict[str, Any]:
        """Read once, at the planned moment. Times are seconds."""
        begun = time.monotonic()
        error = None
        try:
            self.read_once()
        except (OSError, ValueError, http.client.HTTPException) as failure:
            error = f"{type(failure).__name__}: {failure}"
        return {"late": begun - planned, "took": time.monotonic() - begun, "error": error}


def await_word(stop: threading.Event) -> None:
    """Set ``stop`` at the next line of stdin, or at its end."""
    sys.stdin.readline()
    stop.set()


def main(told: dict[str, Any]) -> None:
    """Probe on schedule and print the result."""
    prober, rate = Prober(told), told["rate"]
    print("ready", flush=True)
    first = float(sys.stdin.readline())
    stop = threading.Event()
    threading.Thread(target=await_word, args=(stop,), daemon=True).start()
    # Twice as many threads as probes can be in progress, so that none waits for a thread.
    with ThreadPoolExecutor(max_workers=int(2 * rate * LIMIT) + 1) as pool:
        futures = []
        for index in range(int(rate * told["seconds"])):
            planned = first + index / rate
            if stop.wait(max(0.0, planned - time.monotonic())):
                break
            futures.append(pool.submit(prober.probe, planned))
        results = [future.result() for future in futures]
    failed = [
        {"at": round(index / rate, 1), "error": result["error"], "took": round(result["took"], 3)}
        for index, result in enumerate(results)
        if result["error"]
    ]
    summary = {
        "probes": len(results),
        "failed": failed[:MOST],
        "latest_start": max((result["late"] for result in results), default=0.0),
        "slowest": max((result["took"] for result in results), default=0.0),
    }
    print(json.dumps(summary), flush=True)


if __name__ == "__main__":
    main(json.loads(sys.argv[1]))
