# SPDX-License-Identifier: Apache-2.0
"""What the orchestrator remembers of a cluster: lock, epoch, journal, logs of runs."""

from __future__ import annotations

from kubewright.store.epoch import StoreError, next_epoch
from kubewright.store.journal import Journal, Started
from kubewright.store.lock import Lock, Locked, Overtaken

__all__ = [
    "Journal",
    "Lock",
    "Locked",
    "Overtaken",
    "Started",
    "StoreError",
    "next_epoch",
]
