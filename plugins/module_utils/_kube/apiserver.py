# Copyright: the Kubewright authors
# Apache License 2.0 (see LICENSE or https://www.apache.org/licenses/LICENSE-2.0)
"""Whether this node's own API server is ready."""

from __future__ import annotations

import http.client
import ssl
import time
from pathlib import Path

API_PORT = 6443
READY_TIMEOUT = 2.0
POLL = 0.25


def api_ready(address: str, ca: Path) -> bool:
    """Whether this node's own API server answers /readyz with 200."""
    try:
        context = ssl.create_default_context(cafile=str(ca))
        connection = http.client.HTTPSConnection(
            address, API_PORT, timeout=READY_TIMEOUT, context=context
        )
        try:
            connection.request("GET", "/readyz")
            return connection.getresponse().status == http.client.OK
        finally:
            connection.close()
    except (OSError, http.client.HTTPException):
        return False


def wait_for_api(address: str, ca: Path, seconds: float) -> bool:
    """`api_ready`, asked again until it is so or `seconds` are over."""
    end = time.monotonic() + seconds
    while not api_ready(address, ca):
        if time.monotonic() >= end:
            return False
        time.sleep(POLL)
    return True
