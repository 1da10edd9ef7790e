# SPDX-License-Identifier: Apache-2.0
"""What the orchestrator remembers of a cluster: lock, epoch, journal, logs of runs."""

from __future__ import annotations

from kubewright.store.epoch import StoreError, next_epoch
from kubewright.store.journal import Journal, Started
from kubewright.store.lock import Holder, Lock, Locked

__all__ = ["Holder", "Journal", "Lock", "Locked", "Started", "StoreError", "next_epoch"]
