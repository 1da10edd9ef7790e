# SPDX-License-Identifier: Apache-2.0
"""The local provider: what podman's listings mean, who gets which address, what counts as left."""

from __future__ import annotations

import importlib
import json
import subprocess
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import yaml

CHECKOUT = Path(__file__).resolve().parents[4]
FILES = CHECKOUT / "roles" / "provider_local" / "files"
PUBLIC_KEY = "ssh-ed25519 AAAAC3Nz kubewright demo"
HOST_KEY = "ssh-ed25519 AAAAC3Hk"


def load(directory: Path, name: str, monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.syspath_prepend(str(directory))
    return importlib.import_module(name)


@pytest.fixture
def machines(monkeypatch: pytest.MonkeyPatch) -> Any:
    return load(FILES, "podman_machines", monkeypatch)


@pytest.fixture
def podman(monkeypatch: pytest.MonkeyPatch) -> Any:
    return load(FILES, "podman", monkeypatch)


@pytest.fixture
def addresses(monkeypatch: pytest.MonkeyPatch) -> Any:
    return load(FILES, "addresses", monkeypatch)


@pytest.fixture
def leftovers(monkeypatch: pytest.MonkeyPatch) -> Any:
    return load(CHECKOUT / "tests" / "integration", "leftovers", monkeypatch)


def entry(var: Path, machine: str = "demo-cp-1", **changes: Any) -> dict[str, Any]:
    """One container as `podman ps --format json` of 4.3 prints it, shortened."""
    return {
        "Id": "4826d0a595ab",
        "Names": [f"kubewright-{machine}"],
        "Labels": {
            "kubewright.cluster": "demo",
            "kubewright.machine": machine,
            "kubewright.address": "10.89.0.11",
            "kubewright.var": str(var),
        },
        "State": "running",
        **changes,
    }


def publish(var: Path, host_key: str = HOST_KEY, authorized: str = PUBLIC_KEY) -> None:
    directory = var / "lib" / "kubewright-machine"
    directory.mkdir(parents=True)
    (directory / "host_key").write_text(host_key + "\n")
    (directory / "authorized_keys").write_text(authorized + "\n")


def test_a_finished_machine(machines: Any, podman: Any, tmp_path: Path) -> None:
    publish(tmp_path)
    (container,) = podman.parse_containers([entry(tmp_path), {"Names": ["x"], "Labels": None}])
    assert machines.as_machine(container, PUBLIC_KEY) == {
        "id": "local://demo/demo-cp-1",
        "name": "demo-cp-1",
        "address": "10.89.0.11",
        "host_keys": [HOST_KEY],
        "provider": "local",
        "region": "local",
        "zone": "local-1",
        "node_type": "container",
        "power": "on",
    }


@pytest.mark.parametrize(
    ("state", "power"),
    [
        ("running", "on"),
        ("paused", "on"),
        ("exited", "off"),
        ("created", "off"),
        ("initialized", "off"),
    ],
)
def test_its_host_key_is_known_whatever_its_power(
    machines: Any, podman: Any, tmp_path: Path, state: str, power: str
) -> None:
    publish(tmp_path)
    (container,) = podman.parse_containers([entry(tmp_path, State=state)])
    listed = machines.as_machine(container, PUBLIC_KEY)
    assert (listed["power"], listed["host_keys"]) == (power, [HOST_KEY])


def test_without_our_key_inside_it_counts_as_unfinished(
    machines: Any, podman: Any, tmp_path: Path
) -> None:
    publish(tmp_path)
    (container,) = podman.parse_containers([entry(tmp_path)])
    assert machines.as_machine(container, "ssh-ed25519 another")["host_keys"] == []


@pytest.mark.parametrize(
    ("state", "published", "half_made"),
    [
        ("created", False, True),
        ("initialized", False, True),
        ("created", True, False),  # podman's word after this host was rebooted
        ("initialized", True, False),
        ("exited", False, False),
        ("running", False, False),
    ],
)
def test_only_what_never_ran_is_half_made(
    podman: Any, tmp_path: Path, state: str, published: bool, half_made: bool
) -> None:
    if published:
        publish(tmp_path)
    (container,) = podman.parse_containers([entry(tmp_path, State=state)])
    assert container.is_half_made is half_made


def test_what_destroy_finds(machines: Any, podman: Any, tmp_path: Path) -> None:
    demo = podman.Cluster("demo")
    assert machines.belongs(entry(tmp_path), demo, None)
    remainder = {"Names": ["kubewright-demo-web-1"], "Labels": None}
    assert machines.belongs(remainder, demo, None)
    other = entry(tmp_path, "demo-x-cp-1")
    other["Labels"]["kubewright.cluster"] = "demo-x"
    assert not machines.belongs(other, demo, None)
    assert not machines.belongs({"Names": ["kubewright-other-cp-1"], "Labels": {}}, demo, None)
    assert not machines.belongs({"Names": None, "Labels": None}, demo, None)
    assert machines.belongs(remainder, demo, "demo-web-1")
    assert not machines.belongs(entry(tmp_path), demo, "demo-web-1")
    assert not machines.belongs({"Names": ["kubewright-demo-web-10"], "Labels": None}, demo, "a")


IDS = ("5b0e6f0a-0000-4000-8000-000000000001", "5b0e6f0a-0000-4000-8000-000000000002")


@pytest.mark.parametrize("owner", ["", *IDS])
def test_what_a_cluster_has_made_under_any_id_is_its_own(podman: Any, owner: str) -> None:
    podman.Cluster("demo", IDS).require_own({"kubewright-demo-cp-1": owner})


@pytest.mark.parametrize("ids", [(), IDS[:1]])
def test_what_another_cluster_of_the_name_has_is_refused(podman: Any, ids: tuple[str]) -> None:
    owners = {f"kubewright-demo-web-{number}": IDS[1] for number in range(1, 6)}
    with pytest.raises(podman.MachineError) as refused:
        podman.Cluster("demo", ids).require_own({**owners, "network kubewright-demo": ""})
    said = str(refused.value)
    assert said.startswith(
        f"Another cluster that is also called demo (id {IDS[1]}) has these objects here: "
        "kubewright-demo-web-1, kubewright-demo-web-2, kubewright-demo-web-3 and 2 more. Nothing"
    )
    assert f"kubewright destroy --cluster-id {IDS[1]}" in said


def test_volumes_and_networks_are_looked_at_too(
    podman: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    named = {"kubewright.cluster": "demo"}
    volume = {"Name": "kubewright-demo-cp-1-var", "Mountpoint": str(tmp_path), "Labels": named}
    network = {"name": "kubewright-demo", "labels": {**named, "kubewright.cluster_id": IDS[0]}}
    found = {"volume": [volume, {"Name": "x", "Mountpoint": "/x"}], "network": [network]}
    monkeypatch.setattr(podman, "run", lambda kind, *_: json.dumps(found[kind]))
    podman.require_own(podman.Cluster("demo", IDS[:1]), [])
    with pytest.raises(podman.MachineError, match=r"here: network kubewright-demo\. "):
        podman.require_own(podman.Cluster("demo", IDS[1:]), [])
    network["labels"] = named
    publish(tmp_path)
    (tmp_path / podman.CLAIM).write_text(f"{IDS[0]}\n")
    with pytest.raises(podman.MachineError, match=r"here: volume kubewright-demo-cp-1-var\. "):
        podman.require_own(podman.Cluster("demo", IDS[1:]), [])


def test_an_unclaimed_machine_is_claimed_once(podman: Any, tmp_path: Path) -> None:
    (container,) = podman.parse_containers([entry(tmp_path)])
    assert podman.claim(podman.Cluster("demo"), [container]) == [], "nobody knows whose it is"
    mine, theirs = podman.Cluster("demo", IDS[:1]), podman.Cluster("demo", IDS[1:])
    assert podman.claim(mine, [container]) == ["demo-cp-1"]
    assert (container.owner, podman.claim(mine, [container])) == (IDS[0], [])
    with pytest.raises(podman.MachineError, match=r"here: kubewright-demo-cp-1\. "):
        theirs.require_own({container.name: container.owner})


def test_podman_is_not_believed_where_process_and_monitor_are_gone(
    machines: Any, podman: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    publish(tmp_path)
    (container,) = podman.parse_containers([entry(tmp_path)], living=["4826d0a595ab"])
    assert machines.as_machine(container, None)["power"] == "on"
    (container,) = podman.parse_containers([entry(tmp_path)], living=["another"])
    assert machines.as_machine(container, None)["power"] == "off"
    monkeypatch.setattr(podman.remains, "EXITS", tmp_path)
    assert podman.tell([container])
    assert (tmp_path / container.id).read_text() == "137", "podman takes no line end"
    (stopped,) = podman.parse_containers([entry(tmp_path, State="exited")], living=[])
    assert not podman.tell([stopped])


def test_addresses_are_the_lowest_free_ones_in_order(addresses: Any) -> None:
    placed = addresses.place(["b", "a"], ["10.89.0.11", "10.89.0.13"], "10.89.0.0/24")
    assert placed == {"b": "10.89.0.12", "a": "10.89.0.14"}


def test_leases_and_addresses_never_meet(addresses: Any) -> None:
    assert addresses.leases("10.89.0.0/24") == "10.89.0.128/25"
    names = [f"m{number}" for number in range(117)]
    assert addresses.place(names, [], "10.89.0.0/24")["m116"] == "10.89.0.127"
    with pytest.raises(addresses.AddressError, match="no address left for one-more"):
        addresses.place([*names, "one-more"], [], "10.89.0.0/24")


def test_subnets_that_overlap_something_are_skipped(addresses: Any) -> None:
    taken = ["10.89.0.0/24", "10.89.1.200", "10.89.4.0/22", "192.0.2.0/24"]
    assert addresses.free_subnets("10.89.0.0/16", taken)[:3] == [
        "10.89.2.0/24",
        "10.89.3.0/24",
        "10.89.8.0/24",
    ]
    assert addresses.free_subnets("10.89.0.0/16", ["10.0.0.0/8"]) == []


def test_wrong_use_is_told_and_nothing_is_touched() -> None:
    result = subprocess.run(
        [sys.executable, FILES / "podman_machines.py", "delete"], capture_output=True, text=True
    )
    assert result.returncode == 2 and "--cluster" in result.stderr


def test_a_process_is_waited_for_until_it_ends(monkeypatch: pytest.MonkeyPatch) -> None:
    remains: Any = load(FILES, "remains", monkeypatch)
    child = subprocess.Popen(["cat"], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    assert child.stdin is not None and child.stdout is not None
    # Only once it echoes is it surely cat, and no longer the copy of this process.
    child.stdin.write(b"here\n")
    child.stdin.flush()
    assert child.stdout.readline() == b"here\n"
    assert (child.pid, ["cat"]) in list(remains.processes())
    remains.wait_for([child.pid], 0.01)
    assert child.poll() is None
    child.stdin.close()
    remains.wait_for([child.pid], 30)
    assert child.wait(0) == 0
    remains.wait_for([child.pid], 30)


def test_this_process_holds_its_network_namespace(monkeypatch: pytest.MonkeyPatch) -> None:
    remains: Any = load(FILES, "remains", monkeypatch)
    status = Path("/proc/self/ns/net").stat()
    assert (status.st_dev, status.st_ino) in remains._namespaces_in_use()


def test_only_what_was_added_is_left(leftovers: Any) -> None:
    before = {"mount": ["/a (ext4)", "/gone (ext4)"], "route": []}
    after = {"mount": ["/a (ext4)", "/a (ext4)"], "route": ["10.0.0.0/8"], "new": ["x"]}
    assert leftovers.added(before, after) == ["mount: /a (ext4)", "route: 10.0.0.0/8", "new: x"]


def test_counters_and_handles_make_no_difference(leftovers: Any) -> None:
    def listing(handle: int, packets: int) -> str:
        rule = {"chain": "c", "handle": handle, "expr": [{"counter": {"packets": packets}}]}
        return json.dumps({"nftables": [{"metainfo": {"version": "1"}}, {"rule": rule}]})

    assert leftovers.nftables(listing(1, 2)) == leftovers.nftables(listing(3, 4)) != []
    saved = "# at {0}\n*nat\n:POSTROUTING ACCEPT [{0}:9]\n-A POSTROUTING -j X\nCOMMIT\n"
    rules = leftovers.iptables(saved.format(5), "ipv4")
    assert rules == leftovers.iptables(saved.format(6), "ipv4")
    assert rules == ["ipv4 *nat :POSTROUTING ACCEPT", "ipv4 *nat -A POSTROUTING -j X"]


def test_a_loop_device_is_its_backing_file(leftovers: Any) -> None:
    listing = {"loopdevices": [{"name": "/dev/loop3", "back-file": "/x.ext4 (deleted)"}]}
    assert leftovers.loop_devices(json.dumps(listing)) == ["/x.ext4 (deleted)"]
    assert leftovers.loop_devices("") == []


def test_mounts_of_a_machine_are_shared_as_on_a_real_one() -> None:
    """Or services that start after a reboot keep our mounts, and no reset gets rid of them."""
    create = yaml.safe_load((FILES.parent / "tasks" / "create.yml").read_text())
    command = create[0]["containers.podman.podman_container"]["command"]
    assert command[-1] == "mount --make-rshared / && exec /sbin/init"
