# SPDX-License-Identifier: Apache-2.0
"""Machines of one's own: what the file may say of them, and the inventory that it means."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import Any

import pytest
import yaml

from kubewright.locations import ClusterPaths
from kubewright.spec import roster
from kubewright.spec.errors import Problem, SpecError
from kubewright.spec.inventory import Inventory, build
from kubewright.spec.loading import check
from kubewright.spec.machines import Machine, Machines
from kubewright.spec.models import Spec
from kubewright.spec.rules import Surroundings, Unresolved

TABLE = Path(__file__).parents[2] / "data" / "bad_clusters.yml"
DATA: dict[str, Any] = yaml.safe_load(TABLE.read_text())
GOOD, CASES = DATA["good"], DATA["cases"]
#: A real public key; of no machine.
KEY = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIPp1undaLfVdZ5x0CvsaJ2bMVqR5pnThB1ND321VbeoT"

OWN = f"""\
plugin: kubewright.cluster.spec
name: demo
version: "1.37"
ssh: {{user: admin, port: 2222, private_key_file: ~/.ssh/own}}
control_plane:
  provider: static
  nodes:
    - {{name: alpha, address: 192.0.2.11, host_keys: [{KEY} root@alpha]}}
pools:
  - {{name: web, provider: local, size: 1}}
  - name: disks
    provider: static
    system_volume: {{size_gb: 40}}
    nodes: [{{name: delta, address: 192.0.2.21}}]
