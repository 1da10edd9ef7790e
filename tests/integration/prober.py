# SPDX-License-Identifier: Apache-2.0
"""Runs on a node: new, authenticated connections to the API through the node's own balancer.

    prober.py <directory> <host name> <port> <rate> <count>

``directory`` has ca.crt, client.crt and client.key. Prints "ready", reads the moment of the first
probe from stdin (seconds of CLOCK_MONOTONIC, which a host shares with its containers), makes
``count`` probes at ``rate`` a second, and prints what it saw as one JSON object.

Each probe begins at its own moment, however slow others are: name of the rate is the rate.
Standard library only: it runs with the node's own Python.
"""

from __future__ import annotations

import http.client
import json
import socket
import ssl
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

#: Seconds that one probe may take, from connecting to the last byte of the answer.
LIMIT = 2.0
PATH = "/api/v1/namespaces/default"


def read_once(context: ssl.SSLContext, name: str, port: int) -> None:
    """One new connection and one read; raises when it fails or takes longer than LIMIT."""
    deadline = time.monotonic() + LIMIT
    with socket.create_connection(("127.0.0.1", port), timeout=LIMIT) as plain:
        plain.settimeout(max(0.001, deadline - time.monotonic()))
        with context.wrap_socket(plain, server_hostname=name) as secure:
            secure.settimeout(max(0.001, deadline - time.monotonic()))
            request = f"GET {PATH} HTTP/1.1\r\nHost: {name}\r\nConnection: close\r\n\r\n"
            secure.sendall(request.encode())
            answer = http.client.HTTPResponse(secure, method="GET")
            answer.begin()
            body = answer.read()
    if answer.status != 200:
        raise OSError(f"status {answer.status}: {body[:200]!r}")
    if json.loads(body)["metadata"]["name"] != "default":
        raise OSError(f"not the namespace: {body[:200]!r}")
    if time.monotonic() > deadline:
        raise TimeoutError(f"longer than {LIMIT} s")


def probe(context: ssl.SSLContext, name: str, port: int, planned: float) -> dict[str, Any]:
    """Wait for the planned moment, read once. Times are seconds."""
    time.sleep(max(0.0, planned - time.monotonic()))
    begun = time.monotonic()
    error = None
    try:
        read_once(context, name, port)
    except (OSError, ValueError, http.client.HTTPException) as failure:
        error = f"{type(failure).__name__}: {failure}"
    return {"late": begun - planned, "took": time.monotonic() - begun, "error": error}


def main(directory: Path, name: str, port: int, rate: float, count: int) -> None:
    """Probe on schedule and print the result."""
    context = ssl.create_default_context(cafile=str(directory / "ca.crt"))
    context.load_cert_chain(directory / "client.crt", directory / "client.key")
    print("ready", flush=True)
    first = float(sys.stdin.readline())
    # Twice as many threads as probes can be in progress, so that none waits for a thread.
    with ThreadPoolExecutor(max_workers=int(2 * rate * LIMIT) + 1) as pool:
        moments = [first + index / rate for index in range(count)]
        futures = [pool.submit(probe, context, name, port, moment) for moment in moments]
        results = [future.result() for future in futures]
    failed = [
        {"at": round(index / rate, 1), "error": result["error"], "took": round(result["took"], 3)}
        for index, result in enumerate(results)
        if result["error"]
    ]
    summary = {
        "probes": len(results),
        "failed": failed,
        "latest_start": max(result["late"] for result in results),
        "slowest": max(result["took"] for result in results),
    }
    print(json.dumps(summary), flush=True)


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2], int(sys.argv[3]), float(sys.argv[4]), int(sys.argv[5]))
