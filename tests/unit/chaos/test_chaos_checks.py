# SPDX-License-Identifier: Apache-2.0
"""What is looked at after a repair."""

from __future__ import annotations

from datetime import timedelta

import checks
import pytest
from cluster import Ended


def test_when_all_nodes_had_answered() -> None:
    said = "[ 0:04] Probe the nodes\n[ 1:07] Probe the nodes: 63 s, 4 hosts\n[ 1:08] Join\n"
    assert checks.probed(Ended(0, "", said, 90.0)) == timedelta(seconds=67)


def test_a_repair_without_a_probe_is_none() -> None:
    with pytest.raises(AssertionError, match="Probe the nodes"):
        checks.probed(Ended(0, "", "[ 0:04] Probe the nodes\n", 90.0))
