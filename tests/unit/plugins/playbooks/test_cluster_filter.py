"""What playbooks ask of hosts, machines and answers."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from ansible.errors import AnsibleFilterError
from ansible_collections.kubewright.cluster.plugins.filter import cluster
from ansible_collections.kubewright.cluster.plugins.module_utils._onnode import guard


def state(phase: str = "none", ready: bool = False, serves: bool = True) -> dict[str, Any]:
    """What node_state says of a control plane."""
    return {
        "membership": {"phase": phase, "role": "control_plane" if phase != "none" else None},
        "certificates": {"due": not serves, "serves": serves, "list": []},
        "api_ready": ready,
    }


def test_who_is_leaving_is_no_node() -> None:
    groups = {"control_plane": ["a"], "pool_web": ["b"], "leaving": ["c", "d"]}
    assert cluster.nodes(groups) == ["a", "b"]
    assert cluster.known(groups) == ["a", "b", "c", "d"]
    hostvars = {"c": {"kubewright_role": "control_plane"}, "d": {}}
    assert cluster.leaving_planes(hostvars, groups) == ["c"]
    assert cluster.known({}) == cluster.leaving_planes({}, {}) == []


def test_what_a_report_needs_of_the_answers_keeps_who_said_nothing() -> None:
    hostvars: dict[str, dict[str, Any]] = {
        "a": {
            "kubewright_state": {
                **state(),
                "node_missing": True,
                "drift": {"worker": ["a long list"]},
            }
        },
        "b": {"kubewright_state": {"unreachable": True, "msg": "timed out", "changed": False}},
        "c": {},
    }
    assert cluster.answers(hostvars, ["b", "a", "c"]) == {
        "b": {"unreachable": True, "msg": "timed out"},
        "a": {"membership": state()["membership"], "node_missing": True},
        "c": {},
    }


def test_states_leave_out_who_did_not_answer() -> None:
    hostvars: dict[str, dict[str, Any]] = {
        "a": {"kubewright_state": {"unreachable": True}},
        "b": {"kubewright_state": state()},
        "c": {},
    }
    assert list(cluster.node_states(hostvars, ["a", "b", "c"])) == ["b"]


def test_balancers_get_the_same_list_everywhere() -> None:
    hostvars: dict[str, dict[str, Any]] = {
        "b": {"kubewright_machine": {"address": "192.0.2.2"}, "ansible_host": "bastion"},
        "a": {"ansible_host": "192.0.2.1"},
        "c": {},
    }
    assert cluster.reach(hostvars, ["a", "b", "c"], ["b", "z"]) == {
        "nodes": {one["name"]: one["address"] for one in cluster.api_servers(hostvars, ["a", "b"])},
        "servers": {"b": hostvars["b"]["kubewright_machine"]["address"]},
    }
    assert cluster.api_servers(hostvars, ["b", "c", "a"]) == [
        {"name": "a", "address": "192.0.2.1"},
        {"name": "b", "address": "192.0.2.2"},
    ]


def test_keys_are_secret_and_certificates_are_not() -> None:
    pki = {"ca.crt": "public", "etcd/ca.key": "private"}
    public, private = cluster.pki_files(pki)
    assert public == {"path": "/etc/kubernetes/pki/ca.crt", "content": "public"}
    assert private == {"path": "/etc/kubernetes/pki/etcd/ca.key", "mode": "0600", "secret": True}
    assert cluster.pki_secrets(pki) == {"/etc/kubernetes/pki/etcd/ca.key": "private"}


def test_labels_say_pool_and_place_and_nothing_unknown() -> None:
    machine = {"region": "local", "zone": "local-1", "node_type": ""}
    assert cluster.node_labels({"kubewright_pool": "web", "kubewright_machine": machine}) == {
        "kubewright.io/pool": "web",
        "topology.kubernetes.io/region": "local",
        "topology.kubernetes.io/zone": "local-1",
    }
    assert cluster.node_labels({"kubewright_pool": "", "kubewright_provider": "local"}) == {}


PLAIN = {
    "kubewright_cluster_name": "demo",
    "inventory_hostname": "alpha",
    "ansible_host": "192.0.2.11",
    "group_names": ["linux", "pool_big_mem"],
}


def test_a_plain_inventory_has_machines_and_pools_of_its_own() -> None:
    machine = cluster.node_machine(PLAIN)
    assert (machine["id"], machine["address"]) == ("static://demo/alpha", "192.0.2.11")
    assert cluster.node_labels(PLAIN) == {
        "kubewright.io/pool": "big-mem",
        "topology.kubernetes.io/region": "static",
        "topology.kubernetes.io/zone": "static",
        "node.kubernetes.io/instance-type": "static",
    }
    assert cluster.node_labels({**PLAIN, "group_names": ["control_plane"]}).keys() == {
        name for name in cluster.node_labels(PLAIN) if name != "kubewright.io/pool"
    }


def test_a_machine_that_is_not_made_is_not_made_up() -> None:
    assert cluster.node_machine({**PLAIN, "kubewright_provider": "local"}) == {}
    told = {"id": "local://demo/alpha"}
    assert cluster.node_machine({**PLAIN, "kubewright_machine": told}) == told


def test_nodes_are_the_hosts_of_the_control_plane_and_the_pools() -> None:
    groups = {
        "all": ["x", "b", "a", "c"],
        "pool_web": ["b", "c"],
        "control_plane": ["c", "a"],
        "pool_none": [],
        "pools": ["x"],
    }
    assert cluster.nodes(groups) == ["c", "a", "b"]
    assert cluster.nodes({"all": ["x"]}) == []


def test_providers_by_the_names_of_their_roles() -> None:
    records = {
        "a": {"provider": "my-cloud", "port": 22},
        "b": {"provider": "static", "port": 23},
        "c": {"provider": "static", "port": 24},
    }
    assert cluster.providers(records, ["c", "a", "b"]) == ["static", "my_cloud"]
    assert cluster.providers(records, []) == []
    assert cluster.provided(records, "static") == [
        {"name": "b", "provider": "static", "port": 23},
        {"name": "c", "provider": "static", "port": 24},
    ]


@pytest.mark.parametrize(
    ("machine", "provider", "ready"),
    [
        ({"power": "on", "host_keys": ["ssh-ed25519 A"]}, "local", True),
        ({"power": "off", "host_keys": ["ssh-ed25519 A"]}, "local", False),
        # A run was cut before the machine let the cluster's key in: it has to be finished.
        ({"power": "on", "host_keys": []}, "local", False),
        # Nobody makes it: ssh says whether it knows the machine.
        ({"power": "on", "host_keys": []}, "static", True),
        (None, "static", False),
    ],
)
def test_which_machines_are_missing_or_unfinished(
    machine: dict[str, Any] | None, provider: str, ready: bool
) -> None:
    listed = [{"name": "stranger", "power": "on", "host_keys": []}]
    listed += [{"name": "a", "provider": provider, **machine}] if machine else []
    records = {"a": {"provider": provider}}
    assert cluster.unready(records, ["a"], listed) == ([] if ready else ["a"])


def test_a_machine_is_not_moved_to_another_provider() -> None:
    records = {"a": {"provider": "static"}}
    machine = {"name": "a", "power": "on", "host_keys": ["k"], "provider": "local"}
    with pytest.raises(AnsibleFilterError, match="a is a machine of the provider local, but the"):
        cluster.unready(records, ["a"], [machine])


def test_who_a_run_is_for() -> None:
    """--limit @file names hosts that the lookup does not know; they were looked at all the same."""
    silent = {"unreachable": True, "msg": "timed out"}
    found: dict[str, dict[str, Any]] = {
        "a": {"kubewright_state": state()},
        "b": {"kubewright_state": silent},
        "c": {},
        "d": {},
    }
    assert cluster.meant(found, ["a", "b", "c", "d"], []) == ["a", "b"]
    assert cluster.meant(found, ["a", "b", "c", "d"], ["c", "localhost"]) == ["a", "b", "c"]


@pytest.mark.parametrize(
    ("path", "unit"),
    [
        ("/dev/vdb", "dev-vdb.device"),
        # As systemd-escape writes it.
        (
            "/dev/disk/by-id/scsi-0QEMU_a+b@c:1.2",
            r"dev-disk-by\x2did-scsi\x2d0QEMU_a\x2bb\x40c:1.2.device",
        ),
    ],
)
def test_the_unit_of_a_device(path: str, unit: str) -> None:
    assert cluster.wait_for_device(path) == f"Requires={unit}\nAfter={unit}"
    assert cluster.wait_for_device("") == cluster.wait_for_device("/srv/disk") == ""


def test_a_script_that_needs_another_runs_beside_it(tmp_path: Path) -> None:
    for name in ("trial", "trial_node"):
        (tmp_path / f"{name}.py").write_text(cluster.node_script(name))
    # As on a node: no collection, and nobody's site-packages.
    alone = [
        sys.executable,
        "-IBc",
        f"import sys; sys.path.insert(0, {str(tmp_path)!r}); import trial",
    ]
    subprocess.run(alone, check=True)


def test_a_script_for_nodes_is_the_modules_own_text() -> None:
    assert cluster.node_script("guard") == Path(guard.__file__).read_text()


def test_who_failed_to_join_is_not_waited_for() -> None:
    phases = {"cp-1": "none", "cp-2": "none", "web-1": "none", "web-2": "none", "web-3": "joined"}
    states = {name: {"membership": {"phase": phase}} for name, phase in phases.items()}
    done = {"phase": "joined", "changed": True}
    hostvars: dict[str, dict[str, Any]] = {
        "cp-1": {"__control_plane_started": done},
        "cp-2": {"__control_plane_started": {"skipped": True}, "__control_plane_joined": done},
        "web-1": {"__worker_joined": {"failed": True, "msg": "its kubelet dies"}},
        "web-2": {"__worker_joined": done},
        "web-3": {"__worker_joined": {"skipped": True}},
    }
    assert cluster.awaited(states, hostvars) == ["cp-1", "cp-2", "web-2", "web-3"]
    roles = Path(__file__).parents[4] / "roles"
    tasks = "".join(path.read_text() for path in roles.glob("*/tasks/main.yml"))
    assert all(f"register: {name}\n" in tasks for name in cluster.JOINS)
