# Copyright: the Kubewright authors
# Apache License 2.0 (see LICENSE or https://www.apache.org/licenses/LICENSE-2.0)
"""Pods of one Node are evicted, round by round.

The eviction API asks the PodDisruptionBudgets, and refuses what they don't allow with status 429;
such a pod is asked again in the next round. Source:
https://kubernetes.io/docs/concepts/scheduling-eviction/api-eviction/
"""

from __future__ import annotations

import datetime
import http.client
import urllib.parse
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from ansible_collections.kubewright.cluster.plugins.module_utils._kube import client, drain

#: Seconds that a pod is given to end where the user said `force`, or less, if it wants less.
FORCED_GRACE_SECONDS = 30


@dataclass(frozen=True)
class Obstacle:
    """A pod that is still there, and why, in words."""

    pod: str
    why: str


@dataclass(frozen=True)
class Round:
    """What one round found. `waiting`: what is still in the way. `asked`: who was told to end now.

    `left`: what stays without being in the way, but for pods of DaemonSets and static pods.
    """

    waiting: tuple[Obstacle, ...] = ()
    left: tuple[Obstacle, ...] = ()
    asked: tuple[str, ...] = ()

    @property
    def drained(self) -> bool:
        """Whether nothing is in the way any more."""
        return not self.waiting


def pods_of(api: client.Api, node: str) -> list[dict[str, Any]]:
    """All pods that are bound to a Node."""
    query = urllib.parse.urlencode({"fieldSelector": f"spec.nodeName={node}"})
    found: list[dict[str, Any]] = api.request("GET", f"/api/v1/pods?{query}")["items"]
    return found


def evict_all(api: client.Api, node: Mapping[str, Any], *, bare_too: bool, forced: bool) -> Round:
    """Ask each pod that has to leave to do so, and tell what is in the way.

    *forced*: the budgets are not asked any more, and nobody is waited for who can't come.
    """
    now = datetime.datetime.now(datetime.timezone.utc)
    ready = client.conditions(node).get("Ready") == "True"
    pods = pods_of(api, node["metadata"]["name"])
    going = drain.leaving(pods, bare_too=bare_too)
    waiting, left, asked = [], _left(pods, going), []
    for pod in going:
        if drain.ends(pod):
            why = drain.reason(pod, ready, now)
        else:
            asked.append(drain.name(pod))
            why = _end(api, pod, forced=forced)
        if not why:
            continue
        obstacle = Obstacle(drain.name(pod), why)
        if forced and drain.gone_enough(pod, ready):
            left.append(obstacle)
        else:
            waiting.append(obstacle)
    return Round(tuple(waiting), tuple(left), tuple(asked))


def foreseen(api: client.Api, node: Mapping[str, Any], *, bare_too: bool) -> Round:
    """What `evict_all` would begin with: nobody is told anything."""
    pods = pods_of(api, node["metadata"]["name"])
    going = drain.leaving(pods, bare_too=bare_too)
    waiting = tuple(Obstacle(drain.name(pod), "would be evicted") for pod in going)
    return Round(waiting, tuple(_left(pods, going)), tuple(one.pod for one in waiting))


def _left(pods: Sequence[drain.Pod], going: Sequence[drain.Pod]) -> list[Obstacle]:
    return [
        Obstacle(drain.name(pod), "no controller would recreate it elsewhere")
        for pod in pods
        if pod not in going and not drain.stays(pod)
    ]


def _end(api: client.Api, pod: drain.Pod, *, forced: bool) -> str:
    """Tell a pod to end. Gives what it waits for now, "" where it is gone."""
    metadata = pod["metadata"]
    path = (
        f"/api/v1/namespaces/{urllib.parse.quote(metadata['namespace'], safe='')}"
        f"/pods/{urllib.parse.quote(metadata['name'], safe='')}"
    )
    # One that was made again under the same name meanwhile, on another node, is not meant.
    options: dict[str, Any] = {"preconditions": {"uid": metadata["uid"]}}
    try:
        if forced:
            own = pod["spec"].get("terminationGracePeriodSeconds", FORCED_GRACE_SECONDS)
            options["gracePeriodSeconds"] = min(own, FORCED_GRACE_SECONDS)
            api.request("DELETE", path, options)
        else:
            api.request("POST", f"{path}/eviction", _eviction(metadata, options))
    except client.ApiError as error:
        if error.status in (http.client.NOT_FOUND, http.client.CONFLICT):
            return ""
        if error.status == http.client.TOO_MANY_REQUESTS:
            return _budget(api, pod) or error.said
        return f"the API server refused to evict it: {error.said}"
    return "terminating"


def _eviction(metadata: Mapping[str, Any], options: Mapping[str, Any]) -> dict[str, Any]:
    return {
        "apiVersion": "policy/v1",
        "kind": "Eviction",
        "metadata": {"name": metadata["name"], "namespace": metadata["namespace"]},
        "deleteOptions": options,
    }


def _budget(api: client.Api, pod: drain.Pod) -> str:
    """Which PodDisruptionBudget is in the way, "" where none is found that allows no disruption."""
    namespace = urllib.parse.quote(pod["metadata"]["namespace"], safe="")
    path = f"/apis/policy/v1/namespaces/{namespace}/poddisruptionbudgets"
    labels = pod["metadata"].get("labels") or {}
    for budget in api.request("GET", path)["items"]:
        status = budget.get("status") or {}
        if selects(budget["spec"].get("selector"), labels) and not status.get("disruptionsAllowed"):
            healthy, needed = status.get("currentHealthy", 0), status.get("desiredHealthy", 0)
            return (
                f"PodDisruptionBudget {budget['metadata']['name']} allows no disruption now "
                f"({healthy} healthy, {needed} needed)"
            )
    return ""


def selects(selector: Mapping[str, Any] | None, labels: Mapping[str, str]) -> bool:
    """Whether a label selector means an object with *labels*. None means nobody, {} everybody."""
    if selector is None:
        return False
    wanted = selector.get("matchLabels") or {}
    if any(labels.get(key) != value for key, value in wanted.items()):
        return False
    return all(_fits(one, labels) for one in selector.get("matchExpressions") or [])


def _fits(expression: Mapping[str, Any], labels: Mapping[str, str]) -> bool:
    key, values = expression["key"], expression.get("values") or []
    if expression["operator"] == "Exists":
        return key in labels
    if expression["operator"] == "DoesNotExist":
        return key not in labels
    inside = key in labels and labels[key] in values
    return inside if expression["operator"] == "In" else not inside
