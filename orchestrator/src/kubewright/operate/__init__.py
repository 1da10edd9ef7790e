# SPDX-License-Identifier: Apache-2.0
"""The use cases: one function per operation on a cluster. For cli, and later a daemon.

They print nothing and ask nothing: the caller passes a :class:`Watch`, which is told about
progress, and gets data back.
"""

from __future__ import annotations

from kubewright.operate.agreement import Agreement
from kubewright.operate.cluster import Cluster
from kubewright.operate.errors import OperationError, Why
from kubewright.operate.look import Look
from kubewright.operate.watch import Watch

__all__ = ["Agreement", "Cluster", "Look", "OperationError", "Watch", "Why"]
