# SPDX-License-Identifier: Apache-2.0
"""What an apply would do to which node, and why. Pure. For operate and cli."""

from __future__ import annotations

from kubewright.plan.answers import Answer
from kubewright.plan.decide import NodePlan, Plan, State, Step, decide

__all__ = ["Answer", "NodePlan", "Plan", "State", "Step", "decide"]
