# Copyright: the Kubewright authors
# Apache License 2.0 (see LICENSE or https://www.apache.org/licenses/LICENSE-2.0)
"""Private to kubewright.cluster: labels and taints of a Node. Pure.

What others have added is left alone; what is desired is kept.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

Taint = Mapping[str, Any]


def reasons(
    live: Mapping[str, Any], labels: Mapping[str, str], taints: Sequence[Taint]
) -> list[str]:
    """What the Node *live* lacks, in words."""
    has = live["metadata"].get("labels") or {}
    found = [
        f"label {name} is missing"
        if name not in has
        else f"label {name} is {has[name]!r} instead of {value!r}"
        for name, value in sorted(labels.items())
        if has.get(name) != value
    ]
    return found + [f"taint {_key(taint)} is missing" for taint in missing_taints(live, taints)]


def missing_taints(live: Mapping[str, Any], taints: Sequence[Taint]) -> list[Taint]:
    """Those of *taints* that the Node lacks; a value that differs counts as lacking."""
    has = live["spec"].get("taints") or []
    return [taint for taint in taints if not any(_same(taint, other) for other in has)]


def patch(
    live: Mapping[str, Any], labels: Mapping[str, str], taints: Sequence[Taint]
) -> dict[str, Any]:
    """A JSON merge patch that gives the Node what it lacks; refused if the Node has changed."""
    missing = missing_taints(live, taints)
    kept = [
        taint
        for taint in live["spec"].get("taints") or []
        if _key(taint) not in {_key(other) for other in missing}
    ]
    body: dict[str, Any] = {
        "metadata": {
            "labels": dict(labels),
            "resourceVersion": live["metadata"]["resourceVersion"],
        }
    }
    if missing:
        body["spec"] = {"taints": [*kept, *(dict(taint) for taint in missing)]}
    return body


def _key(taint: Taint) -> str:
    return f"{taint['key']}:{taint['effect']}"


def _same(one: Taint, other: Taint) -> bool:
    return _key(one) == _key(other) and (one.get("value") or "") == (other.get("value") or "")
