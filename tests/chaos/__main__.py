# SPDX-License-Identifier: Apache-2.0
"""``python tests/chaos``: an ``apply`` that was killed at any point is finished by the next one."""

from __future__ import annotations

import sys
from pathlib import Path

if __name__ == "__main__":
    # What makes and asks clusters is that of the integration tests.
    sys.path.append(str(Path(__file__).resolve().parents[1] / "integration"))
    from campaign import main

    sys.exit(main(sys.argv[1:]))
