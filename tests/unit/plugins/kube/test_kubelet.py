# SPDX-License-Identifier: Apache-2.0
"""Why a kubelet died, in its own words, and what counts as one that is well."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from ansible_collections.kubewright.cluster.plugins.module_utils._base import commands
from ansible_collections.kubewright.cluster.plugins.module_utils._kube import kubelet
from ansible_collections.kubewright.cluster.plugins.module_utils._onnode import kubelet_died, report
from ansible_collections.kubewright.cluster.plugins.module_utils._services import systemd

GATE = (
    'E1129 20:14:05.123456   41 run.go:72] "command failed" err="failed to set feature gates from '
    'initial flags-based config: unrecognized feature gate: Foo"'
)
POLICY = (
    'E1129 20:14:05.1 41 kubelet.go:1850] "Failed to start ContainerManager" err="start cpu '
    'manager error: [cpumanager] unable to determine reserved CPU resources for static policy"'
)
INVALID = (
    'E1129 20:14:05.1 41 run.go:72] "command failed" err="failed to validate kubelet '
    "configuration, error: [invalid configuration: maxPods (MaxPods) -1 must not be a negative "
    "number], path: "
    '&TypeMeta{Kind:,APIVersion:,}"'
)
LINES = """\
E1129 20:14:05.1 41 run.go:72] "command failed" err=<
\tfailed to run Kubelet: first
\tsecond
 >
kubelet.service: Main process exited, code=exited, status=1/FAILURE
"""
PANIC = """\
I1129 20:14:05.1 41 server.go:1] "Starting"
panic: [cpumanager] unable to determine reserved CPU resources for static policy

