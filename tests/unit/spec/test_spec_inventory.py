# SPDX-License-Identifier: Apache-2.0
"""Spec to inventory, without files and without Ansible."""

from __future__ import annotations

import json
import shlex
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from kubewright.agreed import inventory as rules
from kubewright.agreed import state
from kubewright.locations import ClusterPaths
from kubewright.spec.images import SystemImage, current
from kubewright.spec.inventory import Inventory, build
from kubewright.spec.machines import Kept, Machine, Machines, MachinesError, Own, read
from kubewright.spec.models import ControlPlane, Drain, Node, Pool, Spec, Ssh
from kubewright.spec.providers import Provider, ProviderError, find

SPEC = Spec(
    plugin="kubewright.cluster.spec",
    name="demo",
    version="1.37",
    control_plane=ControlPlane(provider="local", size=3),
    pools=(
        Pool(name="web-a", provider="local", size=2),
        Pool(name="gpu", provider="static", nodes=()),
    ),
)
STATE = Path("/state/demo")


def machine(name: str, address: str = "10.89.0.11", key: str = "ssh-ed25519 AAAA") -> Machine:
    return Machine(
        id=f"local://demo/{name}",
        name=name,
        address=address,
        host_keys=(key,),
        provider="local",
        region="local",
        zone="local-1",
        node_type="container",
        power="on",
    )


def built(**given: Any) -> Inventory:
    given.setdefault("machines", Machines("demo"))
    return build(SPEC, version="1.37.2", paths=ClusterPaths(STATE), **given)


def test_groups_and_hosts() -> None:
    inventory = built()
    assert inventory.groups["kubewright"].children == ("control_plane", "workers")
    assert inventory.groups["control_plane"].hosts == ("demo-cp-1", "demo-cp-2", "demo-cp-3")
    assert inventory.groups["workers"].children == ("pool_web_a", "pool_gpu")
    assert inventory.groups["pool_web_a"].hosts == ("demo-web-a-1", "demo-web-a-2")
    assert inventory.groups["pool_gpu"].hosts == ()
    assert len(inventory.hosts) == 5


def test_variables_of_the_cluster() -> None:
    assert built().variables == {
        "kubewright_cluster_name": "demo",
        "kubewright_version": "1.37.2",
        "kubewright_state_dir": "/state/demo",
        "kubewright_pod_cidr": "10.244.0.0/16",
        "kubewright_service_cidr": "10.96.0.0/16",
    }


def test_what_a_host_is() -> None:
    hosts = built().hosts
    control_plane, worker = hosts["demo-cp-1"], hosts["demo-web-a-1"]
    assert (control_plane["kubewright_role"], control_plane["kubewright_pool"]) == (
        "control_plane",
        "",
    )
    assert (worker["kubewright_role"], worker["kubewright_pool"]) == ("worker", "web-a")
    assert worker["kubewright_provider"] == "local"


def test_host_keys_are_checked_under_the_hosts_own_name() -> None:
    words = shlex.split(built().hosts["demo-cp-2"]["ansible_ssh_common_args"])
    assert "StrictHostKeyChecking=yes" in words
    assert "HostKeyAlias=demo-cp-2" in words
    assert 'UserKnownHostsFile="/state/demo/known_hosts"' in words
    assert "GlobalKnownHostsFile=/dev/null" in words


def test_a_state_directory_with_a_blank_and_a_percent_sign() -> None:
    paths = ClusterPaths(Path("/my state/100%"))
    hosts = build(SPEC, version="1.37.2", paths=paths, machines=Machines("demo")).hosts
    words = shlex.split(hosts["demo-cp-1"]["ansible_ssh_common_args"])
    assert 'UserKnownHostsFile="/my state/100%%/known_hosts"' in words


def test_connections_are_kept_and_pipelined() -> None:
    inventory = built()
    variables = {**inventory.groups["kubewright"].variables, **inventory.hosts["demo-cp-1"]}
    assert variables["ansible_user"] == "root"
    assert variables["ansible_host_key_checking"] is True
    assert variables["ansible_python_interpreter"] == "/usr/bin/python3"
    assert variables["ansible_ssh_pipelining"] is True
    assert variables["ansible_ssh_private_key_file"] == "/state/demo/ssh/id_ed25519"
    for option in ("ControlMaster=auto", "ControlPersist=60s"):
        assert option in shlex.split(variables["ansible_ssh_args"])
    # ssh appends 17 bytes to a socket's path, of which 107 are allowed.
    assert len(f"{variables['ansible_control_path_dir']}/0123456789") + 17 < 107


def test_a_machine_that_its_provider_has_listed() -> None:
    known = Machines("demo", None, (machine("demo-cp-1"),))
    hosts = built(machines=known).hosts
    assert hosts["demo-cp-1"]["ansible_host"] == "10.89.0.11"
    assert hosts["demo-cp-1"]["kubewright_machine"]["id"] == "local://demo/demo-cp-1"
    assert "ansible_host" not in hosts["demo-cp-2"]
    assert "kubewright_machine" not in hosts["demo-cp-2"]


