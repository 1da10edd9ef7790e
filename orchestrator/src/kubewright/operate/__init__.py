# SPDX-License-Identifier: Apache-2.0
"""The use cases: one function for each thing that can be done with a cluster.

The command and the daemon call them. They print nothing and ask nobody: who calls gives a
:class:`Watch`, which is told how it goes, and gets data back.
"""

from __future__ import annotations

from kubewright.operate.agreement import Agreement
from kubewright.operate.cluster import Cluster
from kubewright.operate.errors import OperationError, Why
from kubewright.operate.look import Look
from kubewright.operate.watch import Watch

__all__ = ["Agreement", "Cluster", "Look", "OperationError", "Watch", "Why"]
