# SPDX-License-Identifier: Apache-2.0
"""Events to results, without Ansible; and the words of failures."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from kubewright.act.events import HostResult, PhaseStarted, Tally, TaskStarted
from kubewright.act.messages import HIDDEN, complaint, failure_message, plain
from kubewright.act.refusals import Refusals
from kubewright.act.result import HostTasks, Phase


def at(seconds: float, event: str, **data: Any) -> dict[str, Any]:
    return {
        "event": event,
        "created": f"2026-01-01T00:00:{seconds:09.6f}+00:00",
        "event_data": data,
    }


def result(seconds: float, kind: str, host: str, task: str = "T", **data: Any) -> dict[str, Any]:
    data.setdefault("task_action", "ansible.builtin.command")
    data.setdefault("task_uuid", "1")
    return at(seconds, kind, host=host, task=task, **data)


def fed(*raws: Mapping[str, Any]) -> Tally:
    tally = Tally()
    for raw in raws:
        tally.feed(raw)
    return tally


def test_counts_leave_out_localhost_skips_and_includes() -> None:
    tally = fed(
        result(1, "runner_on_ok", "a", res={"changed": True}),
        result(1, "runner_on_ok", "a", res={"changed": False}),
        result(1, "runner_on_ok", "localhost", res={"changed": False}),
        result(1, "runner_on_ok", "b", res={}, task_action="ansible.builtin.include_role"),
        result(1, "runner_on_skipped", "b"),
        result(1, "runner_item_on_ok", "b", res={"changed": True}),
        result(1, "runner_on_failed", "b", res={"msg": "x"}),
        result(1, "runner_on_unreachable", "c", res={"msg": "y"}),
    )
    assert tally.host_tasks() == HostTasks(ok=1, changed=1, failed=1, unreachable=1)
    assert tally.host_tasks().total == 4
    assert tally.host_counts == {"a": 2, "b": 1, "c": 1}
    assert tally.changed


def test_a_change_on_localhost_is_a_change_but_no_host_task() -> None:
    tally = fed(result(1, "runner_on_ok", "localhost", res={"changed": True}))
    assert (tally.changed, tally.host_tasks().total) == (True, 0)


def test_phases_have_durations_and_those_without_a_task_are_left_out() -> None:
    tally = fed(
        at(1, "playbook_on_play_start", name="One"),
        at(2, "playbook_on_task_start", task="t"),
        at(3, "playbook_on_play_start", name="Nobody"),
        at(3, "playbook_on_no_hosts_matched"),
        at(3.5, "playbook_on_play_start", name="Two"),
        at(4, "playbook_on_task_start", task="t"),
        at(9, "playbook_on_stats"),
    )
    assert tally.phases() == (Phase("One", 2.5), Phase("Two", 5.5))
    assert fed().phases() == ()


def test_events_for_people() -> None:
    tally = Tally()
    assert tally.feed(at(1, "playbook_on_play_start", name="P")) == PhaseStarted("P")
    assert tally.feed(at(1, "playbook_on_task_start", task="T")) == TaskStarted("P", "T")
    told = tally.feed(result(1, "runner_on_failed", "a", res={"msg": "m"}, ignore_errors=True))
    assert told == HostResult("P", "T", "a", "failed", "m", True)
    assert tally.feed(at(1, "playbook_on_include")) is None
    assert tally.feed({"event": "verbose", "stdout": "x"}) is None


def test_failures_when_statistics_are_missing() -> None:
    tally = fed(
        result(1, "runner_on_failed", "a", res={"msg": "x"}),
        result(1, "runner_on_failed", "b", res={"msg": "y"}, ignore_errors=True),
    )
    assert [(one.host, one.message) for one in tally.failures()] == [("a", "x")]


def test_failures_of_rescued_hosts_are_left_out() -> None:
    tally = fed(
        result(1, "runner_on_failed", "a", res={"msg": "x"}),
        result(1, "runner_on_failed", "b", res={"msg": "y"}),
        result(1, "runner_on_unreachable", "c", res={"msg": "z"}),
        at(2, "playbook_on_stats", failures={"b": 1}, dark={"c": 1}, rescued={"a": 1}),
    )
    assert [one.host for one in tally.failures()] == ["b", "c"]


def test_failed_items_of_a_loop_are_told_once_each() -> None:
    tally = fed(
        result(1, "runner_item_on_failed", "a", res={"msg": "x"}),
        result(1, "runner_item_on_failed", "a", res={"msg": "x"}),
        result(1, "runner_item_on_failed", "a", res={"msg": "y"}),
        result(2, "runner_on_failed", "a", res={"msg": "One or more items failed"}),
    )
    assert tally.failures()[0].message == "x; y"


@pytest.mark.parametrize(
    ("told", "words"),
    [
        ({"msg": "the reason"}, "the reason"),
        ({"msg": "non-zero return code", "rc": 3, "stderr": "no space"}, "status 3): no space"),
        ({"msg": "non-zero return code", "rc": 3}, "non-zero return code (exit status 3)"),
        ({"msg": "MODULE FAILURE\nSee", "module_stderr": "boom"}, "boom"),
        ({"stderr": "\n".join(str(n) for n in range(20))}, "\n19"),
        ({"censored": "hidden", "msg": "hunter2"}, "no_log"),
        ({}, "no reason given"),
    ],
)
def test_the_words_of_a_failure(told: dict[str, Any], words: str) -> None:
    message = failure_message(told)
    assert words in message
    assert "hunter2" not in message
    assert len(message.splitlines()) < 10


def test_the_words_of_ansible_itself() -> None:
    assert complaint(["Using /etc/x", "\x1b[0;31m[ERROR]: it is broken\x1b[0m", "see"]) == (
        "[ERROR]: it is broken\nsee"
    )
    assert complaint(["only", "this"]) == "only\nthis"
    assert complaint([]) == "ansible-playbook exited without a message"
    assert plain("a\r\n\x1b[1;32mb\x1b[0m") == "a\nb"


def test_of_a_hidden_result_nothing_is_told_but_what_code_of_ours_refuses(tmp_path: Path) -> None:
    told = Refusals(tmp_path / "refusals.jsonl")
    with (tmp_path / "refusals.jsonl").open("a") as file:
        line = {"text": "that is taken.\nChoose another.", "host": "a", "task": "t"}
        file.write(json.dumps({**line, "text": "an attempt before"}) + "\n")
        file.write(json.dumps(line) + "\n" + '{"text": "cut sho')
    raw = result(1, "runner_on_failed", "a", res={"censored": "x"}, task_uuid="t")
    assert fed(told.put_in(raw)).failures()[0].message == line["text"]
    for other in ({"task_uuid": "u"}, {"host": "b", "task_uuid": "t"}):
        data = {**raw["event_data"], **other}
        (failure,) = fed(told.put_in({**raw, "event_data": data})).failures()
        assert failure.message == HIDDEN
    assert "[ERROR]" in HIDDEN
    assert told.without_task() == ""


def test_of_a_filter_of_ours_its_sentence_is_told(tmp_path: Path) -> None:
    """Ansible says before it which task, variable and filter it was in."""
    told = Refusals(tmp_path / "refusals.jsonl")
    line = json.dumps({"text": "No API server.", "host": "", "task": ""})
    (tmp_path / "refusals.jsonl").write_text(f"{line}\n")
    begin = "Task failed: Finalization of task args failed: The filter plugin 'x' failed: "
    for message, words in (
        (f"{begin}No API server.", "No API server."),
        (f"{begin}No other one.", f"{begin}No other one."),
    ):
        raw = result(1, "runner_on_failed", "a", res={"msg": message})
        assert fed(told.put_in(raw)).failures()[0].message == words
    assert told.without_task() == "No API server."
