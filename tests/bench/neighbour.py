# SPDX-License-Identifier: Apache-2.0
"""What the tests on a real cluster have for making, waiting and asking, for use here too."""

from __future__ import annotations

import sys
from pathlib import Path

sys.path.append(str(Path(__file__).resolve().parents[1] / "integration"))

from cluster import APPLY_LIMIT, COMMAND, REPOSITORY, VERSION, Cluster, Running
from kube import Kube
from waiting import NotYet, TimedOut, until

__all__ = [
    "APPLY_LIMIT",
    "COMMAND",
    "REPOSITORY",
    "VERSION",
    "Cluster",
    "Kube",
    "NotYet",
    "Running",
    "TimedOut",
    "until",
]
