# SPDX-License-Identifier: Apache-2.0
"""What events tell beside the counts: findings, who does not answer, who is at what, changes."""

from __future__ import annotations

from typing import Any

from kubewright.act import Change, Finding, HostIdle, HostResult, HostSays, HostStarted
from kubewright.act.events import Tally
from kubewright.act.findings import in_one_sentence, read_findings

REPORT = "kubewright.cluster.preflight_report"
SWAP = {
    "host": "a",
    "check": "swap",
    "severity": "fatal",
    "text": "swap is on",
    "remedy": "swapoff -a",
}
CLOCK = {**SWAP, "check": "clock", "severity": "warning"}


def raw(kind: str, host: str = "localhost", **data: Any) -> dict[str, Any]:
    data.setdefault("task_action", "ansible.builtin.command")
    return {"event": kind, "event_data": {"host": host, "task": "T", "task_uuid": "1", **data}}


def test_findings_of_a_report_that_fails() -> None:
    tally = Tally()
    told = tally.feed(
        raw(
            "runner_on_failed",
            task_action=REPORT,
            res={"msg": "FATAL  a  swap  ...\nwarning ...", "findings": [CLOCK, SWAP]},
        )
    )
    assert isinstance(told, HostResult)
    assert [one.check for one in told.findings] == ["swap", "clock"], "fatal ones first"
    assert told.findings == tally.findings
    assert told.findings[0] == Finding(**SWAP)  # type: ignore[arg-type]
    message = "the preflight found 1 problem that has to be fixed first: a"
    assert told.message == message
    assert tally.failures()[0].message == message


def test_findings_of_a_report_that_is_content() -> None:
    tally = Tally()
    tally.feed(raw("runner_on_ok", task_action=REPORT, res={"findings": [CLOCK]}))
    assert [one.fatal for one in tally.findings] == [False]


def test_a_report_that_breaks_says_why() -> None:
    tally = Tally()
    tally.feed(raw("runner_on_failed", task_action=REPORT, res={"msg": "no such option"}))
    assert tally.failures()[0].message == "no such option"


def test_what_is_damaged_is_told_as_far_as_it_goes() -> None:
    found = read_findings({"findings": ["x", {"host": "a", "severity": "odd"}]})
    assert found == (Finding("a", "", "fatal", "", ""),)
    assert read_findings({}) == ()


def test_no_field_can_command_a_terminal() -> None:
    evil = {key: f"{value}\x1b]0;title\x07\x9b31m" for key, value in SWAP.items()}
    evil["severity"] = "fatal"
    assert read_findings({"findings": [evil]}) == (Finding(**SWAP),)  # type: ignore[arg-type]


def test_many_hosts_are_counted() -> None:
    found = [Finding(f"n{number}", "swap", "fatal", "", "") for number in range(8)]
    assert in_one_sentence(found) == (
        "the preflight found 8 problems that have to be fixed first: n0, n1, n2, n3, n4 and 3 more"
    )


def test_only_who_did_not_answer_until_the_end_is_unreachable() -> None:
    tally = Tally()
    lost = {"msg": "Task failed: Failed to connect to the host via ssh: ssh: x: No route to host"}
    tally.feed(raw("runner_on_unreachable", "a", res=lost))
    tally.feed(raw("runner_on_unreachable", "b", res=lost))
    tally.feed(raw("runner_on_ok", "b", res={}))
    assert tally.unreachable == {"a": "x: No route to host"}


def test_what_a_running_task_says_is_told() -> None:
    tally = Tally()
    said = "\x1b[0mkubewright: web-1: waits for shop/cart\x1b[0m\n"
    assert tally.feed({"event": "verbose", "stdout": said}) == HostSays(
        "web-1", "waits for shop/cart"
    )
    assert tally.feed({"event": "verbose", "stdout": "it says: kubewright: a: b"}) is None


def test_begin_and_end_of_each_task_on_a_host() -> None:
    tally = Tally()
    assert tally.feed(raw("runner_on_start", "a")) == HostStarted("T", "a")
    assert tally.feed(raw("runner_on_skipped", "a")) == HostIdle("a")
    include = raw("runner_on_ok", "a", res={}, task_action="ansible.builtin.include_role")
    assert tally.feed(include) == HostIdle("a")
    probe = raw("runner_on_ok", "a", res={"drift": {}}, task_action="kubewright.cluster.node_state")
    told = tally.feed(probe)
    assert isinstance(told, HostResult)
    assert told.answer == {"drift": {}}


def test_changes_with_their_differences() -> None:
    tally = Tally()
    text = {"before": "a", "after": "b"}
    data = {"before": {"mode": "0600"}, "after": {"mode": "0644"}}
    tally.feed(raw("runner_on_ok", "a", res={"changed": True, "diff": [text, data]}))
    tally.feed(raw("runner_on_ok", "b", res={"changed": False, "diff": text}))
    looped = {"changed": True, "results": [{"diff": text}, {"diff": {"prepared": "x"}}]}
    tally.feed(raw("runner_on_ok", "c", res=looped))
    mode = {"before": '{\n    "mode": "0600"\n}\n', "after": '{\n    "mode": "0644"\n}\n'}
    assert tally.changes == [
        Change("a", "T", (text, mode)),
        Change("c", "T", (text, {"prepared": "x"})),
    ]
