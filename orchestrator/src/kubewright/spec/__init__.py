# SPDX-License-Identifier: Apache-2.0
"""What the user wants: cluster.yml, checked, and the inventory that it means."""

from __future__ import annotations

from kubewright.spec.errors import Problem, SpecError
from kubewright.spec.loading import load
from kubewright.spec.models import ControlPlane, Pool, Spec, json_schema

__all__ = ["ControlPlane", "Pool", "Problem", "Spec", "SpecError", "json_schema", "load"]