goroutine 1 [running]:
k8s.io/kubernetes/pkg/kubelet/cm.NewContainerManager(0x1)
\tk8s.io/kubernetes/pkg/kubelet/cm/container_manager_linux.go:330 +0x1a
"""
STACK = "goroutine 1 [running]:\n" + "".join(f"\tmain.go:{line} +0x1\n" for line in range(20))


@pytest.mark.parametrize(
    ("journal", "expected"),
    [
        (
            f"{GATE}\n{STACK}kubelet.service: Failed with result 'exit-code'.\n",
            "failed to set feature gates from initial flags-based config: unrecognized feature "
            "gate: Foo",
        ),
        (
            f'{POLICY}\nI1129 20:14:07.1 52 server.go:1] "Starting"\n',
            "Failed to start ContainerManager: start cpu manager error: [cpumanager] unable to "
            "determine reserved CPU resources for static policy",
        ),
        (
            INVALID,
            "failed to validate kubelet configuration, [invalid configuration: maxPods (MaxPods) "
            "-1 must not be a negative number]",
        ),
        (LINES, "first second"),
        (PANIC, "[cpumanager] unable to determine reserved CPU resources for static policy"),
        (
            "panic: failed to merge global and in-flight KubeletConfiguration while setting "
            "defaults, error: unrecognized feature gate: Foo\n" + STACK,
            "unrecognized feature gate: Foo",
        ),
        ("Error: failed to parse kubelet flag: unknown flag: --foo\n", None),
        ('E1129 20:14:05.1 41 x.go:1] "Unable" err="no \\"such\\" file"', 'Unable: no "such" file'),
        ("kubelet.service: Started.\nsomething else\n", "something else"),
        ("", ""),
    ],
)
def test_the_reason_is_the_kubelets_own(journal: str, expected: str | None) -> None:
    if expected is None:
        expected = "failed to parse kubelet flag: unknown flag: --foo"
    assert kubelet_died.reason(journal) == expected


def test_a_later_start_does_not_hide_why_the_one_before_ended() -> None:
    noise = 'E1129 20:14:09.1 60 reflector.go:1] "Failed to watch" err="connection refused"'
    assert kubelet_died.reason(f"{GATE}\n{noise}\n").endswith("unrecognized feature gate: Foo")


FLAGS = 'KUBELET_KUBEADM_ARGS="--node-ip=192.0.2.1 --node-labels=a=b,c=d --provider-id=x://y"\n'


def test_one_flag_changes_and_the_others_stay() -> None:
    assert kubelet.flag_in(FLAGS, "node-ip") == "192.0.2.1"
    assert kubelet.flag_in(FLAGS, "node-labels") == "a=b,c=d"
    changed = kubelet.with_flag(FLAGS, "node-ip", "192.0.2.9")
    assert kubelet.flag_in(changed, "node-ip") == "192.0.2.9"
    assert kubelet.flag_in(changed, "node-labels") == "a=b,c=d"
    assert kubelet.flag_in(changed, "provider-id") == "x://y"
    assert changed.count("--node-ip") == 1
    assert changed.endswith('"\n')


@pytest.mark.parametrize("text", ["", "OTHER=1\n", 'KUBELET_KUBEADM_ARGS=""\n'])
def test_a_flag_that_is_not_there(text: str) -> None:
    assert kubelet.flag_in(text, "node-ip") is None
    assert kubelet.flag_in(kubelet.with_flag(text, "node-ip", "x"), "node-ip") == "x"


def unit(**told: Any) -> systemd.Unit:
    known = {
        "load": "loaded",
        "active": "active",
        "sub": "running",
        "file_state": "enabled",
        "needs_reload": False,
        "left_inactive": 0,
        "left_inactive_monotonic": 0,
    }
    return systemd.Unit(**{**known, **told})


RESTARTS = "kubelet.service: Scheduled restart job, restart counter is at {}.\n"
SECOND = 10**6


@pytest.mark.parametrize(
    ("now", "counted", "told"),
    [
        # It starts again and again; in between it is active.
        ({"restarts": 9, "left_inactive_monotonic": 999 * SECOND}, 9, True),
        ({"restarts": 9, "active": "activating", "sub": "auto-restart"}, 9, True),
        # As it is for a moment before each start.
        ({"restarts": 9, "active": "inactive"}, 9, True),
        # It did so long ago, or once.
        ({"restarts": 9, "left_inactive_monotonic": 900 * SECOND}, 9, False),
        ({"restarts": 9, "left_inactive_monotonic": 999 * SECOND}, 1, False),
        ({"restarts": 1, "left_inactive_monotonic": 999 * SECOND}, 9, False),
        ({"restarts": 1, "active": "inactive"}, 9, False),
    ],
)
def test_a_loop_is_told_with_its_reason(
    now: dict[str, Any], counted: int, told: bool, fake_runner: Callable[..., Any]
) -> None:
    journal = "".join(RESTARTS.format(number) for number in range(counted)) + GATE
    run = fake_runner(lambda _: (0, journal, ""))
    words = kubelet.loop(run, unit(**now), 5000.0, 1000 * SECOND)
    expected = (
        f"the kubelet has been restarted {counted} times in the last minute: failed to set feature "
        "gates from initial flags-based config: unrecognized feature gate: Foo"
    )
    assert words == (expected if told else "")
    if told:
        assert "--since=@4940.000000" in run.calls[0]


def test_a_kubelet_that_is_well_costs_no_look_into_the_journal(
    fake_runner: Callable[..., Any],
) -> None:
    run = fake_runner(lambda _: (1, "", ""))
    assert kubelet.loop(run, unit(), 5000.0, 1000 * SECOND) == ""
    assert run.calls == []


@pytest.mark.parametrize(
    ("now", "asked"),
    [
        ({"left_inactive_monotonic": 900 * SECOND}, True),
        ({"left_inactive_monotonic": 990 * SECOND}, False),  # it was just started
        ({"active": "activating", "left_inactive_monotonic": 900 * SECOND}, False),
    ],
)
def test_a_kubelet_that_stands_still_is_asked_itself(
    now: dict[str, Any], asked: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """systemd calls it active, and its Node stays Ready for most of a minute."""
    monkeypatch.setattr(
        kubelet.trial_node, "kubelet_trouble", lambda seconds: f"silent for {seconds:g} s"
    )
    words = kubelet.silent(unit(**now), 1000 * SECOND)
    assert words == ("silent for 2 s" if asked else "")


START = 1_800_000_000


class Node:
    """A kubelet: how it is at each look, by systemd, by itself and by the API."""

    def __init__(self) -> None:
        self.now = 0.0
        self.restarts: Callable[[float], int] = lambda _: 0
        self.active = "active"
        self.ill = ""
        self.seen: Callable[[float], kubelet.Sight] = lambda _: kubelet.Sight()

    def __call__(self, argv: Any, *, timeout: float = 0, stdin: str = "") -> Any:
        if argv[0] == "journalctl":
            return commands.Result(tuple(argv), 0, f"{GATE}\n{STACK}", "")
        stamp = time.strftime("%a %Y-%m-%d %H:%M:%S", time.gmtime(START))
        text = (
            f"LoadState=loaded\nActiveState={self.active}\nSubState=running\n"
            f"InactiveExitTimestamp={stamp}.500000 UTC\nNRestarts={self.restarts(self.now)}\n"
        )
        return commands.Result(tuple(argv), 0, text, "")

    def watch(self) -> kubelet.Watch:
        def sleep(seconds: float) -> None:
            self.now += seconds

        watch = kubelet.Watch(
            self, clock=lambda: self.now, sleep=sleep, healthy=lambda: self.ill, seconds=60
        )
        watch.see = lambda: self.seen(self.now)  # type: ignore[method-assign]
        return watch


def fresh(ready: bool = True) -> kubelet.Sight:
    return kubelet.Sight(ready=ready, reported=START + 1, renewed=START + 0.9, why="because")


def test_a_kubelet_that_reports_ready_after_its_start_is_well_at_once() -> None:
    node = Node()
    node.seen = lambda now: fresh() if now >= 3 else kubelet.Sight(ready=True, reported=START - 9)
    assert node.watch().trouble(was_ready=True) == ""
    assert node.now == 3


def test_what_the_old_one_reported_counts_for_nothing() -> None:
    """A Node stays Ready for most of a minute after its kubelet has died."""
    node = Node()
    stale = kubelet.Sight(ready=True, reported=START - 5, renewed=START - 5, why="posts status")
    node.seen = lambda _: stale
    assert "has not reported to the API since its start" in node.watch().trouble(was_ready=True)


def test_a_kubelet_that_dies_twice_is_given_up_with_its_reason() -> None:
    node = Node()
    node.restarts = lambda now: int(now // 3)
    node.seen = lambda _: kubelet.Sight(ready=True, reported=START - 5)
    told = node.watch().trouble(was_ready=True)
    assert told.endswith("unrecognized feature gate: Foo")
    assert node.now < 10


def test_a_node_that_was_ready_has_to_be_again() -> None:
    node = Node()
    node.seen = lambda _: fresh(ready=False)
    assert node.watch().trouble(was_ready=True) == "after 60 s its Node is not Ready: because"
    assert Node.watch(node).trouble(was_ready=False) == "", "it has other reasons"


def test_an_api_that_does_not_answer_condemns_nothing() -> None:
    node = Node()
    assert node.watch().trouble(was_ready=True) == ""
    assert node.now == kubelet.SETTLED_SECONDS
    node.now, node.ill = 0.0, "the kubelet answers with 500"
    assert node.watch().trouble(was_ready=True) == "after 60 s the kubelet answers with 500"


@pytest.mark.parametrize(
    ("text", "seconds"),
    [(None, 0.0), ("2027-01-15T08:00:00Z", START), ("2027-01-15T08:00:00.250000Z", START + 0.25)],
)
def test_times_of_the_api(text: str | None, seconds: float) -> None:
    assert kubelet.stamp(text) == seconds


def test_what_a_node_and_its_lease_say() -> None:
    ready = {
        "type": "Ready",
        "status": "True",
        "lastHeartbeatTime": "2027-01-15T08:00:00Z",
        "message": "kubelet is posting ready status",
    }
    node = {
        "metadata": {"labels": {"kubernetes.io/hostname": "a"}},
        "status": {"conditions": [ready]},
    }
    lease = {"spec": {"renewTime": "2027-01-15T08:00:00.250000Z"}}
    seen = kubelet.sight(node, lease)
    assert (seen.ready, seen.registered) == (True, True)
    assert seen.since(START + 0.2)
    assert not seen.since(START + 0.3), "the lease is of the kubelet before"
    gone = kubelet.sight(None, None)
    assert (gone.ready, gone.registered, gone.why) == (False, False, "the Node does not exist")
    assert kubelet.sight({**node, "metadata": {}}, lease).registered is False


def test_flags_that_were_never_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(kubelet, "FLAGS", tmp_path / "kubeadm-flags.env")
    assert kubelet.flag("node-ip") is None
    kubelet.FLAGS.write_text(FLAGS)
    assert kubelet.flag("node-ip") == "192.0.2.1"


@pytest.mark.parametrize(("counted", "told"), [(0, False), (1, False), (9, True)])
def test_a_node_tells_of_it_by_itself(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, counted: int, told: bool
) -> None:
    """As `status` asks it: its Node is Ready still."""
    (tmp_path / "config.yaml").touch()
    monkeypatch.setattr(report, "JOINED", tmp_path / "config.yaml")
    monkeypatch.setattr(report.daemons, "kubelet", lambda: "")
    journal = "".join(RESTARTS.format(number) for number in range(counted)) + GATE
    for name, text in {
        "systemctl": f"NRestarts={counted}\nActiveState=activating\n",
        "journalctl": journal,
    }.items():
        (tmp_path / f"{name}.txt").write_text(text)
        (tmp_path / name).write_text(f"#!/bin/sh\ncat {tmp_path}/{name}.txt\n")
        (tmp_path / name).chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")
    found = report.kubelet({})
    words = "the kubelet has been restarted 9 times in the last minute: failed to set feature gates"
    assert [one["text"].startswith(words) for one in found] == ([True] if told else [])
    over = {"file": "/x/kubelet-client-current.pem", "over": True}
    monkeypatch.setattr(report.expiry, "report", lambda _now: [over])
    remedy = "Its certificate has expired: 'kubewright apply' renews it."
    assert [one["remedy"] for one in report.kubelet({})] == ([remedy] if told else [])
    (tmp_path / "config.yaml").unlink()
    assert report.kubelet({}) == [], "a machine that has not joined runs none"