"""


def resolve(version: str, _cluster: str) -> str:
    if version.startswith("1.37"):
        return "1.37.2"
    raise Unresolved(f"there is no Kubernetes {version}", "choose 1.37")


def parsed(text: str) -> Spec:
    around = Surroundings(providers={"local", "static"}, resolve=resolve)
    return check(text, Path("cluster.yml"), around)


def problems(text: str) -> list[Problem]:
    with pytest.raises(SpecError) as caught:
        parsed(text)
    return list(caught.value.problems)


def file_of(cluster: dict[str, Any]) -> str:
    """The cluster.yml that describes a case of the table."""

    def place(nodes: list[dict[str, Any]], **more: Any) -> dict[str, Any]:
        own = {"provider": "static", "system_volume": cluster["system_volume"]}
        return {**more, **own, "nodes": nodes}

    pools = [place(nodes, name=name) for name, nodes in cluster["pools"].items()]
    fields = {name: cluster[name] for name in ("name", "version", "pod_cidr", "service_cidr")}
    return yaml.safe_dump(
        {
            "plugin": "kubewright.cluster.spec",
            **fields,
            "control_plane": place(cluster["control_plane"]),
            "pools": pools,
        },
        sort_keys=False,
    )


def test_the_good_cluster_of_the_table() -> None:
    spec = parsed(file_of(GOOD))
    assert list(roster.of(spec).hosts) == ["alpha", "beta", "gamma", "delta"]
    assert spec.machine_count == 4


@pytest.mark.parametrize("case", sorted(CASES))
def test_a_bad_cluster(case: str) -> None:
    found = problems(file_of({**GOOD, **CASES[case]["change"]}))
    told = "\n".join(f"{problem.field}: {problem.message}; {problem.remedy}" for problem in found)
    for words in CASES[case]["says"]:
        assert words.lower() in told.lower()
    assert all(problem.remedy and problem.line for problem in found)


@pytest.mark.parametrize(
    ("before", "after", "field", "words"),
    [
        ("provider: local, size: 1", "provider: static, size: 1", "pools[0].size", "one by one"),
        (
            "provider: local, size: 1",
            "provider: local, nodes: [{name: x, address: 192.0.2.9}]",
            "pools[0].nodes",
            "the provider 'local' creates its machines",
        ),
        ("provider: local, size: 1", "provider: static", "pools[0].nodes", "is missing"),
        ("provider: local, size: 1", "provider: local", "pools[0].size", "is missing"),
        ("provider: local, size: 1", "provider: local, size: ", "pools[0].size", "is empty"),
        ("name: delta", "name: demo-web-1", "pools[1].nodes[0].name", "a machine of pools[0]"),
        ("name: delta", "name: workers", "pools[1].nodes[0].name", "is reserved in Ansible"),
        ("name: delta", "name: alpha", "pools[1].nodes[0].name", "control_plane.nodes[0]"),
        (
            "192.0.2.21",
            "192.0.2.11",
            "pools[1].nodes[0].address",
            "192.0.2.11 is also the address of control_plane.nodes[0]",
        ),
        ("address: 192.0.2.21", "addres: 192.0.2.21", "pools[1].nodes[0].address", "is missing"),
        (KEY, KEY[:40], "control_plane.nodes[0].host_keys[0]", "is not a public SSH key"),
        (KEY, KEY.replace("d2", "rs"), "control_plane.nodes[0].host_keys[0]", "is not a public"),
        *(
            (
                f"{KEY} root@alpha",
                f'"@cert-authority{name} {KEY}"',
                "control_plane.nodes[0].host_keys[0]",
                "does not name the CA",
            )
            for name in ("", " *.example.com", " a,b", " {{x}}")
        ),
        ("user: admin", "user: a b", "ssh.user", "'a b' is not allowed"),
        ("user: admin", 'user: "{{ x }}"', "ssh.user", "is not allowed"),
        ("port: 2222", "port: 0", "ssh.port", "0 is not allowed"),
        ("~/.ssh/own", "own", "ssh.private_key_file", "'own' is not allowed"),
        ("size_gb: 40", "size_gb: 19", "pools[1].system_volume.size_gb", "19 is not allowed"),
        ("size_gb: 40", "type: disk", "pools[1].system_volume.type", "'disk' is not"),
        ("size_gb: 40", "type: block", "pools[1].system_volume.device", "is missing"),
        ("size_gb: 40", "device: /dev/vdb", "pools[1].system_volume.device", "local is a file"),
        (
            "size_gb: 40",
            "type: block, device: /dev/vd b",
            "pools[1].system_volume.device",
            "'/dev/vd b' is not allowed",
        ),
        (
            "size_gb: 40",
            "type: block, device: /dev/../etc/passwd",
            "pools[1].system_volume.device",
            "has . or .. in it",
        ),
        (
            "size_gb: 40",
            'type: block, device: "/dev/vdb\\n"',
            "pools[1].system_volume.device",
            "is not allowed",
        ),
        (
            "size_gb: 40",
            "size_gb: 16000001",
            "pools[1].system_volume.size_gb",
            "16000001 is more than",
        ),
        ("size_gb: 40", "size: 40", "pools[1].system_volume.size", "is not a known field"),
    ],
)
def test_what_is_told(before: str, after: str, field: str, words: str) -> None:
    assert before in OWN
    found = {problem.field: problem for problem in problems(OWN.replace(before, after))}
    assert words in found[field].message
    assert found[field].remedy


LONG = "x" * 60


def test_a_long_name_of_a_cluster_is_in_no_name_of_an_own_machine() -> None:
    lines = [line for line in OWN.splitlines() if "provider: local" not in line]
    text = "\n".join(lines).replace("name: demo", f"name: {LONG}")
    spec = parsed(text.replace("name: disks", f"name: {LONG[::-1]}"))
    assert list(roster.of(spec).hosts) == ["alpha", "delta"]
    assert spec.own_hosts() == ("alpha", "delta")
    (problem,) = problems(OWN.replace("name: demo", f"name: {LONG}"))
    assert problem.field == "pools[0].name"
    assert f"{LONG}-web-1" in problem.message


def test_ssh_for_machines_that_the_file_does_not_have() -> None:
    local = """\