def test_a_machine_made_anew_has_another_control_socket() -> None:
    def socket(key: str) -> str:
        known = Machines("demo", None, (machine("demo-cp-1", key=key),))
        return str(built(machines=known).hosts["demo-cp-1"]["ansible_control_path"])

    assert socket("ssh-ed25519 AAAA") == socket("ssh-ed25519 AAAA")
    assert socket("ssh-ed25519 AAAA") != socket("ssh-ed25519 BBBB")
    assert socket("ssh-ed25519 AAAA").startswith("%(directory)s/")


def test_another_user_port_or_key_has_another_control_socket() -> None:
    def socket(private_key: str = "", **ssh: Any) -> str:
        node = Node(name="alpha", address="192.0.2.11", host_keys=("ssh-ed25519 AAAA",))
        place = ControlPlane(provider="static", nodes=(node,))
        spec = SPEC.model_copy(update={"control_plane": place, "ssh": Ssh(**ssh)})
        built = build(
            spec,
            version="1.37.2",
            paths=ClusterPaths(STATE),
            machines=Machines("demo"),
            private_key=private_key,
        )
        return str(built.hosts["alpha"]["ansible_control_path"])

    usual = socket(private_key_file="/keys/a")
    others = [
        socket(private_key_file="/keys/a", user="admin"),
        socket(private_key_file="/keys/a", port=2222),
        socket(private_key_file="/keys/b"),
        socket(),
        socket("written again", private_key_file="/keys/a"),
    ]
    assert socket(private_key_file="/keys/a") == usual
    assert len({usual, *others}) == 1 + len(others)


def test_without_machines_too_many_nobody_is_leaving() -> None:
    assert "leaving" not in built().groups


def test_a_machine_that_the_spec_does_not_have_is_leaving() -> None:
    """It is no node, and can be reached."""
    made = [machine(f"demo-web-a-{number}", f"10.89.0.2{number}") for number in (1, 2, 3)]
    inventory = built(machines=Machines("demo", None, tuple(made)))
    assert inventory.groups["leaving"].hosts == ("demo-web-a-3",)
    assert "leaving" not in inventory.groups["kubewright"].children
    assert inventory.groups["leaving"].variables == inventory.groups["kubewright"].variables, (
        "it is reached as the others are"
    )
    variables = inventory.hosts["demo-web-a-3"]
    assert variables["ansible_host"] == "10.89.0.23"
    assert variables["kubewright_machine"]["id"] == "local://demo/demo-web-a-3"
    assert (variables["kubewright_role"], variables["kubewright_pool"]) == ("worker", "web-a")
    assert variables["kubewright_leaving"] == "pool web-a has size 2"


def test_one_of_ones_own_is_reached_as_the_file_once_said() -> None:
    key = "ssh-ed25519 BBBB"
    own = Own("delta", "192.0.2.21", 2222, "admin", "/keys/a", (key,), "", "control_plane")
    listed = rules.static_machine("demo", "delta", "192.0.2.21", [key])
    known = Machines("demo", None, (listed,), Kept((own,)))
    variables = built(machines=known).hosts["delta"]
    assert variables["ansible_host"] == "192.0.2.21"
    assert (variables["ansible_user"], variables["ansible_port"]) == ("admin", 2222)
    assert variables["ansible_ssh_private_key_file"] == "/keys/a"
    assert variables["ansible_become"] is True
    assert variables["kubewright_host_keys"] == [key]
    assert variables["kubewright_role"] == "control_plane"
    assert variables["kubewright_leaving"] == "no longer in cluster.yml"


def test_how_its_pods_leave_is_said_by_its_pool() -> None:
    pool = Pool(name="web-a", provider="local", size=0, drain=Drain(timeout_seconds=7))
    spec = SPEC.model_copy(update={"pools": (pool,)})
    known = Machines("demo", None, (machine("demo-web-a-1"), machine("demo-old-1")))
    hosts = build(spec, version="1.37.2", paths=ClusterPaths(STATE), machines=known).hosts
    assert hosts["demo-web-a-1"]["node_drain_timeout_seconds"] == 7
    assert "node_drain_timeout_seconds" not in hosts["demo-old-1"]
    assert hosts["demo-old-1"]["kubewright_leaving"] == "pool old was removed"


def test_each_role_has_its_image() -> None:
    images = {
        "control_plane": SystemImage("aa", Path("/cache/images/aa.squashfs")),
        "worker": SystemImage("bb", Path("/cache/images/bb.squashfs")),
    }
    hosts = built(images=images).hosts
    assert hosts["demo-cp-1"]["system_volume_image_digest"] == "aa"
    assert hosts["demo-cp-1"]["system_volume_image_path"] == "/cache/images/aa.squashfs"
    assert hosts["demo-web-a-1"]["system_volume_image_digest"] == "bb"


@dataclass(frozen=True)
class Built:
    kubernetes: str
    role: str
    digest: str
    built_at: int


