# SPDX-License-Identifier: Apache-2.0
"""The command ``kubewright``."""

from __future__ import annotations


def main() -> None:
    """Entry point of the command."""
    raise SystemExit("not implemented yet")
