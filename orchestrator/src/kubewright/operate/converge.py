# SPDX-License-Identifier: Apache-2.0
"""Make the cluster, or bring it back to what its file says."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from kubewright.act import Result
from kubewright.image.builder import build
from kubewright.image.index import ROLES, Image
from kubewright.operate.agreement import Agreement
from kubewright.operate.cluster import Cluster
from kubewright.operate.errors import OperationError, Why
from kubewright.operate.look import SITE
from kubewright.operate.run import run, session
from kubewright.operate.watch import Watch
from kubewright.spec.version import begun_with
from kubewright.store import images

#: Lets a new cluster begin without nodes that do not answer (playbooks/site.yml).
SKIP_UNREACHABLE = "kubewright_skip_unreachable"


@dataclass(frozen=True)
class Converged:
    """What came of it, and the epoch that was taken for it."""

    result: Result
    epoch: int


def converge(
    cluster: Cluster,
    watch: Watch,
    *,
    agreement: Agreement | None = None,
    extra_vars: Mapping[str, Any],
) -> Converged:
    """Build the images that are missing, then run all plays. Never removes a machine.

    ``agreement``: what the user has seen and said yes to. The cluster is held for the plays alone,
    since a build takes minutes.

    :raises kubewright.operate.errors.OperationError: it is not what they agreed to any more, or it
        would have to be upgraded.
    """
    _require_own_release(cluster)
    made = _build_images(cluster, watch)
    with session(cluster, "apply", watch) as opened:
        if agreement:
            agreement.require_unchanged(opened.newest)
        images.note(cluster.paths.images, (image.digest for image in made), only=True)
        epoch = opened.next_epoch()
        result = run(opened, cluster, watch, SITE, {"kubewright_epoch": epoch, **extra_vars})
    return Converged(result, epoch)


def _require_own_release(cluster: Cluster) -> None:
    """The run refuses it too, and would do so only when the images of another one are built."""
    own = begun_with(cluster.name)
    if own not in ("", cluster.release):
        raise OperationError(
            f"{cluster.file} asks for Kubernetes {cluster.release}, but {cluster.name} runs "
            f"{own}: Kubewright can't upgrade a cluster yet",
            why=Why.REFUSED,
            remedy=f"Set the version back to {own}, or create another cluster. Nothing was "
            "changed.",
        )


def _build_images(cluster: Cluster, watch: Watch) -> list[Image]:
    """Build the system images that are not in the store: minutes at first, nothing later."""
    with watch.building() as line:
        return build(cluster.release, ROLES, lambda step, _: line(step))
