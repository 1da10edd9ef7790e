#!/usr/bin/python
# Copyright: the Kubewright authors
# Apache License 2.0 (see LICENSE or https://www.apache.org/licenses/LICENSE-2.0)
"""Cordon, drain and uncordon a Node."""

from __future__ import annotations

DOCUMENTATION = r"""
module: node_drain
short_description: Cordon, drain and uncordon a Node
version_added: 0.1.0
author: The Kubewright authors (@kubewright)
description:
  - Runs on the control plane that acts for the cluster, and never connects to the node itself.
  - Pods are evicted within their PodDisruptionBudgets and with their own grace period. Pods of
    DaemonSets and static pods stay, as with C(kubectl drain).
  - While it waits, it lists the pods that it waits for, and why. One call watches for O(patience)
    seconds; an action plugin repeats it until the node is drained or O(on_timeout) applies.
  - An annotation of the Node records that a drain cordoned it, so that a Node that a person
    cordoned stays cordoned.
options:
  name:
    description: The Node's name.
    type: str
    required: true
  state:
    description:
      - V(cordoned) gets no new pods until it is uncordoned.
      - V(drained) is cordoned, and its pods have left.
      - V(uncordoned) gets new pods again.
      - V(released) is uncordoned if a drain cordoned it.
    type: str
    choices: [cordoned, drained, uncordoned, released]
    default: drained
  timeout_seconds:
    description: Time for pods to leave, in seconds. Then O(on_timeout) applies.
    type: int
    default: 300
  on_timeout:
    description:
      - What happens to pods that are still there by then.
      - V(wait) keeps waiting.
      - V(force) deletes them regardless of their budgets, with 30 seconds to exit. A pod that a
        finalizer keeps, or whose kubelet does not answer, is left behind and listed.
      - V(abort) fails, and uncordons the Node if this drain cordoned it.
    type: str
    choices: [wait, force, abort]
    default: abort
  evict_bare_pods:
    description:
      - Whether to evict pods without a controller as well. Nothing recreates them elsewhere, so
        they are lost; if they stay, the kubelet restarts them after a reboot.
    type: bool
    default: false
  removes_node:
    description:
      - Whether the Node is deleted afterwards. Where its kubelet does not answer, its pods are then
        deleted at once, regardless of their budgets, and are not waited for.
    type: bool
    default: false
  patience:
    description: Seconds that one call watches, at most.
    type: int
    default: 10
extends_documentation_fragment:
  - kubewright.cluster.api
  - kubewright.cluster.fence
attributes:
  check_mode:
    description: Lists the pods that would be evicted.
    support: full
  diff_mode:
    description: Shows the changes to the Node.
    support: full
  idempotent:
    description: A drained Node is left alone.
    support: full
"""

EXAMPLES = r"""
- name: Drain a node
  kubewright.cluster.node_drain:
    name: demo-web-1
    timeout_seconds: 600
    on_timeout: abort
    api_servers: [192.0.2.11]
    api_name: api.demo.internal
  delegate_to: demo-cp-1

- name: Uncordon the node
  kubewright.cluster.node_drain:
    name: demo-web-1
    state: uncordoned
    api_servers: [192.0.2.11]
    api_name: api.demo.internal
  delegate_to: demo-cp-1
"""

RETURN = r"""
drained:
  description: Whether all pods have left.
  returned: when state is drained
  type: bool
waiting:
  description: The pods that the drain waits for, each with the reason.
  returned: when state is drained
  type: list
  elements: dict
  sample:
    - pod: default/web-7d9
      why: PodDisruptionBudget web allows no disruption now (2 healthy, 2 needed)
left:
  description:
    - The pods that stay although the node counts as drained, each with the reason. Pods of
      DaemonSets and static pods are not listed.
  returned: when state is drained
  type: list
  elements: dict
  sample:
    - pod: default/once
      why: no controller would recreate it elsewhere
found:
  description: Whether the cluster has this Node.
  returned: success
  type: bool
"""

import datetime
import time
from collections.abc import Callable
from dataclasses import asdict
from typing import Any

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.kubewright.cluster.plugins.module_utils._base.errors import (
    FORESEEN,
    KubewrightError,
    failure,
)
from ansible_collections.kubewright.cluster.plugins.module_utils._fence import fencing
from ansible_collections.kubewright.cluster.plugins.module_utils._kube import (
    client,
    drain,
    eviction,
)

#: A lock of its own: a run that changes the actor itself does not wait for pods of another node.
SCOPE = "drain"
#: Seconds between two rounds. A pod that is refused is asked again as often.
POLL = 2.0
CONFLICT = 409


def wanted(node: drain.Node, state: str, run: str) -> tuple[bool, drain.Mark | None]:
    """Whether a Node is to be unschedulable, and its mark."""
    mark = drain.Mark.of(node)
    if state == "drained":
        return True, drain.mark(node, run, _now())
    if state == "released":
        ours = mark is not None and mark.cordoned
        return drain.cordoned(node) and not ours, None
    return state == "cordoned", None


