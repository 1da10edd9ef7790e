# Copyright: the Kubewright authors
# Apache License 2.0 (see LICENSE or https://www.apache.org/licenses/LICENSE-2.0)
"""Whether the container runtime and the kubelet of this node answer.

One that stands still is no dead one: its sockets take connections, and its Node stays Ready for
most of a minute. Like `guard`, this very file also lies on each node, where `report` runs it.
"""

from __future__ import annotations

import socket
from pathlib import Path

try:
    from ansible_collections.kubewright.cluster.plugins.module_utils._onnode import trial_node
except ImportError:  # alone on a node
    import trial_node  # type: ignore[import-not-found,no-redef]

CONTAINERD = Path("/run/containerd/containerd.sock")
#: For each of them. A living one answers in milliseconds.
SECONDS = 2.0
#: gRPC is HTTP/2, where each side begins with a frame of settings (RFC 9113, sections 3.4 and 6.5):
#: a server's comes as soon as it has read ours, and no program has to be started for it.
SETTINGS = 4
FRAME_HEADER = 9
HELLO = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + bytes([0, 0, 0, SETTINGS, 0, 0, 0, 0, 0])


def containerd(path: Path = CONTAINERD, seconds: float = SECONDS) -> str:
    """Why containerd does not answer at *path*; "" when it does."""
    said = b""
    try:
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as one:
            one.settimeout(seconds)
            one.connect(str(path))
            one.sendall(HELLO)
            while len(said) < FRAME_HEADER and (piece := one.recv(FRAME_HEADER - len(said))):
                said += piece
    except TimeoutError:
        return f"containerd does not answer within {seconds:g} s"
    except OSError as error:
        return f"containerd does not answer: {error.strerror or error}"
    if len(said) < FRAME_HEADER or said[3] != SETTINGS:
        return f"the service at {path} is not containerd"
    return ""


def kubelet() -> str:
    """Why the kubelet does not answer, or is not healthy by its own word; "" when it is."""
    return trial_node.kubelet_trouble(SECONDS)
