# Copyright: the Kubewright authors
# Apache License 2.0 (see LICENSE or https://www.apache.org/licenses/LICENSE-2.0)
"""Which control plane acts for the cluster in a run: elected, never "the first one". Pure."""

from __future__ import annotations

from ansible_collections.kubewright.cluster.plugins.module_utils._base.errors import KubewrightError
from ansible_collections.kubewright.cluster.plugins.module_utils._decide.situation import Situation


def actor(situation: Situation) -> str:
    """Its name. Raises `KubewrightError` where nobody can act, with what to do.

    It is one whose API server is ready, else one that has to have its certificates renewed before
    it can be; where no cluster exists yet, the node on record, else the first by name. A cluster is
    never initialized a second time: where the node on record does not answer and nobody else has
    joined, that is an error.
    """
    nodes = sorted(situation.control_planes, key=lambda node: node.name)
    names = ", ".join(node.name for node in nodes)
    initial_node = situation.initial_node
    if not nodes:
        raise KubewrightError(
            "No control plane answers. Power one on, or check SSH to it. With --limit, "
            "include a control plane: one of them acts for the cluster."
        )
    joined = [node for node in nodes if node.joined]
    if ready := [node.name for node in joined if node.api_ready]:
        return ready[0]
    if expired := [node.name for node in joined if not node.serves]:
        return expired[0]
    if joined:
        raise KubewrightError(
            f"No API server is ready on {', '.join(node.name for node in joined)}. More than "
            "half of the control planes must be on: check the others, then see `crictl ps "
            "-a` and `journalctl -u kubelet` there."
        )
    if situation.begun:
        raise KubewrightError(
            f"The cluster exists, but no longer includes {names}, which "
            "was lost or reinstalled. Repair another control plane, or restore etcd from a "
            "backup. To start over, destroy the cluster."
        )
    if not initial_node:
        return nodes[0].name
    if initial_node not in {node.name for node in nodes}:
        raise KubewrightError(
            f"The cluster was initialized on {initial_node}, which does not answer, and no other "
            f"control plane has joined. Power {initial_node} on, or destroy the cluster to start "
            "over."
        )
    return initial_node
