# Copyright: the Kubewright authors
# Apache License 2.0 (see LICENSE or https://www.apache.org/licenses/LICENSE-2.0)
"""Which pods leave a node that is drained, and what keeps those that don't. Pure.

Sorted as kubectl does (pkg/drain/filters.go of 1.37), but for pods without a controller: they may
stay where the node comes back, since its kubelet starts them again.
"""

from __future__ import annotations

import datetime
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

#: Who cordoned a Node, for which run, and since when it has been drained.
ANNOTATION = "kubewright.io/drain"
STATIC_POD = "kubernetes.io/config.mirror"
FINISHED = ("Succeeded", "Failed")
Pod = Mapping[str, Any]
Node = Mapping[str, Any]


@dataclass(frozen=True)
class Mark:
    """What the annotation of a Node says.

    `run`: the run that drains it. `began`: when that began, ISO 8601. `cordoned`: whether the Node
    took pods before, so that it is uncordoned by whoever finds it left behind.
    """

    run: str
    began: str
    cordoned: bool

    @classmethod
    def of(cls, node: Node) -> Mark | None:
        """The mark of a Node, None where it has none that can be read."""
        told = (node["metadata"].get("annotations") or {}).get(ANNOTATION)
        try:
            found = json.loads(told or "")
            return cls(str(found["run"]), str(found["began"]), found["cordoned"] is True)
        except (ValueError, KeyError, TypeError):
            return None

    @property
    def text(self) -> str:
        """The annotation's value."""
        fields = {"run": self.run, "began": self.began, "cordoned": self.cordoned}
        return json.dumps(fields, separators=(",", ":"))

    def seconds(self, now: datetime.datetime) -> float:
        """For how long it has been drained."""
        try:
            return (now - datetime.datetime.fromisoformat(self.began)).total_seconds()
        except (ValueError, TypeError):
            return 0.0


def mark(node: Node, run: str, now: datetime.datetime) -> Mark:
    """The mark with which a run drains a Node: its own again, or another one's taken over."""
    known = Mark.of(node)
    if known is None:
        return Mark(run, now.isoformat(timespec="seconds"), not cordoned(node))
    if known.run == run:
        return known
    return replace(known, run=run, began=now.isoformat(timespec="seconds"))


def cordoned(node: Node) -> bool:
    """Whether no new pods are placed on a Node."""
    return bool(node["spec"].get("unschedulable"))


def patch(node: Node, *, unschedulable: bool, mark: Mark | None) -> dict[str, Any]:
    """A JSON merge patch, empty where nothing differs; refused if the Node has changed."""
    annotations = node["metadata"].get("annotations") or {}
    text = mark.text if mark else None
    if cordoned(node) == unschedulable and annotations.get(ANNOTATION) == text:
        return {}
    metadata: dict[str, Any] = {"resourceVersion": node["metadata"]["resourceVersion"]}
    if annotations.get(ANNOTATION) != text:
        metadata["annotations"] = {ANNOTATION: text}
    return {"metadata": metadata, "spec": {"unschedulable": True if unschedulable else None}}


def stays(pod: Pod) -> str:
    """Why a pod is left where it is, in words; "" for one that has to leave."""
    if STATIC_POD in (pod["metadata"].get("annotations") or {}):
        return "static pod"
    owner = controller(pod)
    if owner and owner["kind"] == "DaemonSet" and not finished(pod):
        return f"pod of the DaemonSet {owner['name']}"
    return ""


def controller(pod: Pod) -> Mapping[str, Any] | None:
    """What makes a pod again somewhere else, None where nothing does."""
    owners = pod["metadata"].get("ownerReferences") or []
    return next((one for one in owners if one.get("controller")), None)


def finished(pod: Pod) -> bool:
    """Whether it has ended by itself."""
    return pod.get("status", {}).get("phase") in FINISHED


def leaving(pods: Sequence[Pod], *, bare_too: bool) -> list[Pod]:
    """Those that have to leave. *bare_too*: also those that nothing makes again."""
    return [
        pod
        for pod in pods
        if not stays(pod) and (bare_too or controller(pod) or finished(pod) or ends(pod))
    ]


def ends(pod: Pod) -> bool:
    """Whether it has been told to end."""
    return "deletionTimestamp" in pod["metadata"]


def stopped(pod: Pod) -> bool:
    """Whether none of its containers runs."""
    status = pod.get("status", {})
    found = [
        one
        for kind in ("initContainerStatuses", "containerStatuses", "ephemeralContainerStatuses")
        for one in status.get(kind) or []
    ]
    return not any("running" in (one.get("state") or {}) for one in found)


def name(pod: Pod) -> str:
    """As kubectl's users write it."""
    return f"{pod['metadata']['namespace']}/{pod['metadata']['name']}"


def reason(pod: Pod, node_ready: bool, now: datetime.datetime) -> str:
    """What a pod that has been told to end still waits for, in words."""
    finalizers = pod["metadata"].get("finalizers") or []
    if not node_ready:
        return "terminating, and the kubelet of its node does not answer"
    if stopped(pod) and finalizers:
        return f"terminated, and kept by its finalizers: {', '.join(finalizers)}"
    end = datetime.datetime.fromisoformat(
        str(pod["metadata"]["deletionTimestamp"]).replace("Z", "+00:00")
    )
    left = (end - now).total_seconds()
    return f"terminating, {left:.0f} s left" if left > 0 else "terminating, overdue"


def gone_enough(pod: Pod, node_ready: bool) -> bool:
    """Whether a pod is no reason to wait where the user said `force`.

    It was told to end, and nothing of it runs, or its kubelet could not say so.
    """
    return ends(pod) and (stopped(pod) or not node_ready)
