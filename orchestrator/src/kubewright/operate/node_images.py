# SPDX-License-Identifier: Apache-2.0
"""List, install, activate, roll back and collect the system images on nodes."""

from __future__ import annotations

from collections.abc import Sequence
from enum import Enum
from typing import Any

from kubewright.act import Result
from kubewright.operate.cluster import Cluster
from kubewright.operate.run import run, session
from kubewright.operate.wanted import Choice
from kubewright.operate.watch import Watch
from kubewright.store import images


class Work(Enum):
    """What is done, by the name of its playbook."""

    LIST = "list"
    INSTALL = "install"
    ACTIVATE = "activate"
    ROLLBACK = "rollback"
    COLLECT = "gc"


def on_nodes(
    work: Work, cluster: Cluster, watch: Watch, nodes: Sequence[str], choice: Choice | None = None
) -> Result:
    """Do it on nodes; note which images they are given. ``choice``: which images are meant."""
    operation, reads = f"node image {work.value}", work is Work.LIST
    with session(cluster, operation, watch, reads=reads) as opened:
        told: dict[str, Any] = {"kubewright_target": ",".join(nodes)}
        if not reads:
            told["kubewright_epoch"] = opened.next_epoch()
        if choice:
            told["kubewright_wanted_images"] = choice.variables
            images.note(cluster.paths.images, choice.digests)
        return run(opened, cluster, watch, f"kubewright.cluster.node_image_{work.value}", told)
