# SPDX-License-Identifier: Apache-2.0
"""``python -m kubewright``."""

from __future__ import annotations

from kubewright.cli import main

if __name__ == "__main__":
    main()
