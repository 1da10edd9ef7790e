# SPDX-License-Identifier: Apache-2.0
"""The modules of tests/chaos, importable, and a recording of a small run."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest

CHAOS = Path(__file__).resolve().parents[2] / "chaos"
sys.path.insert(0, str(CHAOS))
sys.path.append(str(CHAOS.parent / "integration"))


def line(role: str, task: str, host: str, began: float, occurrence: int = 1) -> str:
    return json.dumps(
        {
            "role": role,
            "task": task,
            "play": "Play",
            "host": host,
            "occurrence": occurrence,
            "began": began,
            "seconds": 10.0,
        }
    )


@pytest.fixture
def recording() -> str:
    """Four points in the order Make, Mount, Start, Publish; each with another set of hosts."""
    lines = [
        line("volume", "Mount it", "web-1", 21.0),
        line("volume", "Mount it", "cp-1", 20.0),
        line("machines", "Make it", "cp-1", 10.0),
        line("control_plane", "Start it", "cp-1", 31.0, occurrence=2),
        line("control_plane", "Start it", "cp-1", 30.0),
        line("", "Publish it", "localhost", 40.0),
    ]
    return "\n".join(lines) + "\n"
