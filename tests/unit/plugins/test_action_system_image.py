# SPDX-License-Identifier: Apache-2.0
"""One call when the node has the image; two and one transfer when it has not."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any
from unittest import mock

import pytest
from ansible_collections.kubewright.cluster.plugins.action import system_image

DIGEST = "ab" * 32


class Connection:
    """Remembers what was put where."""

    become = None
    _shell = SimpleNamespace(tmpdir=None)

    def __init__(self) -> None:
        self.transfers: list[tuple[str, str]] = []

    def put_file(self, source: str, target: str) -> None:
        self.transfers.append((source, target))

    def get_option(self, _name: str) -> str:
        return "operator"


@pytest.fixture
def image(tmp_path: Path) -> Path:
    path = tmp_path / "image.squashfs"
    path.write_bytes(b"x" * 10)
    return path


def run(
    answers: list[dict[str, Any]], become: object = None, **arguments: Any
) -> tuple[dict[str, Any], list[dict[str, Any]], Connection]:
    """The action with a node that gives *answers* in turn: result, calls, connection."""
    connection = Connection()
    connection.become = become  # type: ignore[assignment]
    task = SimpleNamespace(args=arguments, async_val=0, action="system_image", check_mode=False)
    action = system_image.ActionModule.__new__(system_image.ActionModule)
    action._task, action._connection = task, connection
    action._loader = SimpleNamespace(path_dwim=lambda path: f"/play/{path}")
    calls: list[dict[str, Any]] = []

    def execute(**call: Any) -> dict[str, Any]:
        assert call["module_name"] == "kubewright.cluster.system_image"
        calls.append(call["module_args"])
        return answers[len(calls) - 1]

    with (
        mock.patch.object(action, "_execute_module", execute, create=True),
        mock.patch("ansible.plugins.action.ActionBase.run", return_value={}),
    ):
        return action.run(task_vars={}), calls, connection


def test_image_that_is_there(image: Path) -> None:
    answer: dict[str, Any] = {"changed": False, "generation": 1}
    result, calls, connection = run([answer], digest=DIGEST, path=str(image), epoch=3)
    assert result == answer
    assert calls == [{"digest": DIGEST, "epoch": 3, "size": 10, "transfer_owner": None}]
    assert connection.transfers == []


def test_image_that_is_not(image: Path) -> None:
    incoming = f"/volume/incoming/{DIGEST}.1"
    answers: list[dict[str, Any]] = [
        {"changed": False, "transfer": incoming},
        {"changed": True, "installed": True},
    ]
    result, calls, connection = run(answers, digest=DIGEST, path=str(image))
    assert result == answers[1]
    assert connection.transfers == [(str(image), incoming)]
    assert calls[1] == {**calls[0], "arrived": incoming}


def test_failure_is_not_followed_by_a_transfer(image: Path) -> None:
    result, _calls, connection = run([{"failed": True}], digest=DIGEST, path=str(image))
    assert result == {"failed": True}
    assert connection.transfers == []


@pytest.mark.parametrize("path", [None, "", "/no/such/image", "not-here"])
def test_node_is_asked_without_an_image_here(path: str | None) -> None:
    _result, calls, _connection = run([{"changed": False}], digest=DIGEST, path=path)
    assert calls == [{"digest": DIGEST}]


def test_file_belongs_to_the_user_who_transfers(image: Path) -> None:
    _result, calls, _connection = run([{}], become=object(), digest=DIGEST, path=str(image))
    assert calls[0]["transfer_owner"] == "operator"
