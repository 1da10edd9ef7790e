# SPDX-License-Identifier: Apache-2.0
"""What all machines say together: copies, clocks, other clusters, and who does not answer."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any
from unittest import mock

import pytest
from ansible_collections.kubewright.cluster.plugins.action import preflight_report as action
from ansible_collections.kubewright.cluster.plugins.module_utils._check import refusals
from ansible_collections.kubewright.cluster.plugins.modules import preflight_report

from kubewright.act.remedies import remedy

SWAP = {"check": "swap", "severity": "fatal", "text": "Swap is on.", "remedy": "Off with it."}
ON_TIME = {"least": -0.6, "most": 0.7, "tolerated": 1.0}
CHANGED = "@@@\nWARNING: REMOTE HOST IDENTIFICATION HAS CHANGED!\nHost key verification failed."


def answer(name: str, phase: str = "none", findings: Any = (), **facts: Any) -> dict[str, Any]:
    """Of a good machine, but for *facts*."""
    clock = facts.pop("clock", ON_TIME)
    machine = {"hostname": name, "machine_id": name, "interface": "eth0", "mtu": 1500, **facts}
    membership = {"phase": phase, "cluster_id": None if phase == "none" else "ours"}
    found = {"findings": list(findings), "clock": clock}
    return {"machine": machine, "membership": membership, **found}


def silent(msg: str = "ssh: connect to host x port 22: Connection refused") -> dict[str, Any]:
    return {"unreachable": True, "msg": f"Failed to connect to the host via ssh: {msg}"}


def report(answers: dict[str, Any], check: bool = False, **options: Any) -> dict[str, Any]:
    given = {
        "answers": answers,
        "control_planes": [name for name in answers if name.startswith("cp")],
        "cluster_name": "demo",
        "cluster_id": "ours",
        "state_dir": "/state",
        "begun": False,
        "skip_unreachable": False,
        "in_no_pool": [],
        "claimed": [],
        "nodes": {},
        **options,
    }
    return preflight_report.run(given, check)


def told(result: dict[str, Any]) -> list[tuple[str, str, str]]:
    return [(one["host"], one["check"], one["severity"]) for one in result["findings"]]


def test_good_machines() -> None:
    result = report({name: answer(name) for name in ("cp-1", "web-1")})
    assert result == {"changed": False, "findings": [], "left_out": {}, "incomplete": False}


def test_all_findings_are_in_one_table_with_the_fatal_ones_first() -> None:
    small = {**SWAP, "check": "mtu", "severity": "warning"}
    answers = {"cp-1": answer("cp-1", findings=[small]), "web-1": answer("web-1", findings=[SWAP])}
    result = report(answers)
    assert told(result) == [("web-1", "swap", "fatal"), ("cp-1", "mtu", "warning")]
    assert result["failed"]
    lines = result["msg"].splitlines()
    assert lines[0] == ("1 finding on web-1 must be fixed first. No machine was changed.")
    assert lines[2] == "FATAL    web-1  swap  Swap is on."
    assert lines[3].strip() == "-> Off with it."
    assert lines[4].startswith("warning  cp-1")


def impeded(name: str, *about: list[str]) -> dict[str, Any]:
    """A node through which traffic does not flow, as far as others are concerned."""
    found = [{"text": f"{one or 'DNS'}.", "remedy": "Look.", "about": one} for one in about]
    return {**answer(name, "joined"), "traffic": found}


def test_traffic_that_does_not_flow_is_a_warning_of_each_node() -> None:
    result = report({"cp-1": impeded("cp-1", []), "web-1": answer("web-1", "joined")}, begun=True)
    assert told(result) == [("cp-1", "traffic", "warning")]
    assert (result["findings"][0]["text"], result["failed"]) == ("DNS.", False)


def test_a_node_that_is_not_there_is_told_once() -> None:
    """By its own silence, or not at all: it has not joined yet."""
    answers = {
        "cp-1": impeded("cp-1", ["web-1"], ["web-2"], ["cp-2", "web-1"]),
        "cp-2": answer("cp-2", "joined"),
        "web-1": silent(),
        "web-2": answer("web-2"),
    }
    found = [one for one in report(answers, begun=True)["findings"] if one["check"] == "traffic"]
    assert [one["text"] for one in found] == ["['cp-2', 'web-1']."]


def test_a_deleted_node_is_not_told_as_trouble_of_its_traffic() -> None:
    """That it is registered again is said already, and no firewall is to blame."""
    answers = {
        "cp-1": impeded("cp-1", ["web-1"], ["cp-2", "web-1"]),
        "cp-2": answer("cp-2", "joined"),
        "web-1": {**impeded("web-1", ["cp-1"], []), "node_missing": True},
    }
    found = [one for one in report(answers, begun=True)["findings"] if one["check"] == "traffic"]
    assert [(one["host"], one["text"]) for one in found] == [("cp-1", "['cp-2', 'web-1'].")]


def test_a_plan_reports_and_does_not_fail() -> None:
    result = report({"cp-1": answer("cp-1", findings=[SWAP])}, check=True)
    assert (result["failed"], told(result)) == (False, [("cp-1", "swap", "fatal")])


def test_warnings_alone_do_not_fail() -> None:
    result = report({"cp-1": answer("cp-1", findings=[{**SWAP, "severity": "warning"}])})
    assert result["failed"] is False
    assert result["msg"].startswith("No problems found.")


@pytest.mark.parametrize("phase", ["joined", "partial"])
def test_nodes_of_another_cluster_are_refused(phase: str) -> None:
    theirs = answer("web-1", phase)
    theirs["membership"]["cluster_id"] = "theirs"
    answers = {"cp-1": answer("cp-1", "joined"), "web-1": theirs}
    result = report(answers, begun=True)
    assert told(result) == [("web-1", "cluster", "fatal")] and result["failed"]
    (found,) = result["findings"]
    assert (
        "part of another cluster (theirs), not of demo as recorded in /state "
        "(ours)" in found["text"]
    )
    assert "KUBEWRIGHT_STATE_DIR" in found["remedy"]
    assert report(answers, cluster_id="")["findings"] == []


@pytest.mark.parametrize(("phase", "severity"), [("none", "fatal"), ("joined", "warning")])
def test_copies_of_a_machine(phase: str, severity: str) -> None:
    same = {name: answer(name, phase, machine_id="same") for name in ("web-1", "web-2")}
    result = report({"cp-1": answer("cp-1"), **same})
    assert told(result) == [(name, "machine-id", severity) for name in same]
    assert "as web-2:" in result["findings"][0]["text"]
    # That there is none is said by the machine itself.
    none = {name: answer(name, machine_id="") for name in ("web-1", "web-2")}
    assert report(none)["findings"] == []


def test_the_same_hostname() -> None:
    names = ("web-1", "web-2", "web-3")
    result = report({name: answer(name, hostname="debian") for name in names})
    assert told(result) == [(name, "hostname", "warning") for name in names]
    assert "the same hostname (debian) as web-2, web-3;" in result["findings"][0]["text"]
    assert "set-hostname web-1" in result["findings"][0]["remedy"]


def test_of_many_hosts_the_first_are_named() -> None:
    names = [f"web-{number}" for number in range(1, 7)]
    same = {name: answer(name, machine_id="same") for name in names}
    result = report(same)
    first, *_, last = result["findings"]
    assert "as web-2, web-3, web-4 and 2 more: one is" in first["text"]
    assert "as web-1, web-2, web-3 and 2 more: one is" in last["text"]
    assert result["msg"].startswith("6 findings on web-1, web-2, web-3 and 3 more must be fixed")


def test_each_answer_is_read_a_few_times_however_many_there_are() -> None:
    class Counted(dict[str, Any]):
        read = 0

        def __contains__(self, key: object) -> bool:
            Counted.read += 1
            return super().__contains__(key)

    count = 50
    answers: dict[str, Any] = {f"web-{number}": Counted(silent()) for number in range(count)}
    report(answers, begun=True)
    assert Counted.read <= 3 * count


def test_packets_of_different_sizes() -> None:
    sizes = {"cp-1": 1500, "web-1": 1500, "web-2": 9000, "web-3": 0}
    result = report({name: answer(name, mtu=size) for name, size in sizes.items()})
    assert told(result) == [("web-2", "mtu", "warning")]
    assert "eth0 is 9000, but 1500 on others (such as cp-1)" in result["findings"][0]["text"]


def clocks(**offsets: tuple[float, float]) -> dict[str, Any]:
    return {
        name: answer(name, clock={"least": least, "most": most, "tolerated": 1.0})
        for name, (least, most) in offsets.items()
    }


def test_a_clock_that_is_surely_wrong() -> None:
    result = report(clocks(a=(-0.5, 0.5), b=(3.2, 4.1), c=(-9.0, -8.5)))
    assert told(result) == [("b", "clock", "fatal"), ("c", "clock", "fatal")]
    assert "3.2 to 4.1 s ahead of this machine's" in result["findings"][0]["text"]
    assert "8.5 to 9.0 s behind this machine's" in result["findings"][1]["text"]


def test_a_clock_that_may_be_right_is_not_accused() -> None:
    """The answer of a busy machine took long."""
    assert report(clocks(a=(-0.5, 0.5), b=(0.9, 60.0), c=(-60.0, -0.9)))["failed"] is True
    assert report(clocks(a=(-0.5, 0.5), b=(0.9, 60.0)))["findings"] == []


def test_clocks_that_surely_differ_from_each_other() -> None:
    result = report(clocks(a=(-0.1, 0.1), b=(0.9, 1.4), c=(-1.2, -0.6)))
    assert told(result) == [("b", "clock", "fatal"), ("c", "clock", "fatal")]
    assert "1.5 s or more off c's" in result["findings"][0]["text"]


def test_where_all_machines_agree_it_is_our_own_clock() -> None:
    result = report(clocks(a=(59.5, 60.4), b=(59.7, 60.5)))
    assert told(result) == [("localhost", "clock", "fatal")]
    assert "this machine's clock is 59.5 to 60.4 s behind" in result["findings"][0]["text"]


def test_the_clock_of_a_node_at_work_is_a_warning() -> None:
    answers = clocks(a=(-0.5, 0.5), b=(3.2, 4.1))
    answers["b"]["membership"]["phase"] = "joined"
    result = report(answers, cluster_id="")
    assert told(result) == [("b", "clock", "warning")]


def three(silent_ones: tuple[str, ...]) -> dict[str, Any]:
    names = ("cp-1", "cp-2", "cp-3", "web-1")
    return {name: silent() if name in silent_ones else answer(name) for name in names}


def test_who_does_not_answer_at_first() -> None:
    result = report(three(("cp-3", "web-1")))
    assert told(result) == [("cp-3", "ssh", "fatal"), ("web-1", "ssh", "fatal")]
    assert "--skip-unreachable" in result["findings"][0]["remedy"]
    assert list(result["left_out"]) == ["cp-3", "web-1"]


def test_who_does_not_answer_at_first_may_be_left_out_by_agreement() -> None:
    result = report(three(("cp-3", "web-1")), skip_unreachable=True)
    assert told(result) == [("cp-3", "ssh", "warning"), ("web-1", "ssh", "warning")]
    assert (result["failed"], result["incomplete"]) == (False, False)
    assert result["left_out"]["cp-3"].endswith("(connection refused). It is left out.")


def test_a_minority_of_control_planes_does_not_begin_a_cluster() -> None:
    result = report(three(("cp-2", "cp-3")), skip_unreachable=True)
    assert told(result) == [("cp-2", "ssh", "fatal"), ("cp-3", "ssh", "fatal")]
    words = "more than half of the control planes answer; 1 of 3 do"
    assert words in result["findings"][0]["remedy"]


def test_a_begun_cluster_goes_on_without_and_ends_red() -> None:
    result = report(three(("web-1",)), begun=True)
    assert told(result) == [("web-1", "ssh", "warning")]
    assert (result["failed"], result["incomplete"]) == (False, True)
    assert report(three(("web-1",)), begun=True, skip_unreachable=True)["incomplete"] is False


@pytest.mark.parametrize(
    ("provider", "words"),
    [
        ("static", "If it is off, power it on yourself: with its power button"),
        ("local", "If it is off, the next `kubewright apply` powers it on, and so does the"),
        ("", "Power it on. "),
    ],
)
def test_how_a_machine_that_is_off_is_switched_on(provider: str, words: str) -> None:
    dead = "ssh: connect to host x port 22: No route to host"
    nodes = {"web-1": {"provider": provider}} if provider else {}
    answers = {"cp-1": answer("cp-1"), "web-1": silent(dead), "web-2": {}, "web-3": silent()}
    found = report(answers, nodes={**nodes, "web-2": {"provider": provider}}, begun=True)
    remedies = {one["host"]: one["remedy"] for one in found["findings"]}
    assert remedies["web-1"].startswith(words)
    assert remedies["web-1"].endswith(" Check the address and this machine's network.")
    assert remedies["web-2"].startswith(words)
    # Who refuses has power.
    assert remedies["web-3"].startswith("Start sshd there")
    if provider == "local":
        assert "kubewright.cluster.power_on with -e kubewright_target=web-1." in remedies["web-1"]


def test_who_answers_and_fails_is_not_silent() -> None:
    damaged = {"failed": True, "msg": "/var/lib/kubewright/kubeadm.json is damaged."}
    answers = {"cp-1": answer("cp-1"), "web-1": damaged}
    result = report(answers, skip_unreachable=True)
    assert told(result) == [("web-1", "probe", "fatal")] and result["incomplete"]
    assert "kubeadm.json is damaged" in result["findings"][0]["text"]
    result = report(answers, begun=True, skip_unreachable=True)
    assert told(result) == [("web-1", "probe", "warning")] and result["incomplete"]


def test_a_machine_that_is_not_there() -> None:
    assert told(report({"cp-1": answer("cp-1"), "web-1": {}})) == [("web-1", "machine", "fatal")]


@pytest.mark.parametrize(
    ("said", "check", "words"),
    [
        (CHANGED, "ssh", "SSH host key has changed"),
        (
            "Certificate invalid: name is not a listed principal\n"
            "No ED25519 host key is known for x.\nHost key verification failed.",
            "ssh",
            "certificate is not valid",
        ),
        (
            "No ED25519 host key is known for x.\nHost key verification failed.",
            "ssh",
            "key is unknown",
        ),
        (
            "Permissions 0644 for 'k' are too open.\nUNPROTECTED PRIVATE KEY FILE!",
            "ssh",
            "private key",
        ),
        ("root@x: Permission denied (publickey).", "ssh", "permission denied"),
        ("connect to host x port 22: Connection refused", "ssh", "connection refused"),
        ("connect to host x port 22: Connection timed out", "ssh", "timed out"),
        ("connect to host x port 22: No route to host", "ssh", "no route to host"),
        (
            "Could not resolve hostname x: Name or service not known",
            "ssh",
            "name can't be resolved",
        ),
        (
            "kex_exchange_identification: read: Connection reset by peer",
            "ssh",
            "closed the connection",
        ),
        ("Timeout, server x not responding.", "ssh", "timed out"),
        ("Timeout (12s) waiting for privilege escalation prompt:", "sudo", "in time"),
        ("Missing sudo password", "sudo", "asks for a password"),
        ("sudo: a password is required", "sudo", "asks for a password"),
        ("sudo: sorry, you must have a tty to run sudo", "sudo", "requiretty"),
        ("me is not in the sudoers file.", "sudo", "may not become root"),
        ("The module interpreter '/usr/bin/python3' was not found.", "python", "no Python"),
        ("/bin/sh: 1: /usr/bin/python3: not found", "python", "no Python"),
        ("mkdir: cannot create directory: No space left on device", "disk", "disk is full"),
        ("Failed to create temporary directory. In some cases", "disk", "can't write"),
    ],
)
def test_why_a_host_does_not_answer(said: str, check: str, words: str) -> None:
    found = refusals.explain(f"Failed to connect to the host via ssh: {said}")
    assert found is not None
    assert (found.check, words in found.text) == (check, True), found
    assert found.remedy.endswith(".")
    of_any = found.of("web-1", "")
    assert remedy(said) == f"{of_any.text} {of_any.remedy}", "the command says the same"


def test_a_reason_that_is_not_known_is_told_as_it_is() -> None:
    assert refusals.explain("something else") is None
    (found,) = report({"web-1": silent("one\ntwo\nsomething else\n")}, begun=True)["findings"]
    assert found["text"].endswith("one two something else It is left out.")


def test_what_does_not_end_the_run_is_shown_as_warnings() -> None:
    plugin = action.ActionModule.__new__(action.ActionModule)
    plugin._task = SimpleNamespace(check_mode=False)
    options = {"control_planes": [], "cluster_name": "", "cluster_id": "", "state_dir": ""}
    given: dict[str, Any] = {**options, "begun": False, "skip_unreachable": False}
    given |= {"in_no_pool": [], "claimed": [], "nodes": {}}
    for severity, shown in (("warning", 1), ("fatal", 0)):
        answers = {"cp-1": answer("cp-1", findings=[{**SWAP, "severity": severity}])}
        with mock.patch.object(action.display, "warning") as warning:
            plugin.work({**given, "answers": answers})
        assert warning.call_count == shown


def test_machines_that_no_pool_has_are_shown_after_all_others() -> None:
    spare = {"name": "demo-old-1", "provider": "local", "address": "192.0.2.9"}
    result = report({"cp-1": answer("cp-1", findings=[SWAP])}, check=True, in_no_pool=[spare])
    found = [("cp-1", "swap", "fatal"), ("demo-old-1", "machine", "warning")]
    assert told(result) == found
    assert "at the provider local, but is in no pool" in result["findings"][1]["text"]
    assert "fatal" not in report({"cp-1": answer("cp-1")}, in_no_pool=[spare])["msg"]


def test_machines_that_were_claimed_are_told_and_why_one_is_silent_stays() -> None:
    answers = {"cp-1": answer("cp-1"), "web-1": silent()}
    result = report(answers, begun=True, claimed=["cp-1", "web-1"])
    assert [one["host"] for one in result["findings"]] == ["cp-1", "web-1", "web-1"]
    assert "now carries that of demo (ours)" in result["findings"][0]["text"]
    assert result["left_out"]["web-1"].endswith("It is left out.")
