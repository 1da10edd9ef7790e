# SPDX-License-Identifier: Apache-2.0
"""From the version in the file to a patch release: the cluster's own, or one of the catalogue.

A cluster that is there keeps its release. So where the file says "1.37", the newest one of the
catalogue counts for the first apply alone; afterwards the one that the cluster runs does.
"""

from __future__ import annotations

from kubewright.agreed import identity
from kubewright.image import releases
from kubewright.image.errors import ImageError
from kubewright.locations import ClusterPaths
from kubewright.spec.models import Spec
from kubewright.spec.rules import Unresolved


def release(spec: Spec) -> str:
    """Return the patch release of a cluster, such as "1.37.2".

    :raises Unresolved: neither the cluster nor the catalogue has one that the file means.
    """
    return resolve(spec.version, spec.name)


def begun_with(cluster: str) -> str:
    """Return the patch release that a cluster of this name was begun with; empty where none was."""
    return _recorded(ClusterPaths.of(cluster))


def newer(spec: Spec) -> str:
    """Return the newest patch release that the file would mean for a new cluster, such as "1.37.3".

    Empty when it is the one that the cluster has.
    """
    known = release(spec)
    if spec.version == known:
        return ""
    try:
        newest = _of_catalogue(spec.version)
    except Unresolved:
        return ""
    return newest if _order(newest) > _order(known) else ""


def resolve(version: str, cluster: str) -> str:
    """Return the patch release that "1.37" or "1.37.2" means for a cluster, such as "1.37.2".

    ``cluster``: its name, or nothing where it has none that could be one.

    :raises Unresolved: neither the cluster nor the catalogue has one.
    """
    recorded = _recorded(ClusterPaths.of(cluster)) if cluster else ""
    if recorded and (recorded == version or recorded.startswith(f"{version}.")):
        return recorded
    return _of_catalogue(version)


def _order(version: str) -> tuple[int, ...]:
    return tuple(int(number) for number in version.split("."))


def _recorded(paths: ClusterPaths) -> str:
    """Return the release that a cluster was begun with; empty where none was, or nobody knows.

    An identity that can't be read ends the run itself.
    """
    kept = identity.recorded(paths.identity)
    begun = kept is not None and (kept.begun or kept.initial_node)
    return kept.fixed.get("version", "") if kept and begun else ""


def _of_catalogue(version: str) -> str:
    try:
        return releases.packaged().resolve(version)
    except ImageError as error:
        # Its texts are sentences; a problem's are parts of one.
        message = error.message.rstrip(".").replace("Kubernetes ", "Kubernetes version ", 1)
        raise Unresolved(message, error.remedy.rstrip(".")) from error
