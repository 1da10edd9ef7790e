# SPDX-License-Identifier: Apache-2.0
"""Events to traces: begins and durations, also when hosts run ahead and when a run is cut."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from kubewright.act.trace import Trace, TraceError, Tracer

BEGAN = datetime(2026, 1, 1, tzinfo=UTC)


def moment(seconds: float) -> str:
    return (BEGAN + timedelta(seconds=seconds)).isoformat()


def at(seconds: float, event: str, stdout: str = "", **data: Any) -> dict[str, Any]:
    return {"event": event, "created": moment(seconds), "stdout": stdout, "event_data": data}


def play(seconds: float, name: str) -> dict[str, Any]:
    return at(seconds, "playbook_on_play_start", name=name)


def task(seconds: float, name: str) -> dict[str, Any]:
    return at(seconds, "playbook_on_task_start", task=name, name=name)


def start(seconds: float, host: str, name: str, **data: Any) -> dict[str, Any]:
    data = {"task_action": "ansible.builtin.command", "task_uuid": name, **data}
    return at(seconds, "runner_on_start", host=host, task=name, **data)


def end(
    begun: float, seconds: float, host: str, name: str, kind: str = "ok", **data: Any
) -> dict[str, Any]:
    data = {"task_action": "ansible.builtin.command", "task_uuid": name, "res": {}, **data}
    times = {"start": moment(begun), "end": moment(seconds), "duration": seconds - begun}
    # What is written about a task comes a little after its end.
    return at(seconds + 0.004, f"runner_on_{kind}", host=host, task=name, **times, **data)


def traced(seconds: float, *raws: dict[str, Any]) -> Trace:
    tracer = Tracer("20260101T000000-00000000", "kubewright.cluster.site", BEGAN)
    for raw in raws:
        tracer.feed(raw)
    return tracer.trace(seconds)


def spans(trace: Trace) -> list[tuple[str, str, float, float, str]]:
    return [(one.host, one.task, one.began, one.seconds, one.outcome) for one in trace.tasks]


def test_outcomes_and_what_costs_nothing() -> None:
    trace = traced(
        9,
        play(1, "P"),
        task(1, "T"),
        start(1, "a", "T"),
        start(1, "b", "T"),
        start(1, "c", "T"),
        start(1, "d", "T"),
        end(1, 2, "a", "T", res={"changed": True}),
        end(1, 3, "b", "T", "failed", res={"msg": "x"}),
        end(1, 4, "c", "T", "unreachable"),
        end(1, 1.5, "d", "T", "skipped"),
        start(5, "a", "I", task_action="ansible.builtin.include_role"),
        end(5, 5.5, "a", "I", task_action="ansible.builtin.include_role"),
        start(6, "localhost", "L"),
        end(6, 6.5, "localhost", "L", res={"changed": True}),
    )
    assert spans(trace) == [
        ("a", "T", 1, 1, "changed"),
        ("b", "T", 1, 2, "failed"),
        ("c", "T", 1, 3, "unreachable"),
        ("localhost", "L", 6, 0.5, "changed"),
    ]
    assert (trace.changed, trace.host_tasks) == (1, 3)


def test_phases_have_begins_and_those_without_a_task_are_left_out() -> None:
    trace = traced(
        10,
        play(1, "One"),
        task(2, "T"),
        play(3, "Nobody"),
        play(3.5, "Two"),
        task(4, "T"),
        at(9, "playbook_on_stats"),
    )
    assert [(one.name, one.began, one.seconds) for one in trace.phases] == [
        ("One", 1, 2.5),
        ("Two", 3.5, 5.5),
    ]
    assert trace.seconds == 10


def test_hosts_that_run_ahead_of_each_other() -> None:
    """With strategy free a task begins for one host while another is at the next one."""
    trace = traced(
        9,
        play(0, "P"),
        task(0, "T1"),
        start(0, "a", "T1"),
        start(0.1, "b", "T1"),
        end(0, 1, "a", "T1"),
        task(1, "T2"),
        start(1, "a", "T2"),
        end(1, 2, "a", "T2"),
        end(0.1, 5, "b", "T1"),
        task(5, "T2"),
        start(5, "b", "T2"),
        end(5, 8, "b", "T2"),
        at(8.5, "playbook_on_stats"),
    )
    assert spans(trace) == [
        ("a", "T1", 0, 1, "ok"),
        ("b", "T1", 0.1, 4.9, "ok"),
        ("a", "T2", 1, 1, "ok"),
        ("b", "T2", 5, 3, "ok"),
    ]
    assert [one.name for one in trace.phases] == ["P"]


def test_a_run_that_was_cut_has_tasks_without_an_end() -> None:
    trace = traced(
        7,
        play(1, "P"),
        task(1, "T"),
        start(1, "a", "T"),
        start(2, "b", "T"),
        end(1, 3, "a", "T"),
        start(4, "c", "I", task_action="ansible.builtin.include_tasks"),
    )
    assert spans(trace) == [("a", "T", 1, 2, "ok"), ("b", "T", 2, 5, "unfinished")]
    assert (trace.phases[0].began, trace.phases[0].seconds) == (1, 6)
    assert trace.host_tasks == 1


def test_a_task_whose_end_was_lost_lasts_until_the_host_does_the_next_one() -> None:
    trace = traced(
        9, start(1, "a", "T1"), start(4, "a", "T2"), end(4, 5, "a", "T2"), end(6, 7, "a", "T3")
    )
    assert spans(trace) == [
        ("a", "T1", 1, 3, "unfinished"),
        ("a", "T2", 4, 1, "ok"),
        ("a", "T3", 6, 1, "ok"),
    ]


def test_an_end_that_does_not_tell_its_times() -> None:
    silent = {"start": None, "end": None}
    bare = at(3, "runner_on_ok", host="a", task="T", task_uuid="T", task_action="x", **silent)
    assert spans(traced(9, start(1, "a", "T"), bare)) == [("a", "T", 1, 2, "ok")]
    assert spans(traced(9, bare)) == [("a", "T", 3, 0, "ok")]


def test_delegated_tasks_name_the_host_that_did_them() -> None:
    """Also when the result is hidden, in a loop, in colours, and when the address is its name."""
    hidden = {"censored": "the output has been hidden"}
    looped = at(
        4, "runner_item_on_ok", "ok: [b -> cp-2] => (item=1)", host="b", task="L", task_uuid="L"
    )
    trace = traced(
        9,
        start(1, "a", "T"),
        {
            **end(1, 2, "a", "T", res=hidden),
            "stdout": "\x1b[0;33mchanged: [a -> cp-1(10.0.0.1)]\x1b[0m",
        },
        start(3, "b", "L"),
        looped,
        end(3, 5, "b", "L"),
        start(6, "a", "S"),
        {**end(6, 7, "a", "S", "failed"), "stdout": "fatal: [a]: FAILED! => ok: [a -> no]"},
    )
    assert [(one.host, one.delegated) for one in trace.tasks] == [
        ("a", "cp-1"),
        ("b", "cp-2"),
        ("a", None),
    ]


def test_roles_have_short_names_and_others_belong_to_their_phase() -> None:
    trace = traced(
        9,
        play(0, "P"),
        start(1, "a", "T", role="kubewright.cluster.cni"),
        end(1, 2, "a", "T", role="kubewright.cluster.cni"),
        end(3, 4, "a", "U"),
    )
    assert [(one.role, one.part) for one in trace.tasks] == [("cni", "cni"), ("", "P")]


def test_a_clock_that_was_set_back_gives_no_negative_times() -> None:
    trace = traced(9, play(-5, "P"), task(-5, "T"), start(-5, "a", "T"), end(-5, -6, "a", "T"))
    assert spans(trace) == [("a", "T", 0, 0, "ok")]


def test_nothing_of_arguments_and_results_is_in_a_trace() -> None:
    secret = {"changed": True, "stdout": "hunter2", "invocation": {"module_args": "hunter2"}}
    trace = traced(
        9,
        start(1, "a", "T", task_args="hunter2"),
        {**end(1, 2, "a", "T", res=secret, task_args="hunter2"), "stdout": "changed: [a] hunter2"},
    )
    assert "hunter2" not in trace.text()
    assert set(json.loads(trace.text())["tasks"][0]) == {
        "phase",
        "role",
        "task",
        "action",
        "host",
        "delegated",
        "began",
        "seconds",
        "outcome",
    }


def test_a_trace_survives_its_file() -> None:
    trace = traced(9, play(0, "P"), task(0, "T"), start(1, "a", "T"), end(1, 2, "a", "T"))
    assert Trace.parse(trace.text()) == trace
    assert json.loads(trace.text()) == trace.as_dict()
    assert trace.as_dict()["schema"] == 1
    assert trace.as_dict()["began"] == "2026-01-01T00:00:00Z"


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"schema": 2}, "schema"),
        ({"seconds": -1}, "seconds"),
        ({"tasks": [{"host": "a"}]}, "tasks.0"),
        ({"password": "hunter2"}, "password"),
    ],
)
def test_a_damaged_trace_says_where(change: dict[str, Any], words: str) -> None:
    data = {**traced(9).as_dict(), **change}
    with pytest.raises(TraceError, match=words) as caught:
        Trace.parse(json.dumps(data))
    assert "hunter2" not in str(caught.value)


@pytest.mark.parametrize("text", [b"", b"{", b"[]", b"\xff\xfe"])
def test_what_is_no_trace_at_all(text: bytes) -> None:
    with pytest.raises(TraceError):
        Trace.parse(text)
