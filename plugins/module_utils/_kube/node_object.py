# Copyright: the Kubewright authors
# Apache License 2.0 (see LICENSE or https://www.apache.org/licenses/LICENSE-2.0)
"""Labels and taints of a Node. Pure.

What others have added is left alone; what is desired is kept.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from ansible_collections.kubewright.cluster.plugins.module_utils._base.findings import (
    WARNING,
    Finding,
)
from ansible_collections.kubewright.cluster.plugins.module_utils._kube import drain

Taint = Mapping[str, Any]


def new(
    name: str,
    labels: Mapping[str, str],
    taints: Sequence[Taint],
    provider_id: str,
    pod_networks: Sequence[str],
) -> dict[str, Any]:
    """A Node to be made for a kubelet that runs. What is empty is left to the cluster."""
    spec: dict[str, Any] = {"taints": [dict(taint) for taint in taints]}
    if provider_id:
        spec["providerID"] = provider_id
    if pod_networks:
        spec |= {"podCIDR": pod_networks[0], "podCIDRs": list(pod_networks)}
    metadata = {"name": name, "labels": dict(labels)}
    return {"apiVersion": "v1", "kind": "Node", "metadata": metadata, "spec": spec}


def free(networks: Sequence[str], nodes: Iterable[Mapping[str, Any]]) -> bool:
    """Whether no other Node has one of *networks*, in part or whole."""
    wanted = [ipaddress.ip_network(network) for network in networks]
    taken = [ipaddress.ip_network(cidr) for node in nodes for cidr in pod_networks_of(node)]
    return not any(
        one.version == other.version and one.overlaps(other) for one in wanted for other in taken
    )


def pod_networks_of(node: Mapping[str, Any]) -> list[str]:
    """The networks of a Node's pods; empty where it has been given none yet."""
    spec = node.get("spec") or {}
    return list(spec.get("podCIDRs") or ([spec["podCIDR"]] if spec.get("podCIDR") else []))


def reasons(
    live: Mapping[str, Any], labels: Mapping[str, str], taints: Sequence[Taint]
) -> list[str]:
    """What the Node *live* lacks, or a drain has left there, in words."""
    has = live["metadata"].get("labels") or {}
    found = [
        f"label {name} is missing"
        if name not in has
        else f"label {name} is {has[name]!r} instead of {value!r}"
        for name, value in sorted(labels.items())
        if has.get(name) != value
    ]
    found += [f"taint {_key(taint)} is missing" for taint in missing_taints(live, taints)]
    return found + ([_left_behind(mark)] if (mark := drain.Mark.of(live)) else [])


def missing_taints(live: Mapping[str, Any], taints: Sequence[Taint]) -> list[Taint]:
    """Those of *taints* that the Node lacks; a value that differs counts as lacking."""
    has = live["spec"].get("taints") or []
    return [taint for taint in taints if not any(_same(taint, other) for other in has)]


def unregistered(live: Mapping[str, Any], taints: Sequence[Taint]) -> list[Finding]:
    """Of *taints* that the kubelet was to register with, those that the Node *live* lacks.

    What is none the kubelet refuses by itself.
    """
    name = live["metadata"]["name"]
    taints = [taint for taint in taints if {"key", "effect"} <= taint.keys()]
    return [
        Finding(
            "taints",
            WARNING,
            f"It lacks the taint {_words(taint)}: registerWithTaints only applies when a node "
            "joins, and this one has joined already.",
            f"Add the taint yourself (`kubectl taint node {name} {_words(taint)}`), or "
            "remove it from registerWithTaints.",
        )
        for taint in missing_taints(live, taints)
    ]


def patch(
    live: Mapping[str, Any], labels: Mapping[str, str], taints: Sequence[Taint]
) -> dict[str, Any]:
    """A JSON merge patch that gives the Node what it lacks; refused if the Node has changed.

    What a drain has left is taken away: whoever has the right to write now, no drain goes on.
    """
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
    if mark := drain.Mark.of(live):
        body["metadata"]["annotations"] = {drain.ANNOTATION: None}
        if mark.cordoned:
            body["spec"] = {**body.get("spec", {}), "unschedulable": None}
    return body


def _left_behind(mark: drain.Mark) -> str:
    left = "left it cordoned" if mark.cordoned else f"left its annotation {drain.ANNOTATION}"
    return f"an interrupted drain {left}"


def _words(taint: Taint) -> str:
    """As kubectl writes it."""
    value = taint.get("value")
    return f"{taint['key']}{f'={value}' if value else ''}:{taint['effect']}"


def _key(taint: Taint) -> str:
    return f"{taint['key']}:{taint['effect']}"


def _same(one: Taint, other: Taint) -> bool:
    return _key(one) == _key(other) and (one.get("value") or "") == (other.get("value") or "")
