# Copyright: the Kubewright authors
# Apache License 2.0 (see LICENSE or https://www.apache.org/licenses/LICENSE-2.0)
"""A cluster's identity is made, unpacked, and what is new is recorded in it.

The directory is made beside its place and renamed when it is complete and on disk. It is never
repaired: CAs that are made again would be a different cluster.
"""

from __future__ import annotations

import datetime
import shutil
import stat
import uuid
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from types import MappingProxyType

from ansible_collections.kubewright.cluster.plugins.module_utils._base import atomic
from ansible_collections.kubewright.cluster.plugins.module_utils._base.errors import KubewrightError
from ansible_collections.kubewright.cluster.plugins.module_utils._cluster import state
from ansible_collections.kubewright.cluster.plugins.module_utils._cluster.identity import (
    DOCUMENT,
    PKI,
    PUBLIC,
    Identity,
    document,
    file_names,
    read,
    record,
)
from ansible_collections.kubewright.cluster.plugins.module_utils._cluster.pki import (
    control_plane_pki,
)


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
    brought: tuple[Identity, dict[str, str]] | None = None,
    check_mode: bool,
) -> Outcome:
    """Make the identity in *path* or read it; record what is new, *fixed* until it has begun.

    *initial_node* "", *begun* False and *fixed* {} leave what is recorded as it is. *brought*: an
    identity from elsewhere, with its files, that takes the place of a missing one; beside one that
    is there it has to be the same, and what only it knows is recorded. In check mode nothing is
    written, and a missing identity is made up for the answer.
    Raises `KubewrightError` when *path* is another cluster's, incomplete, or says otherwise.
    """
    with state.locked(path.parent, check_mode):
        missing = not path.exists() or (path.is_dir() and not any(path.iterdir()))
        if missing and brought is None:
            now = datetime.datetime.now(datetime.timezone.utc)
            created = now.isoformat(timespec="seconds")
            identity = Identity(
                str(uuid.uuid4()), cluster_name, created, initial_node, begun, dict(fixed)
            )
            pki = control_plane_pki(now)
            if not check_mode:
                _write(path, identity, pki)
            return Outcome(identity, pki, ["created the cluster's identity"])
        identity, pki = brought if missing and brought is not None else read(path)
        done = ["unpacked the cluster's identity"] if missing else []
        source = "What was given" if missing else str(path)
        held = identity
        if not missing and brought is not None:
            _require_same(path, identity, pki, *brought)
            held = _joined(identity, brought[0])
        if identity.cluster_name != cluster_name:
            other = "identity" if missing else "directory"
            raise KubewrightError(
                f"{source} is the identity of cluster {identity.cluster_name!r}, "
                f"not of {cluster_name!r}. Give another {other}; a cluster can't be renamed."
            )
        if initial_node and held.initial_node not in ("", initial_node):
            raise KubewrightError(
                f"{held.initial_node} is recorded in {path} as the node that initializes cluster "
                f"{cluster_name!r}, but now {initial_node} was named. Initializing two nodes would "
                f"create two clusters: continue with {held.initial_node}. If that node is lost and "
                f"the cluster never came up, remove {path} and reset every node."
            )
        known = _with_records(held, initial_node, begun, fixed)
        done += _recorded(identity, known)
        if not check_mode and missing:
            _write(path, known, pki)
        elif not check_mode and known != identity:
            record(path, known)
        if not missing and _tighten(path, check_mode):
            done.append("closed the directory to other users")
        return Outcome(known, pki, done)


def _require_same(
    path: Path, here: Identity, pki: dict[str, str], brought: Identity, files: dict[str, str]
) -> None:
    """Refuse an identity that was given beside another one: which of the two counts is unknown."""
    if brought.cluster_id != here.cluster_id:
        raise KubewrightError(
            f"{path} is cluster {here.cluster_id}, but the given identity is "
            f"cluster {brought.cluster_id}. Give this cluster's identity, or none; "
            "or use another state directory."
        )
    differing = sorted(name for name in pki if pki[name].split() != files[name].split())
    if differing:
        raise KubewrightError(
            f"The given identity has the id of the cluster in {path}, but other keys "
            f"({', '.join(differing)}). The nodes trust only one of the two: compare ca.crt with "
            "/etc/kubernetes/pki/ca.crt on a control plane, and give only the right one."
        )
    if here.initial_node and brought.initial_node not in ("", here.initial_node):
        raise KubewrightError(
            f"{here.initial_node} is recorded in {path} as the node that initializes "
            f"cluster {here.cluster_name!r}, but the given identity names {brought.initial_node}. "
            "Initializing two nodes would create two clusters: give the identity "
            "that names the right node."
        )


def _joined(here: Identity, brought: Identity) -> Identity:
    """What two records of one cluster know together. What is fixed is what a begun one says."""
    older, newer = (here, brought) if brought.begun and not here.begun else (brought, here)
    return replace(
        here,
        initial_node=here.initial_node or brought.initial_node,
        begun=here.begun or brought.begun,
        fixed={**older.fixed, **newer.fixed},
    )


def _with_records(
    identity: Identity, initial_node: str, begun: bool, fixed: Mapping[str, str]
) -> Identity:
    """The identity with what is new. Refuses to change what is fixed."""
    for name, value in fixed.items():
        old = identity.fixed.get(name, value)
        if identity.begun and old != value:
            raise KubewrightError(
                f"{name} was {old} when cluster {identity.cluster_name!r} was created, but "
                f"now it is {value}. It can't be changed later: set it back to {old}, "
                "or create another cluster."
            )
    return replace(
        identity,
        initial_node=identity.initial_node or initial_node,
        begun=identity.begun or begun,
        fixed={**identity.fixed, **fixed},
    )


def _recorded(identity: Identity, known: Identity) -> list[str]:
    """In words what is *known* and was not in the *identity*."""
    done = []
    if known.initial_node != identity.initial_node:
        done.append(f"recorded {known.initial_node} as the initial node")
    if known.begun != identity.begun:
        done.append("recorded that the cluster is initialized")
    if known.fixed != identity.fixed:
        done.append(f"recorded {', '.join(sorted(known.fixed))}")
    return done


def _write(path: Path, identity: Identity, pki: dict[str, str]) -> None:
    staging = atomic.temporary_for(path)
    shutil.rmtree(staging, ignore_errors=True)
    directories = sorted({staging, *((staging / PKI / name).parent for name in pki)})
    for directory in directories:
        directory.mkdir(mode=0o700)
    for name, content in pki.items():
        mode = 0o644 if name.endswith(PUBLIC) else 0o600
        target = staging / PKI / name
        atomic.write_file(target, content.encode(), mode=mode, sync_directory=False)
    atomic.write_file(staging / DOCUMENT, document(identity), mode=0o600)
    atomic.fsync_directories(directories)
    staging.rename(path)
    atomic.fsync_directory(path.parent)


def _tighten(path: Path, check_mode: bool) -> bool:
    """Take other users' rights away from directories and keys; True when there were any."""
    secret = [path / DOCUMENT, *(path / PKI / n for n in file_names() if not n.endswith(PUBLIC))]
    changed = False
    for entry in [path, path / PKI, path / PKI / "etcd", *secret]:
        mode = stat.S_IMODE(entry.stat().st_mode)
        if mode & 0o077:
            changed = True
            if not check_mode:
                entry.chmod(mode & 0o700)
    return changed
