# Copyright: the Kubewright authors
# Apache License 2.0 (see LICENSE or https://www.apache.org/licenses/LICENSE-2.0)
"""The text of a kubeconfig, written and read back. Pure.

It is written with quoted JSON strings, which are YAML, in a fixed shape; so the client
certificate can be found again without a YAML library.
"""

from __future__ import annotations

import base64
import binascii
import json
import re
from dataclasses import dataclass

from ansible_collections.kubewright.cluster.plugins.module_utils._cluster.pki import Pair


@dataclass(frozen=True)
class Target:
    """Which cluster to reach, and how. `tls_server_name` "": the host name in `server`."""

    cluster_name: str
    server: str
    tls_server_name: str
    certificate_authority: str
    user: str


def render(target: Target, client: Pair) -> str:
    """A kubeconfig with one cluster, one user and one context, ``<user>@<cluster>``."""
    name = f"{target.user}@{target.cluster_name}"
    tls_name = (
        f"      tls-server-name: {_quoted(target.tls_server_name)}\n"
        if target.tls_server_name
        else ""
    )
    return (
        "apiVersion: v1\n"
        "kind: Config\n"
        "clusters:\n"
        f"  - name: {_quoted(target.cluster_name)}\n"
        "    cluster:\n"
        f"      server: {_quoted(target.server)}\n"
        f"{tls_name}"
        f"      certificate-authority-data: {_encoded(target.certificate_authority)}\n"
        "users:\n"
        f"  - name: {_quoted(name)}\n"
        "    user:\n"
        f"      client-certificate-data: {_encoded(client.certificate)}\n"
        f"      client-key-data: {_encoded(client.key)}\n"
        "contexts:\n"
        f"  - name: {_quoted(name)}\n"
        "    context:\n"
        f"      cluster: {_quoted(target.cluster_name)}\n"
        f"      user: {_quoted(name)}\n"
        f"current-context: {_quoted(name)}\n"
    )


def client_in(text: str) -> Pair | None:
    """The client certificate and key in *text*, None when it has not both."""
    found = [_decoded(text, field) for field in ("client-certificate-data", "client-key-data")]
    return Pair(found[0], found[1]) if found[0] and found[1] else None


def without_key(text: str) -> str:
    """*text* for a diff: the client's key and certificate left out."""
    return re.sub(r"(client-(?:key|certificate)-data): \S+", r"\1: (hidden)", text)


def _quoted(text: str) -> str:
    return json.dumps(text)


def _encoded(text: str) -> str:
    return base64.b64encode(text.encode()).decode()


def _decoded(text: str, field: str) -> str:
    match = re.search(rf"^\s*{field}: (\S+)$", text, re.MULTILINE)
    if match is None:
        return ""
    try:
        return base64.b64decode(match[1], validate=True).decode("ascii")
    except (binascii.Error, UnicodeDecodeError):
        return ""
