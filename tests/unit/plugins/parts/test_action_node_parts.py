# SPDX-License-Identifier: Apache-2.0
"""One call for all parts of a node; two and one transfer where it has not got the image."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any
from unittest import mock

import pytest
from ansible_collections.kubewright.cluster.plugins.action import node_parts, system_image
from ansible_collections.kubewright.cluster.plugins.module_utils._base import limits
from ansible_collections.kubewright.cluster.plugins.plugin_utils import _desired

KEY = "/etc/kubernetes/pki/ca.key"
SECRET = "very-secret"


@pytest.fixture
def image(tmp_path: Path) -> Path:
    path = tmp_path / "image.squashfs"
    path.write_bytes(b"x" * 10)
    return path


def run(
    answers: list[dict[str, Any]], documents: dict[str, Any], **arguments: Any
) -> tuple[dict[str, Any], list[dict[str, Any]], list[tuple[str, str]]]:
    """The action with a node that gives *answers* in turn: result, calls, transfers."""
    transfers: list[tuple[str, str]] = []
    action = node_parts.ActionModule.__new__(node_parts.ActionModule)
    action._task = SimpleNamespace(args=arguments, action="x.node_parts", resolved_action=None)
    action._loader = SimpleNamespace(path_dwim=lambda path: f"/play/{path}")
    action._templar = None
    action._connection = SimpleNamespace(
        become=None,
        get_option=lambda _: "operator",
        put_file=lambda *names: transfers.append(names),
    )
    calls: list[dict[str, Any]] = []

    def execute(module_name: str, module_args: dict[str, Any], task_vars: Any) -> dict[str, Any]:
        assert module_name == "kubewright.cluster.node_parts"
        assert task_vars["ansible_no_target_syslog"] is True
        assert module_args.pop("lock_timeout") == limits.LOCK_TURN
        calls.append(module_args)
        return answers[len(calls) - 1]

    def rendered(roles: Any, *_: Any) -> Any:
        return {role: documents[role] for role in roles}, {KEY: SECRET}

    with (
        mock.patch.object(action, "_execute_module", execute, create=True),
        mock.patch.object(_desired, "to_write", rendered),
        mock.patch("ansible.plugins.action.ActionBase.run", return_value={}),
    ):
        return action.run(task_vars={}), calls, transfers


DONE = {"changed": True, "parts": {"a": ["x (started)"]}, "diff": [{"after": "1"}]}


def test_what_roles_desire_is_sent_with_its_secrets() -> None:
    answer = {"changed": False, "parts": {}}
    result, calls, transfers = run([answer], {"a": {"files": []}}, roles=["a"], node="web-1")
    assert result == answer
    assert calls == [
        {
            "roles": ["a"],
            "documents": {"a": {"files": []}},
            "secrets": {KEY: SECRET},
            "node": "web-1",
        }
    ]
    assert transfers == []


def test_an_image_that_is_not_there_is_sent_in_between(image: Path) -> None:
    documents = {"a": {"image": {"path": str(image)}}, "b": {"files": []}}
    first = {**DONE, "transfer": "/in", "offset": 0}
    second = {"changed": True, "parts": {"a": ["image"], "b": ["y"]}, "diff": [{"after": "2"}]}
    result, calls, transfers = run([first, second], documents, roles=["a", "b"])
    assert transfers == [(str(image), "/in")]
    assert [call["transfer"] for call in calls] == [
        {"size": 10, "transfer_owner": None},
        {"size": 10, "transfer_owner": None, "arrived": "/in"},
    ]
    assert result["parts"] == {"a": ["x (started)", "image"], "b": ["y"]}
    assert result["diff"] == [{"after": "1"}, {"after": "2"}]
    assert result["changed"] is True and "transfer" not in result


def test_a_failure_is_not_followed_by_a_transfer(image: Path) -> None:
    documents = {"a": {"image": {"path": str(image)}}}
    failed = {"failed": True, "msg": "a: no", "transfer": "/in", "offset": 0, **DONE}
    result, calls, transfers = run([failed], documents, roles=["a"])
    assert (result["msg"], len(calls), transfers) == ("a: no", 1, [])


def test_of_a_second_call_that_fails_the_first_is_told_as_well(image: Path) -> None:
    documents = {"a": {"image": {"path": str(image)}}}
    first = {**DONE, "transfer": "/in", "offset": 0}
    result, _, _ = run([first, {"failed": True, "msg": "a: no"}], documents, roles=["a"])
    assert result["failed"] and result["changed"]
    assert result["parts"] == DONE["parts"]


def test_what_a_node_fetches_is_not_sent(image: Path) -> None:
    url = "https://images.example.com"
    documents = {"a": {"image": {"path": str(image), "url": url}}}
    _, calls, transfers = run([{"changed": True, "parts": {}}], documents, roles=["a"])
    assert ("transfer" in calls[0], transfers) == (False, [])
    documents["a"]["image"]["url"] = "https://user:very-secret@example.com"
    result, calls, _ = run([], documents, roles=["a"])
    assert result["failed"] and SECRET not in str(result) and calls == []


def test_the_controller_waits_for_all_sections_and_the_transfer(image: Path) -> None:
    action = node_parts.ActionModule.__new__(node_parts.ActionModule)
    action._task = SimpleNamespace(action="x.node_parts", resolved_action=None)
    arguments = {"documents": {"a": {"kubelet": {}}, "b": {"files": []}}}
    once = limits.on_controller("node_parts", arguments)
    assert once > limits.of_section("kubelet", {"kubelet": {}}) + limits.WORK
    assert action.seconds(arguments) == once
    image.write_bytes(b"x" * (64 << 10))
    action._local = image
    assert action.seconds(arguments) == 2 * once + 1


@pytest.mark.parametrize("action", [node_parts, system_image])
def test_nothing_is_made_on_a_node_before_it_has_recorded_what_was_there(action: Any) -> None:
    """A reset left ~/.ansible, which Ansible had made for the first call."""
    assert not action.ActionModule.TRANSFERS_FILES
