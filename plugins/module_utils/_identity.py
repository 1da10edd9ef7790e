# Copyright: the Kubewright authors
# Apache License 2.0 (see LICENSE or https://www.apache.org/licenses/LICENSE-2.0)
"""Private to kubewright.cluster: the directory that makes a cluster this one and no other.

Layout: ``cluster.json`` and ``pki/`` with the same relative paths as ``/etc/kubernetes/pki``.
The directory is made beside its place and renamed when it is complete and on disk. It is never
mended: authorities that are made again would be a different cluster.
"""

from __future__ import annotations

import contextlib
import datetime
import json
import os
import shutil
import stat
import uuid
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from types import MappingProxyType

from ansible_collections.kubewright.cluster.plugins.module_utils import _atomic, _fence, _pki
from ansible_collections.kubewright.cluster.plugins.module_utils._errors import KubewrightError

LOCK_SECONDS = 60.0
DOCUMENT = "cluster.json"
PUBLIC = (".crt", ".pub")


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


@dataclass(frozen=True)
class Outcome:
    """An identity with its files, and what was or would be done about it, in words."""

    identity: Identity
    pki: dict[str, str]
    done: list[str]


def ensure(
    path: Path,
    cluster_name: str,
    initial_node: str,
    *,
    begun: bool = False,
    fixed: Mapping[str, str] = MappingProxyType({}),
    check_mode: bool,
) -> Outcome:
    """Make the identity in *path* or read it; record what is new, *fixed* until it has begun.

    *initial_node* "", *begun* False and *fixed* {} leave what is recorded as it is. In check mode
    nothing is written, and a missing identity is made up for the answer.
    Raises `KubewrightError` when *path* is another cluster's, incomplete, or says otherwise.
    """
    with _locked(path.parent, check_mode):
        if not path.exists() or (path.is_dir() and not any(path.iterdir())):
            now = datetime.datetime.now(datetime.UTC)
            created = now.isoformat(timespec="seconds")
            identity = Identity(
                str(uuid.uuid4()), cluster_name, created, initial_node, begun, dict(fixed)
            )
            pki = _pki.control_plane_pki(now)
            if not check_mode:
                _write(path, identity, pki)
            return Outcome(identity, pki, ["made the cluster's identity"])
        identity, pki = read(path)
        done = []
        if identity.cluster_name != cluster_name:
            raise KubewrightError(
                f"{path} is the identity of cluster {identity.cluster_name!r}, not of "
                f"{cluster_name!r}. Name another directory; a cluster keeps its name."
            )
        if initial_node and identity.initial_node not in ("", initial_node):
            raise KubewrightError(
                f"{identity.initial_node} is recorded in {path} as the node that starts cluster "
                f"{cluster_name!r}, and now {initial_node} was named. Two nodes that start would "
                f"be two clusters: go on with {identity.initial_node}. If it is lost and the "
                f"cluster never came up, remove {path} and every node's part of it."
            )
        for name, value in fixed.items():
            old = identity.fixed.get(name, value)
            if identity.begun and old != value:
                raise KubewrightError(
                    f"{name} was {old} when cluster {cluster_name!r} was made, and now it is "
                    f"{value}. A cluster that is there keeps it: write {old} again, or make "
                    "another one."
                )
        known = replace(
            identity,
            initial_node=identity.initial_node or initial_node,
            begun=identity.begun or begun,
            fixed={**identity.fixed, **fixed},
        )
        if known.initial_node != identity.initial_node:
            done.append(f"recorded {initial_node} as the initial node")
        if known.begun != identity.begun:
            done.append("recorded that the cluster has begun")
        if known.fixed != identity.fixed:
            done.append(f"recorded {', '.join(sorted(known.fixed))}")
        if known != identity:
            identity = known
            if not check_mode:
                _atomic.write_file(path / DOCUMENT, _document(identity), mode=0o600)
        if _tighten(path, check_mode):
            done.append("closed the directory to other users")
        return Outcome(identity, pki, done)


def read(path: Path) -> tuple[Identity, dict[str, str]]:
    """The identity in *path* and its PEM files by path under ``pki``."""
    try:
        document = json.loads((path / DOCUMENT).read_text("utf-8"))
        identity = Identity(
            cluster_id=str(document["cluster_id"]),
            cluster_name=str(document["cluster_name"]),
            created_at=str(document["created_at"]),
            initial_node=str(document["initial_node"]),
            begun=bool(document.get("begun")),
            fixed={str(name): str(value) for name, value in document.get("fixed", {}).items()},
        )
        pki = {name: (path / "pki" / name).read_text("ascii") for name in file_names()}
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise KubewrightError(
            f"{path} is not a complete cluster identity ({type(error).__name__}: {error}). "
            "Restore it from a backup: new authorities would not be trusted by the cluster. For a "
            "new cluster name an empty directory."
        ) from error
    return identity, pki


def file_names() -> list[str]:
    """All files under ``pki``."""
    pairs = [f"{name}{suffix}" for name in _pki.AUTHORITIES for suffix in (".crt", ".key")]
    return [*pairs, "sa.key", "sa.pub"]


def _write(path: Path, identity: Identity, pki: dict[str, str]) -> None:
    staging = _atomic.temporary_for(path)
    shutil.rmtree(staging, ignore_errors=True)
    directories = sorted({staging, *((staging / "pki" / name).parent for name in pki)})
    for directory in directories:
        directory.mkdir(mode=0o700)
    for name, content in pki.items():
        mode = 0o644 if name.endswith(PUBLIC) else 0o600
        target = staging / "pki" / name
        _atomic.write_file(target, content.encode(), mode=mode, sync_directory=False)
    _atomic.write_file(staging / DOCUMENT, _document(identity), mode=0o600)
    _atomic.fsync_directories(directories)
    staging.rename(path)
    _atomic.fsync_directory(path.parent)


def _document(identity: Identity) -> bytes:
    return (json.dumps({"schema": 1, **asdict(identity)}, indent=1) + "\n").encode()


def _tighten(path: Path, check_mode: bool) -> bool:
    """Take other users' rights away from directories and keys; True when there were any."""
    secret = [path / DOCUMENT, *(path / "pki" / n for n in file_names() if not n.endswith(PUBLIC))]
    changed = False
    for entry in [path, path / "pki", path / "pki" / "etcd", *secret]:
        mode = stat.S_IMODE(entry.stat().st_mode)
        if mode & 0o077:
            changed = True
            if not check_mode:
                entry.chmod(mode & 0o700)
    return changed


@contextlib.contextmanager
def _locked(directory: Path, check_mode: bool) -> Iterator[None]:
    if check_mode:
        yield
        return
    _atomic.make_directories(directory, 0o700)
    fd = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        if not _fence.flock_within(fd, LOCK_SECONDS):
            raise KubewrightError(
                f"{directory} was locked by another process for more than {LOCK_SECONDS:g} s. "
                "Another run is making this cluster's identity: run again when it is done."
            )
        yield
    finally:
        os.close(fd)