def keep(api: client.Api, params: dict[str, Any], check_mode: bool) -> tuple[drain.Node, list[str]]:
    """Give the Node what the state asks for; gives it as it is then, and what differed in words.

    Raises `KubewrightError` where there is no such Node, but for `released`: then it is {}.
    """
    path, state = client.node_path(params["name"]), params["state"]
    while True:
        node = api.get(path)
        if node is None:
            if state == "released":
                return {}, []
            raise KubewrightError(
                f"The cluster has no Node {params['name']}. `kubectl get nodes` lists its Nodes."
            )
        unschedulable, mark = wanted(node, state, params["run"] or "")
        body = drain.patch(node, unschedulable=unschedulable, mark=mark)
        differs = drain.cordoned(node) != unschedulable
        said = [f"it is {'cordoned' if unschedulable else 'uncordoned'}"] if differs else []
        if not body or check_mode:
            return node, said
        try:
            return api.request("PATCH", path, body, "application/merge-patch+json"), said
        except client.ApiError as error:
            # The kubelet writes to its Node too. Each try begins with what is there then.
            if error.status != CONFLICT:
                raise


def run_round(
    api: client.Api, node: drain.Node, params: dict[str, Any], now: datetime.datetime
) -> eviction.Round:
    """One round. Raises `KubewrightError` where time is up and the user said `abort`."""
    mark = drain.Mark.of(node)
    over = mark is not None and mark.seconds(now) >= params["timeout_seconds"]
    dead = params["removes_node"] and client.conditions(node).get("Ready") != "True"
    found = eviction.evict_all(
        api,
        node,
        bare_too=params["evict_bare_pods"],
        forced=dead or (over and params["on_timeout"] == "force"),
    )
    if found.waiting and over and params["on_timeout"] == "abort":
        give_up(api, params, found)
    return found


def give_up(api: client.Api, params: dict[str, Any], found: eviction.Round) -> None:
    """Uncordon what this drain had cordoned, and say what was in the way."""
    node, _ = keep(api, {**params, "state": "released"}, check_mode=False)
    cordoned = bool(node) and drain.cordoned(node)
    raise KubewrightError(
        f"{params['name']} was not drained within {params['timeout_seconds']} s. Still there: "
        f"{told(found.waiting)}. The node "
        + ("is still cordoned, as it was before." if cordoned else "was uncordoned again.")
        + " Remove the cause, allow more time, or drain with on_timeout=force."
    )


def told(obstacles: tuple[eviction.Obstacle, ...]) -> str:
    """In words."""
    return "; ".join(f"{one.pod} ({one.why})" for one in obstacles)


def evict(
    api: client.Api, params: dict[str, Any], sleep: Callable[[float], None] = time.sleep
) -> eviction.Round:
    """Rounds, until the Node is drained or the module's patience is over."""
    end = time.monotonic() + params["patience"]
    while True:
        node = api.get(client.node_path(params["name"]))
        if node is None:
            return eviction.Round((), ())
        found = run_round(api, node, params, _now())
        if found.drained or time.monotonic() + POLL > end:
            return found
        sleep(POLL)


def converge(api: client.Api, params: dict[str, Any], check_mode: bool) -> dict[str, Any]:
    """The module's result."""
    node, said = keep(api, params, check_mode)
    diff = {"before": "", "after": "".join(f"{line}\n" for line in said)}
    result: dict[str, Any] = {"changed": bool(said), "found": bool(node), "diff": diff}
    if params["state"] != "drained":
        return result
    if check_mode:
        found = eviction.foreseen(api, node, bare_too=params["evict_bare_pods"])
    else:
        found = evict(api, params)
    return result | {
        "changed": bool(said) or bool(found.asked),
        "drained": found.drained,
        "waiting": [asdict(one) for one in found.waiting],
        "left": [asdict(one) for one in found.left],
    }


def _now() -> datetime.datetime:
    return datetime.datetime.now(datetime.timezone.utc)


def main() -> None:
    """Hold the lock of drains, and converge."""
    module = AnsibleModule(
        argument_spec={
            "name": {"type": "str", "required": True},
            "state": {
                "type": "str",
                "choices": ["cordoned", "drained", "uncordoned", "released"],
                "default": "drained",
            },
            "timeout_seconds": {"type": "int", "default": 300},
            "on_timeout": {
                "type": "str",
                "choices": ["wait", "force", "abort"],
                "default": "abort",
            },
            "evict_bare_pods": {"type": "bool", "default": False},
            "removes_node": {"type": "bool", "default": False},
            "patience": {"type": "int", "default": 10},
            "api_servers": {"type": "list", "elements": "str", "required": True},
            "api_name": {"type": "str", "required": True},
            "epoch": {"type": "int"},
            "run": {"type": "str"},
            "lock_timeout": {"type": "int", "default": 600},
        },
        supports_check_mode=True,
    )
    params = module.params
    try:
        with (
            fencing.node_lock(
                fencing.claim_of(params),
                params["lock_timeout"],
                check_mode=module.check_mode,
                scope=SCOPE,
            ),
            client.as_administrator(params["api_servers"], params["api_name"]) as api,
        ):
            result = converge(api, params, module.check_mode)
    except FORESEEN as error:
        module.fail_json(**failure(error))
    else:
        module.exit_json(**result)


if __name__ == "__main__":
    main()
