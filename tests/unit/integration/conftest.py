# SPDX-License-Identifier: Apache-2.0
"""Tools of the integration tests lie beside them, and are no package."""

from __future__ import annotations

import sys
from pathlib import Path

sys.path.append(str(Path(__file__).resolve().parents[2] / "integration"))
