# SPDX-License-Identifier: Apache-2.0
"""The probe of machines that do not answer, in a real ansible-playbook."""

from __future__ import annotations

import json
import re
import sys
from pathlib import Path
from typing import Any

import pytest
from real_ansible import PLAYBOOK, Ansible

CHECKOUT = Path(__file__).parents[4]
NODES = {"cp-1": "control_plane", "web-1": "pool_web"}
#: What OpenSSH says of a host that is not in known_hosts.
STRANGE = """\
#!/bin/sh
echo "No ED25519 host key is known for it and you have requested strict checking." >&2
echo "Host key verification failed." >&2
exit 255
"""
#: The same of one that is still there when nobody can write to it any more.
LINGERS = STRANGE.replace("exit 255", "exec <&-; sleep 0.5; exit 255")

pytestmark = [
    pytest.mark.timeout(120),
    pytest.mark.skipif(not PLAYBOOK.exists(), reason="needs ansible-core"),
]


def played(ansible: Ansible, network: str, host: dict[str, Any], *words: str) -> tuple[int, str]:
    """Run a playbook on two nodes that are like *host*; return its status and what it says."""
    inventory = {
        "all": {
            "vars": {
                "kubewright_cluster_name": "demo",
                "kubewright_version": "1.37.2",
                "kubewright_pod_cidr": "10.244.0.0/16",
                "kubewright_service_cidr": "10.96.0.0/16",
                "kubewright_state_dir": str(ansible.directory / "state"),
            },
            "children": {
                "kubewright": {"children": {group: {} for group in NODES.values()}},
                **{
                    group: {"hosts": {name: {**host, "ansible_host": f"{network}.{number}"}}}
                    for number, (name, group) in enumerate(NODES.items(), start=1)
                },
            },
        }
    }
    (ansible.directory / "inventory.json").write_text(json.dumps(inventory))
    done = ansible.play("-i", "inventory.json", *words)
    return done.returncode, " ".join((done.stdout + done.stderr).split())


def test_the_reasons_are_one_table_before_anything_is_elected(ansible: Ansible) -> None:
    # Nothing listens on port 1.
    dead = {"ansible_port": 1, "kubewright_provider": "static"}
    probe = str(CHECKOUT / "playbooks/probe.yml")
    status, said = played(ansible, "127.0.0", dead, probe)
    assert status == 2, said
    assert "2 findings on cp-1, web-1 must be fixed first" in said
    for name in NODES:
        assert re.search(rf"FATAL +{name} +ssh +The machine is up, but nothing listens", said)
        assert re.search(rf"{name} +: ok=1 +changed=0 +unreachable=0 .* ignored=1", said)
    assert "Elect who acts" not in said


@pytest.mark.parametrize("limit", ["web-1", "web-1,localhost"])
def test_a_limit_without_localhost_is_refused(ansible: Ansible, limit: str) -> None:
    dead = {"ansible_port": 1, "kubewright_provider": "static"}
    probe = str(CHECKOUT / "playbooks/probe.yml")
    status, said = played(ansible, "127.0.0", dead, probe, "--limit", limit)
    refused = "localhost" not in limit
    assert status != 0 and ("PLAY RECAP" not in said) is refused, said
    told = "excludes localhost, which holds the desired state of the nodes. Nothing was changed."
    assert (f"--limit web-1 {told} Use instead: --limit web-1,localhost" in said) is refused
    assert ("nothing listens" in said) is not refused


@pytest.mark.parametrize("client", [STRANGE, LINGERS], ids=["ends", "lingers"])
@pytest.mark.parametrize("check", [False, True])
def test_machines_of_ones_own_whose_host_keys_nobody_knows(
    tmp_path: Path, ansible: Ansible, check: bool, client: str
) -> None:
    ssh = tmp_path / "ssh"
    ssh.write_text(client)
    ssh.chmod(0o755)
    strange = {
        "ansible_ssh_executable": str(ssh),
        "kubewright_provider": "static",
        "kubewright_host_keys": [],
        "system_volume_image_path": "/never/copied",
    }
    plan = str(CHECKOUT / "playbooks/plan.yml")
    words = [plan, "--check"] if check else [plan]
    status, said = played(ansible, "192.0.2", strange, *words)
    assert status == (0 if check else 2), said
    for name in NODES:
        told = f"{name}: ssh: " if check else f"FATAL {name} ssh "
        assert f"{told}Its SSH host key is unknown" in said
    assert "into host_keys in cluster.yml" in said


ROLE = """\
- hosts: "{{ groups.control_plane + groups.pool_web }}"
  gather_facts: false
  tasks:
    - name: Check the machines
      ansible.builtin.include_role:
        name: kubewright.cluster.preflight
    - name: Go on
      ansible.builtin.debug: {msg: "went on with {{ inventory_hostname }}"}
"""


@pytest.mark.parametrize("check", [False, True])
def test_the_role_alone_tells_of_all_hosts_where_the_first_is_dead(
    tmp_path: Path, ansible: Ansible, check: bool
) -> None:
    (tmp_path / "play.yml").write_text(ROLE)
    dead = "{{ 1 if inventory_hostname == 'cp-1' else 22 }}"
    living = "{{ 'ssh' if inventory_hostname == 'cp-1' else 'local' }}"
    host = {
        "ansible_port": dead,
        "ansible_connection": living,
        "ansible_python_interpreter": sys.executable,
        # Whatever this machine is, this speaks against it.
        "preflight_control_plane_cpus": 10_000,
        "preflight_worker_cpus": 10_000,
    }
    words = ["play.yml", "--check"] if check else ["play.yml"]
    status, said = played(ansible, "127.0.0", host, *words)
    assert status == (0 if check else 2), said
    nobody = "The machine is up, but nothing listens"
    if check:
        assert f"cp-1: ssh: {nobody}" in said and "web-1: cpus: " in said
        assert said.count("cp-1: ssh: ") == 1, "one host speaks for all"
    else:
        assert f"FATAL cp-1 ssh {nobody}" in said and "FATAL web-1 cpus " in said
        assert re.findall(r"fatal: \[(\S+)\]: FAILED!", said) == ["cp-1"]
    for name in NODES:
        assert (f"went on with {name}" in said) is check


def test_nothing_depends_on_the_first_host_of_an_inventory() -> None:
    """Whoever acts for the others is elected among those that are there."""
    files = [*(CHECKOUT / "playbooks").rglob("*.yml"), *(CHECKOUT / "roles").rglob("*.yml")]
    words = re.compile(r"run_once|groups(\.|\[')control_plane('\])?( \| first|\[0\])")
    assert len(files) > 50
    assert [str(path) for path in files if words.search(path.read_text())] == []
