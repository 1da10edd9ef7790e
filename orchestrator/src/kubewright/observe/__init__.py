# SPDX-License-Identifier: Apache-2.0
"""What is: one immutable snapshot of a cluster, read directly and never changed by reading."""

from __future__ import annotations

from kubewright.observe.control_plane import living_control_plane
from kubewright.observe.credentials import CredentialsError, pointed_at, read_kubeconfig
from kubewright.observe.health import troubles, warnings
from kubewright.observe.model import (
    ApiServer,
    Condition,
    Etcd,
    EtcdMember,
    Finding,
    Node,
    Report,
    Snapshot,
)
from kubewright.observe.snapshot import take

__all__ = [
    "ApiServer",
    "Condition",
    "CredentialsError",
    "Etcd",
    "EtcdMember",
    "Finding",
    "Node",
    "Report",
    "Snapshot",
    "living_control_plane",
    "pointed_at",
    "read_kubeconfig",
    "take",
    "troubles",
    "warnings",
]
