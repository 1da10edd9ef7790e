# SPDX-License-Identifier: Apache-2.0
"""A kubelet gets other settings, and they are taken back where it does not live with them."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from ansible_collections.kubewright.cluster.plugins.module_utils._base import commands
from ansible_collections.kubewright.cluster.plugins.module_utils._base.errors import KubewrightError
from ansible_collections.kubewright.cluster.plugins.module_utils._drift import drift
from ansible_collections.kubewright.cluster.plugins.module_utils._kube import (
    kubelet,
    kubelet_settings,
    memberships,
)
from ansible_collections.kubewright.cluster.plugins.module_utils._services import systemctl
from wanted_files import OWNER

OLD, NEW, DEADLY = "old\n", "new\n", "deadly\n"
WORDS = 'E1129 20:14:05.1 41 run.go:72] "command failed" err="unrecognized feature gate: Foo"\n'
JOINED = memberships.Membership("joined", "join", "worker", "3f0c")


class Node:
    """A node in a directory, whose kubelet dies of one content of its file, or of all."""

    def __init__(self, root: Path) -> None:
        self.file = root / "kubelet.d" / "10.conf"
        self.file.parent.mkdir(parents=True)
        self.file.write_text(OLD)
        self.record = kubelet_settings.Record(root / "kubelet.json")
        self.dies_of = {DEADLY}
        self.active = "active"
        self.runs_with = OLD
        self.started = time.time() - 100
        self.starts = 0
        self.restarts = 0

    def __call__(self, argv: Any, *, timeout: float = 0, stdin: str = "") -> commands.Result:
        words = list(argv)
        text = ""
        if words[0] == "journalctl":
            text = WORDS
        elif words[1] in ("start", "restart"):
            self.runs_with, self.active = self.file.read_text(), "active"
            self.started, self.starts = time.time(), self.starts + 1
            # A kernel stamps files with a coarser clock than ours.
            for path in (self.file, self.file.parent):
                os.utime(path, (self.started - 1,) * 2)
            self.restarts = 3 if self.runs_with in self.dies_of else self.restarts
        elif words[1] == "reset-failed":
            self.restarts = 0
        elif words[1] == "show":
            stamp = time.strftime("%a %Y-%m-%d %H:%M:%S", time.gmtime(self.started))
            ago = time.time() - self.started
            text = (
                f"LoadState=loaded\nActiveState={self.active}\nUnitFileState=enabled\n"
                f"NRestarts={self.restarts}\n"
                f"InactiveExitTimestamp={stamp}.{int(self.started % 1 * 10**6):06d} UTC\n"
                f"InactiveExitTimestampMonotonic={time.monotonic_ns() // 1000 - int(ago * 10**6)}\n"
            )
        return commands.Result(tuple(argv), 0, text, "")

    def settings(self, *, joined: bool = True, predict: bool = False) -> kubelet_settings.Settings:
        watch = kubelet.Watch(self)
        watch.see = kubelet.Sight  # type: ignore[method-assign]
        watch.trouble = self._trouble  # type: ignore[method-assign]
        services = systemctl.Services(
            self, 10, predict, frozenset([str(self.file)] if predict else [])
        )
        return kubelet_settings.Settings(services, watch, joined, self.record)

    def _trouble(self, was_ready: bool) -> str:
        return "unrecognized feature gate: Foo" if self.runs_with in self.dies_of else ""

    def wants(self, content: str) -> list[Any]:
        files = [
            {"path": str(self.file.parent), "state": "directory", "exclusive": "*.conf", **OWNER},
            {"path": str(self.file), "content": content, **OWNER},
        ]
        return kubelet_settings.entries(files, {})

    def converge(self, content: str, **more: Any) -> Any:
        entries = self.wants(content)
        want = kubelet_settings.wanted(entries, started=False)
        return self.settings(**more).converge(entries, want)


@pytest.fixture
def node(tmp_path: Path) -> Node:
    return Node(tmp_path / "node")


def test_settings_with_which_it_lives_stay(node: Node) -> None:
    changes, report, _ = node.converge(NEW)
    assert [change.desired.path for change in changes] == [node.file]
    assert report.restarted == ["kubelet.service"]
    assert (node.runs_with, node.record.exists()) == (NEW, False)
    assert node.converge(NEW)[1].restarted == []


def test_settings_that_kill_it_are_taken_back_with_its_reason(node: Node) -> None:
    foreign = node.file.parent / "20-theirs.conf"
    foreign.write_text("theirs")
    with pytest.raises(KubewrightError) as caught:
        node.converge(DEADLY)
    assert "does not run with its new settings: unrecognized feature gate: Foo" in str(caught.value)
    assert "The old ones were restored, and it is healthy with them" in str(caught.value)
    assert "Foo" in str(caught.value) and "goroutine" not in str(caught.value)
    assert (node.runs_with, node.file.read_text(), node.starts) == (OLD, OLD, 2)
    assert foreign.read_text() == "theirs", "what was removed is back as well"
    assert node.restarts == 0, "or it would be said to be restarted again and again"
    assert not node.record.exists()


def test_a_kubelet_that_dies_of_both_is_said_to(node: Node) -> None:
    node.dies_of = {OLD, DEADLY}
    with pytest.raises(
        KubewrightError, match="does not run with them either: unrecognized"
    ) as caught:
        node.converge(DEADLY)
    assert "Correct the settings" not in str(caught.value), "they are not the cause"
    assert "fix the cause" in str(caught.value)


def test_one_that_does_not_run_for_other_reasons_is_not_said_to_have_its_old_ones(
    node: Node,
) -> None:
    node.dies_of, node.active = {OLD}, "failed"
    with pytest.raises(
        KubewrightError, match=r"does not run: unrecognized feature gate: Foo\. There"
    ):
        node.converge(OLD)


def test_what_was_not_there_before_is_removed_again(node: Node) -> None:
    node.file.unlink()
    node.dies_of = {DEADLY}
    node.active = "active"
    entries = node.wants(DEADLY)

    def gone(was_ready: bool) -> str:
        return "it dies" if node.file.exists() else ""

    settings = node.settings()
    settings.watch.trouble = gone  # type: ignore[method-assign]
    restart = node.__call__

    def run(argv: Any, **more: Any) -> Any:
        if list(argv)[1] == "restart" and not node.file.exists():
            return commands.Result(tuple(argv), 0, "", "")
        return restart(argv, **more)

    settings.services.run = run
    with pytest.raises(KubewrightError, match="The old ones were restored"):
        settings.converge(entries, kubelet_settings.wanted(entries, started=False))
    assert not node.file.exists()


def test_before_the_node_has_joined_nothing_is_watched(node: Node) -> None:
    node.active = "inactive"
    assert node.converge(DEADLY, joined=False)[0]
    assert (node.file.read_text(), node.starts, node.record.exists()) == (DEADLY, 0, False)


def test_one_that_somebody_stopped_is_left_to_who_starts_it(node: Node) -> None:
    node.active = "inactive"
    node.converge(DEADLY)
    assert (node.starts, node.record.exists()) == (0, True)
    entries = node.wants(DEADLY)
    with pytest.raises(KubewrightError, match="The old ones were restored, and it is healthy"):
        node.settings().converge(entries, kubelet_settings.wanted(entries, started=True))
    assert node.file.read_text() == OLD


def test_one_that_is_about_to_be_started_again_is_not_one_that_somebody_stopped(
    node: Node, monkeypatch: pytest.MonkeyPatch
) -> None:
    """systemd has it inactive for a moment before each start."""
    node.active, node.dies_of = "inactive", {OLD}
    monkeypatch.setattr(kubelet, "loop", lambda *_: "the kubelet has been restarted 9 times")
    with pytest.raises(
        KubewrightError, match=r"does not run: unrecognized feature gate: Foo\. There"
    ):
        node.converge(OLD)
    assert node.starts == 1
    node.converge(NEW)
    assert (node.runs_with, node.record.exists()) == (NEW, False)


def test_prediction_writes_nothing(node: Node) -> None:
    changes, report, _ = node.converge(DEADLY, predict=True)
    assert (len(changes), report.restarted) == (1, ["kubelet.service"])
    assert (node.file.read_text(), node.starts, node.record.exists()) == (OLD, 0, False)


def compared(node: Node, content: str, monkeypatch: pytest.MonkeyPatch) -> drift.Findings:
    monkeypatch.setattr(kubelet_settings, "RECORD", node.record.path)
    files = [
        {"path": str(node.file.parent), "state": "directory", "exclusive": "*.conf", **OWNER},
        {"path": str(node.file), "content": content, **OWNER},
    ]
    return drift.Comparison(node, JOINED).compare({"runtime": {"kubelet": {"files": files}}})


@pytest.mark.parametrize("lives", [True, False])
def test_a_run_that_is_killed_anywhere_is_ended_by_the_next(
    tmp_path: Path,
    every_kill: Callable[[Callable[[], object]], Iterator[int]],
    monkeypatch: pytest.MonkeyPatch,
    lives: bool,
) -> None:
    """At each point the old settings are in place, or the new ones are still named as drift."""
    content = NEW if lives else DEADLY
    nodes: list[Node] = []

    def action() -> None:
        try:
            nodes[-1].converge(content)
        except KubewrightError:
            assert not lives

    def points() -> Iterator[int]:
        nodes.append(Node(tmp_path / "0"))
        for step in every_kill(action):
            yield step
            nodes.append(Node(tmp_path / str(step + 1)))

    for step in points():
        node = nodes[-1]
        found = compared(node, content, monkeypatch)
        at_rest = node.file.read_text() == content and not node.record.exists()
        assert found.drift or at_rest, step
        node.active, node.started = "active", time.time() - 100
        if lives:
            node.converge(content)
            assert node.file.read_text() == NEW
        elif not at_rest:
            with pytest.raises(
                KubewrightError, match="The old ones were restored, and it is healthy"
            ):
                node.converge(content)
            assert node.file.read_text() == OLD
        assert not node.record.exists()
    assert len(nodes) > 5
