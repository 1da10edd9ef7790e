# Copyright: the Kubewright authors
# Apache License 2.0 (see LICENSE or https://www.apache.org/licenses/LICENSE-2.0)
"""What makes a cluster this one and no other, as it is kept in a directory.

Layout: ``cluster.json`` and ``pki/`` with the same relative paths as ``/etc/kubernetes/pki``.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from ansible_collections.kubewright.cluster.plugins.module_utils._base import atomic
from ansible_collections.kubewright.cluster.plugins.module_utils._base.errors import KubewrightError

DOCUMENT = "cluster.json"
PKI = "pki"
PUBLIC = (".crt", ".pub")
# Common name by path under /etc/kubernetes/pki. Source: kubeadm's phases/certs/certlist.go.
AUTHORITIES = {
    "ca": "kubernetes",
    "etcd/ca": "etcd-ca",
    "front-proxy-ca": "front-proxy-ca",
}


@dataclass(frozen=True)
class Identity:
    """``cluster.json``; `initial_node` is the node that runs kubeadm init, "" until it is known.

    `begun`: whether the cluster was whole once, so that it is never begun anew. `fixed`: what it
    keeps from then on, by name.
    """

    cluster_id: str
    cluster_name: str
    created_at: str
    initial_node: str = ""
    begun: bool = False
    fixed: Mapping[str, str] = field(default_factory=dict)


def read(path: Path) -> tuple[Identity, dict[str, str]]:
    """The identity in *path* and its PEM files by path under ``pki``."""
    try:
        identity = from_document(json.loads((path / DOCUMENT).read_text("utf-8")))
        pki = {name: (path / PKI / name).read_text("ascii") for name in file_names()}
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise KubewrightError(
            f"{path} is not a complete cluster identity ({type(error).__name__}: {error}). "
            "Restore it from a backup: the cluster would not trust new CAs. "
            "For a new cluster use an empty directory."
        ) from error
    return identity, pki


def recorded(path: Path) -> Identity | None:
    """What ``cluster.json`` in *path* says; None where there is none, or it can't be read.

    Who only looks takes it as it is: what it lacks is empty. Whoever uses it will `read` it.
    """
    empty = dict.fromkeys(("cluster_id", "cluster_name", "created_at", "initial_node"), "")
    try:
        return from_document({**empty, **json.loads((path / DOCUMENT).read_text("utf-8"))})
    except (OSError, ValueError, TypeError, AttributeError):
        return None


def from_document(document: Any) -> Identity:
    """What ``cluster.json`` says; raises KeyError, TypeError or AttributeError when it is none."""
    return Identity(
        cluster_id=str(document["cluster_id"]),
        cluster_name=str(document["cluster_name"]),
        created_at=str(document["created_at"]),
        initial_node=str(document["initial_node"]),
        begun=bool(document.get("begun")),
        fixed={str(name): str(value) for name, value in document.get("fixed", {}).items()},
    )


def file_names() -> list[str]:
    """All files under ``pki``."""
    pairs = [f"{name}{suffix}" for name in AUTHORITIES for suffix in (".crt", ".key")]
    return [*pairs, "sa.key", "sa.pub"]


def document(identity: Identity) -> bytes:
    """The text of ``cluster.json``."""
    return (json.dumps({"schema": 1, **asdict(identity)}, indent=1) + "\n").encode()


def record(path: Path, identity: Identity) -> None:
    """Write ``cluster.json`` again, in the directory *path* that has one."""
    atomic.write_file(path / DOCUMENT, document(identity), mode=0o600)
