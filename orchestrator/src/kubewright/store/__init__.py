# SPDX-License-Identifier: Apache-2.0
"""What the orchestrator remembers of a cluster: lock, epoch, journal, logs of runs."""

from __future__ import annotations

from kubewright.store.epoch import StoreError, next_epoch
from kubewright.store.journal import Journal, Started
from kubewright.store.lease import Holder, Lease
from kubewright.store.lock import LEASE_SECONDS, Lock, Locked, Overtaken

__all__ = [
    "LEASE_SECONDS",
    "Holder",
    "Journal",
    "Lease",
    "Lock",
    "Locked",
    "Overtaken",
    "Started",
    "StoreError",
    "next_epoch",
]
