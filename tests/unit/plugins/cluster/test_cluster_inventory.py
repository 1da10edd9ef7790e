# SPDX-License-Identifier: Apache-2.0
"""What is read of an inventory, and what no plain inventory may say."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import yaml
from ansible_collections.kubewright.cluster.plugins.action import cluster_inventory as action
from ansible_collections.kubewright.cluster.plugins.plugin_utils import _image_dir, _inventory, _ssh

CHECKOUT = Path(__file__).parents[4]
TABLE = CHECKOUT / "tests" / "data" / "bad_clusters.yml"
DATA: dict[str, Any] = yaml.safe_load(TABLE.read_text())
GOOD, CASES = DATA["good"], DATA["cases"]
DIGEST = "0123456789abcdef" * 4
SIGNER = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIA builder"


def no_one(_variables: Any) -> str:
    return ""


@pytest.fixture
def images(tmp_path: Path) -> Path:
    """A directory of images as the command leaves it."""
    entries = []
    for role, digest, day in (
        ("control_plane", "aa", 1),
        ("worker", "b1", 1),
        ("worker", "b2", 2),
    ):
        (tmp_path / f"{digest}.squashfs").write_text(digest)
        entries.append(
            {
                "kubernetes": "1.37.2",
                "revision": 1,
                "arch": "amd64",
                "role": role,
                "digest": digest,
                "file": f"{digest}.squashfs",
                "size": 2,
                "key": digest,
                "built_at": f"2026-01-0{day}T00:00:00Z",
            }
        )
    (tmp_path / "index.json").write_text(json.dumps(entries))
    return tmp_path


def plain(cluster: dict[str, Any], images: Path) -> tuple[dict[str, list[str]], dict[str, Any]]:
    """Groups and variables of hosts of a plain inventory that describes the cluster."""
    shared = {
        "kubewright_cluster_name": cluster["name"],
        "kubewright_version": cluster["version"],
        "kubewright_pod_cidr": cluster["pod_cidr"],
        "kubewright_service_cidr": cluster["service_cidr"],
        "kubewright_image_dir": str(images),
        "system_volume_size_bytes": cluster["system_volume"]["size_gb"] * 10**9,
        **{
            f"system_volume_{name}": cluster["system_volume"][name]
            for name in ("type", "device")
            if name in cluster["system_volume"]
        },
    }
    places = {"control_plane": cluster["control_plane"]}
    places |= {f"pool_{name}": nodes for name, nodes in cluster["pools"].items()}
    groups = {name: [node["name"] for node in nodes] for name, nodes in places.items()}
    hosts = {
        node["name"]: {**shared, "ansible_host": node["address"]}
        for nodes in places.values()
        for node in nodes
    }
    return {"all": list(hosts), **groups}, {"localhost": dict(shared), **hosts}


def read(
    images: Path, change: dict[str, Any] | None = None, **variables: Any
) -> _inventory.Inventory:
    """Read a good inventory with a change; *variables* are of the host delta (None: without)."""
    groups, hosts = plain({**GOOD, **(change or {})}, images)
    hosts.setdefault("delta", {}).update(variables)
    hosts["delta"] = {key: value for key, value in hosts["delta"].items() if value is not None}
    return _inventory.read(groups, hosts, no_one)


def test_what_a_plain_inventory_leaves_out(images: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("KUBEWRIGHT_STATE_DIR", "/state")
    groups, hosts = plain(GOOD, images)
    for variables in hosts.values():
        del variables["kubewright_pod_cidr"], variables["kubewright_service_cidr"]
    found = _inventory.read(groups, hosts, no_one)
    assert found.problems == []
    assert found.settings == {
        "cluster_name": "demo",
        "version": "1.37.2",
        "state_dir": "/state/demo",
        "pod_cidr": "10.244.0.0/16",
        "service_cidr": "10.96.0.0/16",
    }
    assert list(found.nodes) == ["alpha", "beta", "gamma", "delta"]
    assert found.nodes["delta"] == {
        "provider": "static",
        "address": "192.0.2.21",
        "port": 22,
        "host_keys": None,
    }
    assert found.images == {
        "control_plane": {"digest": "aa", "path": str(images / "aa.squashfs")},
        "worker": {"digest": "b2", "path": str(images / "b2.squashfs")},
    }


def test_a_machine_that_a_provider_makes_has_no_keys_until_it_says_them(images: Path) -> None:
    """Unlike a host of a plain inventory, whose keys only ssh knows: nobody can log in yet."""
    made = {"kubewright_provider": "local"}
    assert read(images, **made).nodes["delta"]["host_keys"] == []
    said = {**made, "kubewright_host_keys": ["ssh-ed25519 A"]}
    assert read(images, **said).nodes["delta"]["host_keys"] == ["ssh-ed25519 A"]


@pytest.mark.parametrize("case", sorted(CASES))
def test_a_bad_cluster(case: str, images: Path) -> None:
    problems = read(images, CASES[case]["change"]).problems
    told = "\n".join(problems)
    for words in CASES[case]["says"]:
        assert words.lower() in told.lower()
    assert all(problem.endswith(".") for problem in problems)


def test_all_that_is_wrong_at_once(images: Path) -> None:
    changes: dict[str, Any] = {}
    for case in ("two_control_planes", "networks_overlap", "volume_is_too_small"):
        changes |= CASES[case]["change"]
    problems = read(images, changes, ansible_host=None).problems
    told = "\n".join(problems)
    for words in ("is even", "overlaps", "is not allowed", "delta has no address"):
        assert words in told


def test_ssh_may_take_another_address_than_the_nodes_among_themselves(images: Path) -> None:
    found = read(images, ansible_host="delta.example", kubewright_address="192.0.2.21")
    assert found.problems == []
    assert found.nodes["delta"]["address"] == "192.0.2.21"


@pytest.mark.parametrize(
    ("variables", "words"),
    [
        ({"kubewright_version": "1.37.3"}, "kubewright_version differs: 1.37.2 for alpha, 1.37.3"),
        ({"kubewright_provider": "moon"}, "there is no provider 'moon'. Known providers: "),
        ({"system_volume_size_bytes": "20 GB"}, "system_volume_size_bytes: 20 GB is not allowed"),
    ],
)
def test_a_host_that_says_something_else(
    images: Path, variables: dict[str, Any], words: str
) -> None:
    assert words in "\n".join(read(images, **variables).problems)


def test_what_no_host_says_is_missing_and_localhost_is_asked_last(images: Path) -> None:
    groups, hosts = plain(GOOD, images)
    for name, variables in hosts.items():
        del variables["kubewright_cluster_name"]
        if name != "localhost":
            del variables["kubewright_pod_cidr"]
    hosts["localhost"]["kubewright_pod_cidr"] = "10.0.0.0/16"
    # Roles read it on the nodes.
    hosts["localhost"]["kubewright_cluster_name"] = "demo"
    found = _inventory.read(groups, hosts, no_one)
    assert found.settings["pod_cidr"] == "10.0.0.0/16"
    (problem,) = found.problems
    assert problem.startswith("kubewright_cluster_name is missing.")


def test_a_hosts_own_image_needs_no_directory(images: Path) -> None:
    groups, hosts = plain(GOOD, images)
    for variables in hosts.values():
        del variables["kubewright_image_dir"]
        variables["system_volume_image_path"] = "/images/a.squashfs"
    assert _inventory.read(groups, hosts, no_one).problems == []
    del hosts["delta"]["system_volume_image_path"]
    (problem,) = _inventory.read(groups, hosts, no_one).problems
    assert "for the role worker" in problem and "kubewright_image_dir" in problem


def test_images_that_nodes_fetch_need_not_be_here(images: Path) -> None:
    groups, hosts = plain(GOOD, images)
    for variables in hosts.values():
        del variables["kubewright_image_dir"]
        variables["system_volume_image_url"] = "https://images.example.com"
        variables["system_volume_image_digest"] = DIGEST
        variables["system_volume_image_signers"] = [SIGNER]
    assert _inventory.read(groups, hosts, no_one).problems == []
    for variables in hosts.values():
        del variables["system_volume_image_digest"]
    assert len(_inventory.read(groups, hosts, no_one).problems) == 2, "which ones is not known"


@pytest.mark.parametrize("url", ["http://me:secret@192.0.2.10", "ftp://192.0.2.10", "http://["])
def test_what_nodes_would_refuse_of_an_image_is_said_before_all_at_once(
    images: Path, url: str
) -> None:
    groups, hosts = plain(GOOD, images)
    for host in ("gamma", "delta"):
        hosts[host]["system_volume_image_url"] = url
    hosts["delta"]["system_volume_image_digest"] = DIGEST.upper()
    hosts["delta"]["system_volume_image_signers"] = ["builder"]
    problems = _inventory.read(groups, hosts, no_one).problems
    assert [problem.split(": ")[:2] for problem in problems] == [
        ["gamma, delta", "system_volume_image_url"],
        ["gamma", "system_volume_image_signers"],
        ["delta", "system_volume_image_digest"],
        ["delta", "system_volume_image_signers"],
    ]
    assert "without user, password" in problems[0] and "no signers are set" in problems[1]
    assert (
        "is not a SHA-256" in problems[2] and "('builder') is not a public SSH key" in problems[3]
    )
    assert "secret@" not in "".join(problems)
    assert all(problem.endswith(".") for problem in problems)


@pytest.mark.parametrize("signers", [SIGNER, [SIGNER]])
def test_good_variables_of_an_image_are_no_problem(images: Path, signers: Any) -> None:
    said = {"digest": DIGEST, "url": "https://images.example.com/", "signers": signers}
    given = {f"system_volume_image_{name}": value for name, value in said.items()}
    assert read(images, **given).problems == []
    assert read(images, system_volume_image_url="").problems == [], "as if it were not there"


def test_missing_images_of_a_cluster_yml_are_the_packages_concern(images: Path) -> None:
    groups, hosts = plain(GOOD, images)
    for variables in hosts.values():
        del variables["kubewright_image_dir"]
        variables["kubewright_role"] = "whatever"
    assert _inventory.read(groups, hosts, no_one).problems == []


@pytest.mark.parametrize(
    ("index", "words"),
    [
        (None, "There is no "),
        ("{", "can't be read"),
        ("[{}]", "is not an index of system images"),
        ("[]", "has no image of Kubernetes 1.37.2 for the role worker"),
    ],
)
def test_a_directory_without_the_image(images: Path, index: str | None, words: str) -> None:
    (images / "index.json").unlink()
    if index is not None:
        (images / "index.json").write_text(index)
    found = _image_dir.Images("1.37.2", str(images))
    found.need("worker")
    found.need("worker")
    (problem,) = found.problems
    assert words in problem and "kubewright image build 1.37.2" in problem
    assert found.found == {}


def test_an_image_that_was_not_copied_whole(images: Path) -> None:
    (images / "b2.squashfs").write_text("b")
    found = _image_dir.Images("1.37.2", str(images))
    found.need("worker")
    assert "b2.squashfs is missing or does not have the 2 bytes" in found.problems[0]


@pytest.mark.parametrize(
    ("variables", "words"),
    [
        ({}, ""),
        ({"ansible_ssh_common_args": "-o StrictHostKeyChecking=yes -J bastion"}, ""),
        ({"ansible_host_key_checking": False}, "host_key_checking = false (ansible_host_key"),
        ({"ansible_host_key_checking": "no"}, "host_key_checking = false"),
        (
            {"ansible_ssh_common_args": "-o StrictHostKeyChecking=no"},
            "StrictHostKeyChecking=no in ssh_common_args (ansible_ssh_common_args)",
        ),
        ({"ansible_ssh_extra_args": "-o 'stricthostkeychecking off'"}, "=off in ssh_extra_args"),
        ({"ansible_ssh_args": "-oStrictHostKeyChecking=accept-new"}, "=accept-new in ssh_args"),
        ({"ansible_connection": "local", "ansible_host_key_checking": False}, ""),
        ({"ansible_connection": "there.is.none", "ansible_host_key_checking": False}, ""),
        ({"ansible_connection": "paramiko_ssh"}, ""),
        (
            {"ansible_connection": "paramiko_ssh", "ansible_host_key_checking": False},
            "host_key_checking = false (ansible_host_key",
        ),
        (
            {"ansible_connection": "ansible.builtin.ssh", "ansible_ssh_host_key_checking": False},
            "host_key_checking = false (ansible_ssh_host_key",
        ),
    ],
)
def test_the_check_of_host_keys_stays_on(
    variables: dict[str, Any], words: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("ANSIBLE_HOST_KEY_CHECKING", raising=False)
    found = _ssh.unchecked(variables)
    assert words in found if words else found == ""


def test_the_environment_switches_it_off_too(images: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ANSIBLE_HOST_KEY_CHECKING", "False")
    groups, hosts = plain(GOOD, images)
    # What the inventory of a cluster.yml says wins.
    hosts["alpha"]["ansible_host_key_checking"] = True
    found = _inventory.read(groups, hosts, _ssh.unchecked)
    assert found.problems == [], "it is no matter of what can work"
    assert len(found.barred) == 3
    assert found.barred[0].startswith("beta: host_key_checking = false (ANSIBLE_HOST_KEY_CHECKING)")


def test_hosts_that_paramiko_takes_as_they_come(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ANSIBLE_PARAMIKO_HOST_KEY_AUTO_ADD", "True")
    found = _ssh.unchecked({"ansible_connection": "paramiko_ssh"})
    assert found == "host_key_auto_add = true (ANSIBLE_PARAMIKO_HOST_KEY_AUTO_ADD)"
    assert _ssh.unchecked({}) == ""


@pytest.mark.parametrize("given", ["~/demo", "demo"])
def test_the_state_directory_is_the_same_wherever_it_is_looked_for(
    given: str, images: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOME", "/home/me")
    monkeypatch.chdir(images)
    groups, hosts = plain(GOOD, images)
    for variables in hosts.values():
        variables["kubewright_state_dir"] = given
    whole = {"~/demo": "/home/me/demo", "demo": str(images / "demo")}[given]
    found = _inventory.read(groups, hosts, no_one)
    assert (found.settings["state_dir"], found.barred) == (whole, [])
    # It wins over what the play keeps, so the tasks would have it as it is.
    (barred,) = _inventory.read(groups, hosts, no_one, {"kubewright_state_dir": given}).barred
    assert barred.endswith(f"Write {whole}.")
    for variables in hosts.values():
        variables["kubewright_state_dir"] = whole
    assert _inventory.read(groups, hosts, no_one, {"kubewright_state_dir": whole}).barred == []


@pytest.mark.parametrize("refuse", [True, False])
def test_a_cluster_that_is_to_be_removed_may_be_bad_and_its_hosts_are_checked_all_the_same(
    refuse: bool, images: Path
) -> None:
    plugin = action.ActionModule.__new__(action.ActionModule)
    plugin._loader = None
    groups, hosts = plain({**GOOD, "version": "1"}, images)
    plugin._known = {"groups": groups, "hostvars": hosts}
    bad = plugin.work({"refuse": refuse})
    assert bad.get("failed", False) is refuse
    assert any(problem.startswith("kubewright_version") for problem in bad["problems"])
    hosts["delta"]["ansible_host_key_checking"] = False
    refused = plugin.work({"refuse": refuse})
    assert refused["failed"] and "* delta: host_key_checking = false" in refused["msg"]
    assert ("* kubewright_version" in refused["msg"]) is refuse


@pytest.mark.parametrize("operation", ["reboot", "power_on", "power_off"])
def test_no_operation_on_machines_whose_keys_nobody_checks(operation: str) -> None:
    first, *_ = yaml.safe_load((CHECKOUT / f"playbooks/{operation}.yml").read_text())
    tasks, place = first["tasks"], CHECKOUT / "playbooks"
    # That of power.yml is the first one there.
    while file := tasks[0].get("ansible.builtin.import_tasks"):
        tasks, place = yaml.safe_load((place / file).read_text()), (place / file).parent
    _named, check, *_record = tasks
    assert check["kubewright.cluster.cluster_inventory"] == {"refuse": False}
    assert check["any_errors_fatal"] is True


def test_what_becomes_a_label_of_the_node_is_one(images: Path) -> None:
    machine = {"region": "eu", "zone": "eu west 1,a=b", "node_type": "x" * 64}
    told = read(images, kubewright_machine=machine, kubewright_pool="a b").problems
    assert [problem.split(" can't be")[0] for problem in told] == [
        "delta: kubewright_pool: 'a b'",
        "delta: kubewright_machine.zone: 'eu west 1,a=b'",
        f"delta: kubewright_machine.node_type: '{'x' * 64}'",
    ]
    assert all("Write at most 63 letters, digits and - _ ." in problem for problem in told)
    good = {"region": "eu_1", "zone": "eu-1", "node_type": "m5.XL"}
    assert read(images, kubewright_machine=good).problems == []


def test_a_node_has_an_address_for_each_pod(images: Path) -> None:
    told = {"container_runtime_kubelet_configuration": {"maxPods": 300}}
    (problem,) = read(images, **told).problems
    assert problem == (
        "delta: container_runtime_kubelet_configuration: maxPods 300 is more than a node has "
        "addresses for: its /24 of kubewright_pod_cidr has 254, one of which the bridge uses. "
        "Write 253 or less."
    )
    assert read(images, **told, cni_plugin="none").problems == [], "its own room is its own affair"
