# SPDX-License-Identifier: Apache-2.0
"""The cluster's CAs and keys as one document, for runs that keep no files (AWX)."""

from __future__ import annotations

import json
from typing import Any

from kubewright.act import Result
from kubewright.locations import ClusterPaths
from kubewright.operate.cluster import Cluster
from kubewright.operate.errors import OperationError
from kubewright.operate.run import run, session
from kubewright.operate.watch import Watch
from kubewright.store.files import replace

PLAYBOOK = "kubewright.cluster.identity"
#: The form of the bundle; ``_cluster.bundle`` of the collection reads it.
FORM = 1
#: What an identity has below ``pki``, named as kubeadm does (``_cluster.identity`` there).
FILES = (
    "ca.crt",
    "ca.key",
    "etcd/ca.crt",
    "etcd/ca.key",
    "front-proxy-ca.crt",
    "front-proxy-ca.key",
    "sa.key",
    "sa.pub",
)


def make(cluster: Cluster, watch: Watch) -> Result:
    """Make it before the cluster's first run. Where it is there already, nothing is done."""
    with session(cluster, "identity make", watch) as opened:
        return run(opened, cluster, watch, PLAYBOOK, {})


def record_begun(cluster: Cluster, watch: Watch) -> dict[str, Any]:
    """Record where the identity lies that the cluster is initialized; return the bundle then."""
    with session(cluster, "identity export", watch):
        bundle = read(cluster.paths)
        recorded = bundle["cluster"]
        if not recorded.get("begun"):
            recorded["begun"] = True
            text = json.dumps(recorded, indent=1) + "\n"
            replace(cluster.paths.identity / "cluster.json", text)
        return bundle


def read(paths: ClusterPaths) -> dict[str, Any]:
    """Return the bundle of the identity that lies on this machine.

    :raises OperationError: there is none, it can't be read, or it is not whole.
    """
    if not paths.identity.is_dir():
        raise OperationError(
            f"there is no identity in {paths.identity}",
            remedy="'kubewright identity make' makes it; 'kubewright apply' does so too.",
        )
    try:
        cluster = json.loads((paths.identity / "cluster.json").read_text(encoding="utf-8"))
        pki = {name: (paths.pki / name).read_text(encoding="ascii") for name in FILES}
    except FileNotFoundError as error:
        raise _not_whole(paths, f"it lacks {error.filename}") from error
    except ValueError as error:
        raise OperationError(
            f"the identity in {paths.identity} can't be read: {error}",
            remedy="Bring it back from a copy.",
        ) from error
    if not isinstance(cluster, dict):
        raise _not_whole(paths, "cluster.json holds no object")
    return {"kubewright_identity": FORM, "cluster": cluster, "pki": pki}


def _not_whole(paths: ClusterPaths, why: str) -> OperationError:
    return OperationError(
        f"the identity in {paths.identity} is not whole: {why}",
        remedy="Wait for a run that is under way, or bring it back from a copy.",
    )
