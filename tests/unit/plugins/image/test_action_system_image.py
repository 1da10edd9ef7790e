# SPDX-License-Identifier: Apache-2.0
"""One call when the node has the image; two and one transfer when it has not."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from unittest import mock

import pytest
from ansible_collections.kubewright.cluster.plugins.action import system_image
from ansible_collections.kubewright.cluster.plugins.module_utils._base import limits
from ansible_collections.kubewright.cluster.plugins.plugin_utils import _transfer

DIGEST = "ab" * 32


class Connection:
    """Remembers what was put where."""

    become = None
    _shell = SimpleNamespace(tmpdir=None)

    def __init__(self) -> None:
        self.transfers: list[tuple[str, str]] = []
        self.commands: list[tuple[str, bytes]] = []
        self.status = 0

    def put_file(self, source: str, target: str) -> None:
        self.transfers.append((source, target))

    def exec_command(self, command: str, in_data: bytes, sudoable: bool) -> Any:
        """A real shell, or what a broken one says."""
        assert sudoable is False
        self.commands.append((command, in_data))
        if self.status:
            return self.status, b"", b"dd: No space left on device"
        done = subprocess.run(["sh", "-c", command], input=in_data, capture_output=True)
        return done.returncode, done.stdout, done.stderr

    def get_option(self, _name: str) -> str:
        return "operator"


@pytest.fixture
def image(tmp_path: Path) -> Path:
    path = tmp_path / "image.squashfs"
    path.write_bytes(b"x" * 10)
    return path


def run(
    answers: list[dict[str, Any]], become: object = None, status: int = 0, **arguments: Any
) -> tuple[dict[str, Any], list[dict[str, Any]], Connection]:
    """The action with a node that gives *answers* in turn: result, calls, connection."""
    connection = Connection()
    connection.status = status
    connection.become = become  # type: ignore[assignment]
    task = SimpleNamespace(
        args=arguments,
        async_val=0,
        action="x.system_image",
        resolved_action=None,
        check_mode=False,
        no_log=False,
    )
    action = system_image.ActionModule.__new__(system_image.ActionModule)
    action._task, action._connection = task, connection
    action._loader = SimpleNamespace(path_dwim=lambda path: f"/play/{path}")
    calls: list[dict[str, Any]] = []

    def execute(**call: Any) -> dict[str, Any]:
        assert call["module_name"] == "kubewright.cluster.system_image"
        # Each call waits for the node's lock for a while.
        assert call["module_args"].pop("lock_timeout") == limits.LOCK_TURN
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
        {"changed": False, "transfer": incoming, "offset": 0},
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


PIECE = _transfer.images.PIECE_BYTES


def test_rest_of_a_transfer_that_was_cut(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    content = os.urandom(4 * PIECE + 3)
    image, incoming = tmp_path / "image", tmp_path / "in coming"
    image.write_bytes(content)
    incoming.write_bytes(content[:PIECE])
    monkeypatch.setattr(_transfer, "SENT_BYTES", 2 * PIECE)
    answers = [{"transfer": str(incoming), "offset": PIECE}, {"changed": True}]
    result, calls, connection = run(answers, digest=DIGEST, path=str(image))
    assert result == {"changed": True}
    assert incoming.read_bytes() == content
    assert [len(piece) for _, piece in connection.commands] == [2 * PIECE, PIECE + 3]
    assert connection.transfers == [], "it would begin anew"
    assert calls[1]["arrived"] == str(incoming)
    # A connection that is made anew may repeat a piece.
    assert connection.exec_command(*connection.commands[0], sudoable=False)[0] == 0
    assert incoming.read_bytes() == content


def test_nothing_is_sent_of_what_has_come_whole(image: Path) -> None:
    answers: list[dict[str, Any]] = [{"transfer": "/in", "offset": 10}, {"changed": True}]
    _result, calls, connection = run(answers, digest=DIGEST, path=str(image))
    assert (connection.commands, connection.transfers, len(calls)) == ([], [], 2)


def test_rest_that_does_not_fit(image: Path) -> None:
    image.write_bytes(bytes(PIECE + 1))
    answers: list[dict[str, Any]] = [{"transfer": "/in", "offset": PIECE}]
    result, calls, _ = run(answers, status=1, digest=DIGEST, path=str(image))
    assert result["failed"] and "No space left" in result["msg"] and "is kept" in result["msg"]
    assert len(calls) == 1


def test_what_a_node_fetches_is_not_sent(image: Path) -> None:
    url = "https://images.example.com"
    _result, calls, _ = run([{"changed": True}], digest=DIGEST, path=str(image), url=url)
    assert calls == [{"digest": DIGEST, "url": url}]
    result, calls, _ = run([], digest=DIGEST, url="https://user:very-secret@example.com")
    assert result["failed"] and "very-secret" not in str(result) and calls == []
