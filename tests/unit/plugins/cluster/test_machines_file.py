# SPDX-License-Identifier: Apache-2.0
"""machines.json and known_hosts: which entries are refused, what is written, what is a change."""

from __future__ import annotations

import json
import stat
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from ansible_collections.kubewright.cluster.plugins.module_utils._base.errors import KubewrightError
from ansible_collections.kubewright.cluster.plugins.module_utils._cluster import machines
from ansible_collections.kubewright.cluster.plugins.modules import machines_file

RunModule = Callable[..., dict[str, Any]]
EveryKill = Callable[[Callable[[], object]], Iterator[int]]
KEY = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIHZ7D+MlvoSO/iEMpoZIkXpsMWiuumuAV2PgHFm8eyes"


def machine(number: int = 1, **changes: Any) -> dict[str, Any]:
    entry = {
        "id": f"local://demo/demo-cp-{number}",
        "name": f"demo-cp-{number}",
        "address": f"192.0.2.{10 + number}",
        "host_keys": [KEY],
        "provider": "local",
        "region": "local",
        "zone": "local-1",
        "node_type": "container",
        "power": "on",
        **changes,
    }
    return {key: value for key, value in entry.items() if value is not None}


def test_sorted_by_name_and_an_unfinished_machine_is_fine() -> None:
    entries = [machine(2, host_keys=[], power="off"), machine(1)]
    assert [entry["name"] for entry in machines.validated(entries)] == ["demo-cp-1", "demo-cp-2"]


@pytest.mark.parametrize(
    ("changes", "text"),
    [
        ({"id": None}, "machine demo-cp-1: has no id"),
        ({"id": "demo-cp-1"}, "id 'demo-cp-1' is not <provider>://<id>"),
        ({"name": "Demo_1"}, "machine Demo_1: name 'Demo_1' is not a DNS label"),
        ({"name": "x" * 64}, "is not a DNS label"),
        ({"address": "demo-cp-1.example"}, "is not an IP address"),
        ({"address": ""}, "address is not a string, or is empty"),
        ({"zone": 1}, "zone is not a string, or is empty"),
        (
            {"zone": "eu west"},
            "zone 'eu west' can't be a label of its Node: write at most 63 letters",
        ),
        ({"region": "a,node-role.kubernetes.io/control-plane=x"}, "can't be a label of its Node"),
        ({"node_type": "x" * 64}, "can't be a label of its Node"),
        ({"node_type": "-m5"}, "can't be a label of its Node"),
        ({"id": 'local://demo/"; rm -rf /'}, "is not <provider>://<id>"),
        ({"provider": "Local"}, "provider 'Local' is not a DNS label"),
        ({"power": "sleeping"}, "power 'sleeping' is neither on nor off"),
        ({"host_keys": KEY}, "host_keys is not a list"),
        ({"host_keys": [KEY + " comment"]}, "is not a valid SSH key"),
        ({"host_keys": [KEY + "\n@cert-authority * " + KEY]}, "is not a valid SSH key"),
        ({"host_keys": [KEY.replace("ssh-ed25519", "ssh-rsa")]}, "is not a valid SSH key"),
        ({"host_keys": ["ssh-ed25519 AAAA"]}, "is not a valid SSH key"),
        ({"host_keys": [7]}, "is not a valid SSH key"),
        ({"flavour": "big"}, "has an unknown field flavour"),
    ],
)
def test_refused(changes: dict[str, Any], text: str) -> None:
    with pytest.raises(KubewrightError, match=r"^The providers' list of machines") as raised:
        machines.validated([machine(**changes)])
    assert text in str(raised.value)


def test_every_problem_is_named_at_once() -> None:
    twins = [machine(1), machine(1, address="192.0.2.1"), "text", machine(4, power="?")]
    with pytest.raises(KubewrightError) as raised:
        machines.validated(twins)
    for text in (
        "two machines have the same id local://demo/demo-cp-1",
        "two machines have the same name demo-cp-1",
        "machine number 3: is not a mapping",
        "machine demo-cp-4: power",
    ):
        assert text in str(raised.value)


OWN = {
    "name": "delta",
    "address": "192.0.2.21",
    "port": 2222,
    "user": "admin",
    "private_key_file": "/keys/a",
    "host_keys": [],
    "pool": "web",
    "role": "worker",
}


def own_machine(name: str = "delta") -> dict[str, Any]:
    return machine(
        1, id=f"static://demo/{name}", name=name, address="192.0.2.21", provider="static"
    )


def test_how_to_reach_ones_own_is_kept_for_as_long_as_it_is_listed(
    run_module: RunModule, tmp_path: Path
) -> None:
    """Also when cluster.yml does not have it any more, and with the keys that were found."""
    where = {"directory": str(tmp_path), "cluster": "demo"}
    both = [machine(2), own_machine()]
    assert run_module("machines_file", machines=both, own=[OWN], **where)["changed"]
    roster = tmp_path / "roster.json"
    assert stat.S_IMODE(roster.stat().st_mode) == 0o600
    assert json.loads(roster.read_text())["own"] == [{**OWN, "host_keys": [KEY]}]
    assert not run_module("machines_file", machines=both, own=[OWN], **where)["changed"]
    assert not run_module("machines_file", machines=both, own=[], **where)["changed"]
    assert run_module("machines_file", machines=[machine(2)], own=[], **where)["changed"]
    assert json.loads(roster.read_text())["own"] == []