class FakeStore:
    """A store whose build of today is the image with that digest."""

    def __init__(self, images: list[Built], today: str = "") -> None:
        self.images = images
        self.today = today

    def list(self) -> list[Built]:
        return self.images

    def find(self, version: str, role: str) -> Built | None:
        wanted = (
            image for image in self.images if (image.digest, image.role) == (self.today, role)
        )
        return next(wanted, None)

    def path(self, image: Built) -> Path:
        return Path(f"/cache/{image.digest}")


def test_the_image_of_a_role_is_todays_or_else_the_newest_of_that_release() -> None:
    images = [
        Built("1.37.2", "worker", "old", 1),
        Built("1.37.2", "worker", "new", 2),
        Built("1.36.4", "worker", "other", 3),
    ]

    def digest(today: str) -> str:
        found = current("1.37.2", FakeStore(images, today))  # type: ignore[arg-type]
        assert list(found) == ["worker"]
        return found["worker"].digest

    assert digest("old") == "old"
    assert digest("") == "new"
    assert current("1.35.1", FakeStore(images)) == {}  # type: ignore[arg-type]


def test_without_an_image_there_is_no_digest() -> None:
    assert "system_volume_image_digest" not in built().hosts["demo-cp-1"]


def test_variables_of_the_provider_reach_its_hosts_and_never_win() -> None:
    local = Provider("local", host_vars={"a_setting": 1, "kubewright_role": "intruder"})
    hosts = built(providers={"local": local}).hosts
    assert hosts["demo-cp-1"]["a_setting"] == 1
    assert hosts["demo-cp-1"]["kubewright_role"] == "control_plane"


def test_providers_are_the_roles_of_the_collection(tmp_path: Path) -> None:
    role = tmp_path / "roles" / "provider_my_cloud"
    (role / "tasks").mkdir(parents=True)
    (tmp_path / "roles" / "control_plane" / "tasks").mkdir(parents=True)
    assert find(tmp_path) == {"my-cloud": Provider("my-cloud")}
    (role / "provider.yml").write_text("capabilities: [create, delete]\nhost_vars: {x: 1}\n")
    assert find(tmp_path) == {
        "my-cloud": Provider("my-cloud", frozenset({"create", "delete"}), {"x": 1})
    }
    assert find(tmp_path / "nothing") is None


@pytest.mark.parametrize("text", ["[]", "capabilities: create", "host_vars: [1]", "a: [", "\x07"])
def test_a_bad_provider_file_is_named(tmp_path: Path, text: str) -> None:
    role = tmp_path / "roles" / "provider_local"
    role.mkdir(parents=True)
    (role / "provider.yml").write_text(text)
    with pytest.raises(ProviderError, match=r"provider_local/provider\.yml: "):
        find(tmp_path)


def test_machines_json(tmp_path: Path) -> None:
    path = tmp_path / "machines.json"
    assert read(path, "demo") == Machines("demo")
    entry = machine("demo-cp-1").as_dict()
    good = {
        "schema": 1,
        "cluster": "demo",
        "written_at": "2026-01-02T03:04:05Z",
        "machines": [entry],
    }
    path.write_text(json.dumps(good))
    found = read(path, "demo")
    assert found.by_name()["demo-cp-1"] == machine("demo-cp-1")
    assert found.written_at is not None and found.written_at.year == 2026
    for bad in (
        {**good, "schema": 2},
        {**good, "cluster": "other"},
        {**good, "machines": [{"name": "demo-cp-1"}]},
        {**good, "machines": [{**entry, "host_keys": "ssh-ed25519"}]},
        {**good, "machines": [{**entry, "address": 7}]},
        [],
    ):
        path.write_text(json.dumps(bad))
        with pytest.raises(MachinesError, match="remove it and run"):
            read(path, "demo")
    path.write_text("{")
    with pytest.raises(MachinesError):
        read(path, "demo")


def test_what_is_kept_beside_it(tmp_path: Path) -> None:
    path, roster = tmp_path / "machines.json", tmp_path / "roster.json"
    own = Own("delta", "192.0.2.21", 22, "root", "", (), "web", "worker")
    kept = Kept((own,), ("demo-web-2",), ("demo-web-3",))
    roster.write_text(kept.text("demo"))
    assert read(path, "demo") == Machines("demo", kept=kept)
    for bad in (
        "{",
        "[]",
        kept.text("other"),
        kept.text("demo").replace('"port": 22', '"port": ""'),
    ):
        roster.write_text(bad)
        with pytest.raises(MachinesError, match=r"roster\.json: can't be used"):
            read(path, "demo")


def test_where_state_lies() -> None:
    assert state.root({"KUBEWRIGHT_STATE_DIR": "/a"}) == Path("/a")
    assert state.root({"XDG_STATE_HOME": "/b"}) == Path("/b/kubewright")
    home = Path("~/.local/state/kubewright").expanduser()
    assert state.root({}) == home
    assert state.root({"XDG_STATE_HOME": "relative"}) == home
    assert ClusterPaths.of("demo", {"KUBEWRIGHT_STATE_DIR": "/a"}).lock == Path("/a/demo/lock")
