# SPDX-License-Identifier: Apache-2.0
"""Kubewright: highly available Kubernetes on machines you own, from one file."""

from __future__ import annotations

__version__ = "0.1.0"
