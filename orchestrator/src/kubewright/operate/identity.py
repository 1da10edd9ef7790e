# SPDX-License-Identifier: Apache-2.0
"""The cluster's CAs and keys as one document, for runs that keep no files (AWX)."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from kubewright.act import Result
from kubewright.agreed import KubewrightError, bundle, identity
from kubewright.locations import ClusterPaths
from kubewright.operate.cluster import Cluster
from kubewright.operate.errors import OperationError
from kubewright.operate.run import run, session
from kubewright.operate.watch import Watch

PLAYBOOK = "kubewright.cluster.identity"


def make(cluster: Cluster, watch: Watch) -> Result:
    """Make it before the cluster's first run. Where it is there already, nothing is done."""
    with session(cluster, "identity make", watch) as opened:
        return run(opened, cluster, watch, PLAYBOOK, {})


def record_begun(cluster: Cluster, watch: Watch) -> dict[str, Any]:
    """Record where the identity lies that the cluster is initialized; return the bundle then."""
    with session(cluster, "identity export", watch):
        kept, pki = _read(cluster.paths)
        begun = replace(kept, begun=True)
        if begun != kept:
            identity.record(cluster.paths.identity, begun)
        return bundle.compose(begun, pki)


def read(paths: ClusterPaths) -> dict[str, Any]:
    """Return the bundle of the identity that lies on this machine.

    :raises OperationError: there is none, or it is not whole.
    """
    return bundle.compose(*_read(paths))


def _read(paths: ClusterPaths) -> tuple[identity.Identity, dict[str, str]]:
    if not paths.identity.is_dir():
        raise OperationError(
            f"there is no identity in {paths.identity}",
            remedy="Create it with 'kubewright identity make' or 'kubewright apply'.",
        )
    try:
        return identity.read(paths.identity)
    except KubewrightError as error:
        raise OperationError(str(error)) from error
