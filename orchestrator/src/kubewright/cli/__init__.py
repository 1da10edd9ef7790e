# SPDX-License-Identifier: Apache-2.0
"""The command ``kubewright``."""

from __future__ import annotations

from kubewright.cli.app import main

__all__ = ["main"]
