# Copyright: the Kubewright authors
# Apache License 2.0 (see LICENSE or https://www.apache.org/licenses/LICENSE-2.0)
"""Run node_claim on the node, which has a limit there and here."""

from __future__ import annotations

from ansible_collections.kubewright.cluster.plugins.plugin_utils._on_node import NodeAction


class ActionModule(NodeAction):
    """One remote call."""