def test_a_cluster_without_ones_own_machines_has_no_such_file(
    run_module: RunModule, tmp_path: Path
) -> None:
    run_module("machines_file", machines=[machine(1)], directory=str(tmp_path), cluster="demo")
    assert not (tmp_path / "roster.json").exists()


def test_what_was_removed_is_forgotten(run_module: RunModule, tmp_path: Path) -> None:
    where = {"directory": str(tmp_path), "cluster": "demo"}
    run_module("machines_file", machines=[machine(2), own_machine()], own=[OWN], **where)
    gone = {"state": "absent", "names": ["delta", "unknown"], **where}
    before = (tmp_path / "roster.json").read_text()
    assert run_module("machines_file", check=True, **gone)["changed"]
    assert (tmp_path / "roster.json").read_text() == before
    result = run_module("machines_file", **gone)
    assert result["changed"] and [one["name"] for one in result["machines"]] == ["demo-cp-2"]
    assert "delta" not in (tmp_path / "known_hosts").read_text()
    assert json.loads((tmp_path / "roster.json").read_text())["own"] == []
    assert not run_module("machines_file", **gone)["changed"]


def test_written_with_known_hosts(run_module: RunModule, tmp_path: Path) -> None:
    directory = tmp_path / "state" / "demo"
    arguments = {"directory": str(directory), "cluster": "demo"}
    machines = [machine(2, host_keys=[]), machine(1)]

    predicted = run_module("machines_file", check=True, machines=machines, **arguments)
    assert predicted["changed"] and not directory.exists()

    result = run_module("machines_file", machines=machines, **arguments)
    assert result["changed"]
    written = json.loads((directory / "machines.json").read_text())
    assert (written["schema"], written["cluster"]) == (1, "demo")
    assert written["machines"] == [machine(1), machine(2, host_keys=[])] == result["machines"]
    known_hosts = directory / "known_hosts"
    assert known_hosts.read_text() == f"demo-cp-1,192.0.2.11 {KEY}\n"
    assert stat.S_IMODE(directory.stat().st_mode) == 0o700
    for path in (known_hosts, directory / "machines.json"):
        assert stat.S_IMODE(path.stat().st_mode) == 0o600


def test_the_time_alone_is_renewed_but_no_change(run_module: RunModule, tmp_path: Path) -> None:
    arguments = {"directory": str(tmp_path), "cluster": "demo", "machines": [machine()]}
    run_module("machines_file", **arguments)
    path = tmp_path / "machines.json"
    old = json.loads(path.read_text()) | {"written_at": "2001-01-01T00:00:00+00:00"}
    path.write_text(json.dumps(old))

    assert not run_module("machines_file", **arguments)["changed"]
    assert json.loads(path.read_text())["written_at"] > "2002"


@pytest.mark.parametrize(
    "before", ["", "{", "[]", '{"schema": 2}', '{"schema": 1, "cluster": "x"}']
)
def test_what_cannot_be_used_is_replaced(
    run_module: RunModule, tmp_path: Path, before: str
) -> None:
    (tmp_path / "machines.json").write_text(before)
    result = run_module(
        "machines_file", directory=str(tmp_path), cluster="demo", machines=[machine()]
    )
    assert result["changed"]
    assert json.loads((tmp_path / "machines.json").read_text())["machines"] == [machine()]


def test_a_changed_host_key_is_shown_and_reaches_known_hosts(
    run_module: RunModule, tmp_path: Path
) -> None:
    arguments = {"directory": str(tmp_path), "cluster": "demo"}
    run_module("machines_file", machines=[machine()], **arguments)
    other = KEY.replace("HZ7D", "HZ7E")
    result = run_module("machines_file", machines=[machine(host_keys=[other])], **arguments)
    assert result["changed"]
    assert KEY in result["diff"]["before"] and other in result["diff"]["after"]
    assert (tmp_path / "known_hosts").read_text() == f"demo-cp-1,192.0.2.11 {other}\n"


def test_bad_entries_fail_and_nothing_is_written(run_module: RunModule, tmp_path: Path) -> None:
    bad = [machine(power="?")]
    result = run_module("machines_file", directory=str(tmp_path), cluster="demo", machines=bad)
    assert result["failed"] and "neither on nor off" in result["msg"]
    assert list(tmp_path.iterdir()) == []


def test_killed_at_any_step_a_known_machine_has_a_known_key(
    every_kill: EveryKill, tmp_path: Path
) -> None:
    texts = (
        machines.machines_json("demo", "now", [machine()]),
        machines.known_hosts([machine()]),
    )
    for step in every_kill(lambda: machines_file.write(tmp_path / "demo", *texts)):
        if (tmp_path / "demo" / "machines.json").exists():
            assert (tmp_path / "demo" / "known_hosts").read_text() == texts[1], step
    assert (tmp_path / "demo" / "machines.json").read_text() == texts[0]
