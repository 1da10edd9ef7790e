# SPDX-License-Identifier: Apache-2.0
"""The command ``kubewright``."""

from __future__ import annotations

import sys
from typing import NoReturn


def main() -> NoReturn:
    """Run the command, and exit with its code."""
    from kubewright.collection import CollectionError

    try:
        from kubewright.cli.app import main as run
    except CollectionError as error:
        # Of the package itself: no command can be read yet.
        sys.exit(f"kubewright: {error}")
    run()
