# SPDX-License-Identifier: Apache-2.0
"""The cluster that a command is for."""

from __future__ import annotations

from pathlib import Path

from kubewright.cli.output import Output
from kubewright.operate import Cluster
from kubewright.spec import Spec


def opened(spec: Spec, file: Path, out: Output) -> Cluster:
    """Return the cluster of a file that was read; tells ``out`` when its state changed its owner.

    :raises kubewright.store.ownership.ForeignState: the state is another file's.
    """
    cluster = Cluster.of(spec, file)
    if cluster.told:
        out.note(cluster.told, style="yellow")
    return cluster
