# SPDX-License-Identifier: Apache-2.0
"""The benchmark's modules lie beside it, and it is no package."""

from __future__ import annotations

import sys
from pathlib import Path

TESTS = Path(__file__).resolve().parents[2]
sys.path += [str(TESTS / "bench"), str(TESTS / "integration")]
