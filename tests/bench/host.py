# SPDX-License-Identifier: Apache-2.0
"""The machine that the numbers are of, in what matters to them and says nothing of whose it is."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

_CGROUPS = Path("/sys/fs/cgroup")


def described() -> dict[str, Any]:
    """Return cores that may be used, memory in GB (10^9 bytes), kernel, cgroup version."""
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    return {
        "cores": len(os.sched_getaffinity(0)),
        "memory_gb": round(memory / 1e9),
        "kernel": os.uname().release.partition("-")[0],
        # Only the root of a version 2 hierarchy has this file; see cgroups(7).
        "cgroup": 2 if (_CGROUPS / "cgroup.controllers").exists() else 1,
    }
