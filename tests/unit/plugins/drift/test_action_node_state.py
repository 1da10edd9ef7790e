# SPDX-License-Identifier: Apache-2.0
"""One call a node; what its documents hold is in test_desired."""

from __future__ import annotations

import time
from types import SimpleNamespace
from typing import Any
from unittest import mock

import pytest
from ansible.errors import AnsibleError
from ansible.parsing.dataloader import DataLoader
from ansible.template import Templar
from ansible_collections.kubewright.cluster.plugins.action import node_state
from ansible_collections.kubewright.cluster.plugins.module_utils._base import limits

HOST = {"worker_cluster_id": "3f0c", "worker_labels": {"a": "b"}, "worker_address": "192.0.2.11"}


def run(
    task_vars: dict[str, Any] | None = None, said: dict[str, Any] | None = None, **arguments: Any
) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """The action on a host with `HOST`'s variables: its result, and the calls that it made."""
    told = {**HOST, **(task_vars or {})}
    variables = {"inventory_hostname": "web-1", "hostvars": {"web-1": told}, **told}
    task = SimpleNamespace(
        args=arguments,
        async_val=0,
        action="x.node_state",
        resolved_action=None,
        check_mode=False,
        no_log=False,
    )
    action = node_state.ActionModule.__new__(node_state.ActionModule)
    action._task, action._loader = task, DataLoader()
    action._templar = Templar(action._loader, variables)
    calls: list[dict[str, Any]] = []

    def execute(**call: Any) -> dict[str, Any]:
        # Each call waits for the node's lock for a while.
        assert call["module_args"].pop("lock_timeout") == limits.LOCK_TURN
        calls.append(call)
        return {"drift": {"worker": ["it is not in the cluster"]}, **(said or {})}

    with (
        mock.patch.object(action, "_execute_module", execute, create=True),
        mock.patch("ansible.plugins.action.ActionBase.run", return_value={}),
    ):
        return action.run(task_vars=variables), calls


def test_the_nodes_answer_is_the_result_of_one_call() -> None:
    result, (call,) = run(roles=["worker"], address="192.0.2.11", wait_for_api=60)
    assert result == {"drift": {"worker": ["it is not in the cluster"]}}
    assert call["module_name"] == "kubewright.cluster.node_state"
    arguments = call["module_args"]
    assert (arguments["roles"], arguments["address"]) == (["worker"], "192.0.2.11")
    assert arguments["wait_for_api"] == 60
    assert arguments["documents"] == {
        "worker": {
            "membership": {"role": "worker", "cluster_id": "3f0c"},
            "certificates": True,
            "kubelet": {"started": True, "flags": {"node-ip": "192.0.2.11"}},
            "node": {
                "name": "web-1",
                "labels": {"a": "b"},
                "address": "192.0.2.11",
                "register_taints": [],
            },
        }
    }


@pytest.mark.parametrize("roles", [None, []])
def test_without_roles_nothing_is_rendered(roles: list[str] | None) -> None:
    _result, (call,) = run({"worker_labels": "{{ nowhere }}"}, roles=roles, address=None)
    assert call["module_args"] == ({} if roles is None else {"roles": []})


def test_documents_are_not_copied_into_the_nodes_journal() -> None:
    _result, (call,) = run(roles=["worker"])
    assert call["task_vars"]["ansible_no_target_syslog"] is True
    assert call["task_vars"]["worker_cluster_id"] == "3f0c"


@pytest.mark.parametrize(
    ("role", "words"),
    [("nonsense", "has no role 'nonsense'"), ("kubeconfig", "'kubeconfig' desires nothing")],
)
def test_a_role_that_desires_nothing(role: str, words: str) -> None:
    with pytest.raises(AnsibleError, match=words):
        run(roles=[role])


def test_what_the_host_was_told_wrong_is_said_before_anything_is_sent() -> None:
    with pytest.raises(AnsibleError, match="Role worker, option worker_labels: "):
        run({"worker_labels": 7}, roles=["worker"])


@pytest.mark.parametrize(
    ("first", "last", "least", "most"),
    [
        # Half a second each way, one second at work.
        (100.5, 101.5, -0.5, 0.5),
        # The same of a clock that is five seconds ahead.
        (105.5, 106.5, 4.5, 5.5),
    ],
)
def test_a_clock_is_compared_as_far_as_that_is_known(
    first: float, last: float, least: float, most: float
) -> None:
    assert node_state.clock({"first": first, "last": last}, 100.0, 102.0) == {
        "least": least,
        "most": most,
    }


def test_the_nodes_clock_is_told_beside_what_is_tolerated() -> None:
    now = time.time()
    result, _calls = run(roles=["preflight"], said={"clock": {"first": now, "last": now}})
    clock = result["clock"]
    assert -1 < clock["least"] <= clock["most"] < 1
    assert clock["tolerated"] == 1.0
