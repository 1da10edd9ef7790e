# SPDX-License-Identifier: Apache-2.0
"""The state of the cluster that a file means, and of no other that is called the same."""

from __future__ import annotations

from pathlib import Path

from kubewright.cli.output import Output
from kubewright.locations import ClusterPaths
from kubewright.spec import Spec
from kubewright.store.ownership import require_own


def own_state(spec: Spec, file: Path, out: Output | None = None) -> ClusterPaths:
    """Return the paths of the state; tells ``out`` when it has changed its owner.

    :raises kubewright.store.ownership.ForeignState: it is another file's.
    """
    paths = ClusterPaths.of(spec.name)
    told = require_own(paths, spec.name, file)
    if told and out is not None:
        out.note(told, style="yellow")
    return paths