plugin: kubewright.cluster.spec
name: demo
version: "1.37"
control_plane: {provider: local, size: 1}
pools: []
"""
    assert parsed(local).own_hosts() == ()
    (problem,) = problems(f"{local}ssh: {{user: admin}}\n")
    assert (problem.line, problem.column, problem.field) == (6, 1, "ssh")
    assert problem.message == "has no effect: no pool has the provider static"
    assert problem.remedy == "remove it, or write the provider static for your own machines"
    unknown = f"{local}ssh: {{user: admin}}\n".replace("provider: local, ", "")
    assert [one.field for one in problems(unknown)] == ["control_plane.provider"]


def test_everything_at_once() -> None:
    text = OWN.replace("user: admin", "user: a b").replace("192.0.2.21", "10.96.0.9")
    text = text.replace("name: delta", "name: Delta").replace("size_gb: 40", "size_gb: 4")
    assert [problem.field for problem in problems(text)] == [
        "ssh.user",
        "pools[1].system_volume.size_gb",
        "pools[1].nodes[0].name",
        "pools[1].nodes[0].address",
    ]


def built(text: str = OWN, machines: tuple[Machine, ...] = ()) -> Inventory:
    return build(
        parsed(text),
        version="1.37.2",
        paths=ClusterPaths(Path("/state/demo")),
        machines=Machines("demo", None, machines),
    )


def test_hosts_in_their_order() -> None:
    inventory = built()
    assert list(inventory.hosts) == ["alpha", "demo-web-1", "delta"]
    assert inventory.groups["control_plane"].hosts == ("alpha",)
    assert inventory.groups["pool_disks"].hosts == ("delta",)
    assert list(roster.of(parsed(OWN)).hosts) == list(inventory.hosts)


def test_how_an_own_machine_is_reached() -> None:
    alpha = built().hosts["alpha"]
    assert (alpha["ansible_host"], alpha["ansible_port"]) == ("192.0.2.11", 2222)
    assert (alpha["ansible_user"], alpha["ansible_become"]) == ("admin", True)
    assert alpha["ansible_ssh_private_key_file"] == "~/.ssh/own"
    assert alpha["kubewright_host_keys"] == [KEY]
    words = shlex.split(alpha["ansible_ssh_common_args"])
    for option in ("StrictHostKeyChecking=yes", "HostKeyAlias=alpha", "IdentitiesOnly=yes"):
        assert option in words
    assert 'UserKnownHostsFile="/state/demo/known_hosts"' in words


def test_a_host_key_that_is_signed_is_checked_under_the_name_in_its_certificate() -> None:
    signed = f"@cert-authority alpha.example.com {KEY}"
    text = OWN.replace(f"{KEY} root@alpha", f'"{KEY} root@alpha", "{signed} of ours"')
    alpha = built(text).hosts["alpha"]
    assert alpha["kubewright_host_keys"] == [KEY, signed]
    assert "HostKeyAlias=alpha.example.com" in shlex.split(alpha["ansible_ssh_common_args"])
    listed = Machine(
        **{
            **alpha["kubewright_machine"],
            "name": "delta",
            "host_keys": (f"@cert-authority 192.0.2.21 {KEY}",),
        }
    )
    delta = built(machines=(listed,)).hosts["delta"]
    assert "HostKeyAlias=192.0.2.21" in shlex.split(delta["ansible_ssh_common_args"])


def test_without_settings_root_logs_in_with_what_the_user_has() -> None:
    lines = [line for line in OWN.splitlines() if not line.startswith("ssh:")]
    delta = built("\n".join(lines)).hosts["delta"]
    assert (delta["ansible_user"], delta["ansible_port"]) == ("root", 22)
    assert "ansible_become" not in delta and "ansible_ssh_private_key_file" not in delta
    assert "IdentitiesOnly" not in delta["ansible_ssh_common_args"]
    assert delta["kubewright_host_keys"] == []


def test_settings_for_own_machines_are_for_them_alone() -> None:
    made = built().hosts["demo-web-1"]
    assert made["ansible_user"] == "root"
    assert made["ansible_ssh_private_key_file"] == "/state/demo/ssh/id_ed25519"
    assert not {"ansible_port", "ansible_become", "kubewright_host_keys"} & made.keys()


def test_the_volumes_size_is_in_bytes() -> None:
    hosts = built().hosts
    assert hosts["delta"]["system_volume_size_bytes"] == 40_000_000_000
    assert hosts["alpha"]["system_volume_size_bytes"] == 20_000_000_000
    assert "system_volume_device" not in hosts["delta"]


def test_the_volume_is_on_a_device() -> None:
    text = OWN.replace("size_gb: 40", "type: block, device: /dev/disk/by-id/virtio-system")
    hosts = built(text).hosts
    assert hosts["delta"]["system_volume_type"] == "block"
    assert hosts["delta"]["system_volume_device"] == "/dev/disk/by-id/virtio-system"
    assert hosts["delta"]["system_volume_size_bytes"] == 20_000_000_000
    assert "system_volume_type" not in hosts["alpha"]


def test_the_file_is_what_there_is_whatever_was_listed() -> None:
    machine = built().hosts["delta"]["kubewright_machine"]
    assert (machine["id"], machine["power"]) == ("static://demo/delta", "on")
    assert machine["host_keys"] == []
    listed = Machine(**{**machine, "address": "192.0.2.99", "host_keys": (KEY,)})
    delta = built(machines=(listed,)).hosts["delta"]
    assert delta["kubewright_machine"]["address"] == delta["ansible_host"] == "192.0.2.21"
    assert delta["kubewright_machine"]["host_keys"] == [KEY]
