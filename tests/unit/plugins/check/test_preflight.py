# SPDX-License-Identifier: Apache-2.0
"""Whether a machine can be a node: facts to findings, by the table of bad machines."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml
from ansible_collections.kubewright.cluster.plugins.module_utils._base import findings
from ansible_collections.kubewright.cluster.plugins.module_utils._check import moved, preflight
from ansible_collections.kubewright.cluster.plugins.module_utils._machine import leftovers

BAD: dict[str, dict[str, Any]] = yaml.safe_load(
    (Path(__file__).parents[3] / "data/bad_machines.yml").read_text()
)
ADDRESS = "192.0.2.11"
DESIRED: dict[str, Any] = {
    "role": "control_plane",
    "architectures": ["x86_64"],
    "cgroup_versions": [2],
    "allow_swap": False,
    "python": "3.10",
    "cpus": 2,
    "memory_mib": 1700,
    "mtu": 1280,
    "image": True,
    "version": "1.37.2",
}
MACHINE: dict[str, Any] = {
    "root": True,
    "systemd": True,
    "python": "3.11.2",
    "architecture": "x86_64",
    "cgroup": 2,
    "swap": [],
    "cpus": 2,
    "memory": 2 << 30,
    "machine_id": "5f2b",
    "kernel": "6.1.0",
    "addresses": {"127.0.0.1": "lo", ADDRESS: "eth0"},
    "interface": "eth0",
    "mtu": 1500,
}
FACTS: dict[str, Any] = {
    "volume": {},
    "prepared": False,
    "listeners": [],
    "modules": {},
    "disks": [
        {"mount": "/", "free": 30_000_000_000, "volume": {"/v": 20_000_000_000}, "room": {"/c": 5}}
    ],
    "resolver": {"file": "/etc/resolv.conf", "missing": False, "empty": False, "loopback": []},
    "leftovers": [],
}


def judge(case: dict[str, Any]) -> list[findings.Finding]:
    facts = {**FACTS, **case.get("facts", {}), "machine": {**MACHINE, **case.get("machine", {})}}
    return preflight.judge({**DESIRED, **case.get("desired", {})}, facts, case.get("address"))


def test_a_good_machine() -> None:
    assert judge({"address": ADDRESS}) == []


@pytest.mark.parametrize("name", BAD)
def test_a_bad_machine_has_one_finding(name: str) -> None:
    (found,) = judge({"address": ADDRESS, **BAD[name]})
    expected = BAD[name]["finds"]
    assert (found.check, found.severity) == (expected["check"], expected["severity"])
    assert expected["text"] in found.text
    assert expected["remedy"] in found.remedy
    for sentence in (found.text, found.remedy):
        assert sentence.endswith((".", "`.")) and "{" not in sentence


def test_every_check_is_in_the_table() -> None:
    assert {case["finds"]["check"] for case in BAD.values()} == {
        "root",
        "systemd",
        "python",
        "architecture",
        "image",
        "cgroup",
        "swap",
        "cpus",
        "memory",
        "machine-id",
        "address",
        "mtu",
        "ports",
        "kernel",
        "disk",
        "volume",
        "resolver",
        "leftovers",
    }
    assert len(preflight.CHECKS) == 18
    kinds = {
        one["kind"] for case in BAD.values() for one in case.get("facts", {}).get("leftovers", [])
    }
    assert kinds == set(preflight.LEFT) >= set(leftovers.DISTRIBUTIONS)


def test_what_a_provider_allows_its_machines_is_an_option_of_the_role() -> None:
    roles = Path(__file__).parents[4] / "roles"
    specs = yaml.safe_load((roles / "preflight/meta/argument_specs.yml").read_text())
    options = specs["argument_specs"]["main"]["options"]
    allowed = {
        name
        for path in roles.glob("provider_*/provider.yml")
        for name in yaml.safe_load(path.read_text()).get("host_vars") or {}
        if name.startswith("preflight_")
    }
    assert "preflight_allow_swap" in allowed
    assert allowed <= set(options)


def test_all_that_is_wrong_is_said_at_once() -> None:
    found = judge({"address": ADDRESS, "machine": {"swap": ["/swapfile"], "cpus": 1, "cgroup": 1}})
    assert [one.check for one in found] == ["cgroup", "swap", "cpus"]


def test_an_address_may_be_written_in_several_ways() -> None:
    has = {"addresses": {"2001:db8::1": "eth0"}}
    assert judge({"address": "2001:0DB8::0001", "machine": has}) == []


def test_what_was_allowed_is_no_finding() -> None:
    allowed = {"allow_swap": True, "cgroup_versions": ["1", "2"]}
    assert judge({"desired": allowed, "machine": {"swap": ["/swapfile"], "cgroup": 1}}) == []


def test_the_table_is_aligned_and_not_wide() -> None:
    found = [
        {"host": "cp-1", "check": "swap", "severity": "fatal", "text": "Swap.", "remedy": "Off."},
        {
            "host": "a-worker",
            "check": "mtu",
            "severity": "warning",
            "text": "x " * 90,
            "remedy": "y",
        },
    ]
    lines = findings.table(found).splitlines()
    assert lines[0] == "FATAL    cp-1      swap  Swap."
    assert lines[1] == "                         -> Off."
    assert lines[2].startswith("warning  a-worker  mtu   x x")
    assert lines[-1] == "                         -> y"
    assert len(lines) > 4 and max(map(len, lines)) <= findings.WIDTH
    assert findings.table([]) == ""


def test_a_control_plane_that_moved_is_refused_and_a_worker_follows() -> None:
    (finding,) = moved.judge("control_plane", "192.0.2.1", "192.0.2.9")
    assert (finding.check, finding.severity) == ("address", "fatal")
    assert "joined with the address 192.0.2.1, and now has 192.0.2.9" in finding.text
    assert "kubewright reset" in finding.remedy and "one control plane at a time" in finding.remedy
    assert "`kubewright reset --node NAME`" in finding.remedy
    assert moved.judge("worker", "192.0.2.1", "192.0.2.9") == []
    for same in (("192.0.2.1", "192.0.2.1"), (None, "192.0.2.9"), ("192.0.2.1", None)):
        assert moved.judge("control_plane", *same) == []
