# SPDX-License-Identifier: Apache-2.0
"""What machines.json, providers and nodes say is text in every play that reads it."""

from __future__ import annotations

import json
from dataclasses import fields
from pathlib import Path
from typing import Any

import pytest
import yaml
from ansible_collections.kubewright.cluster.plugins.module_utils._base.errors import KubewrightError
from ansible_collections.kubewright.cluster.plugins.module_utils._cluster import machines
from canaries import canary
from real_ansible import PLAYBOOK, Ansible

from kubewright.spec.machines import Machine

CHECKOUT = Path(__file__).parents[3]
KEY = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIHZ7D+MlvoSO/iEMpoZIkXpsMWiuumuAV2PgHFm8eyes"
FIELDS = [field.name for field in fields(Machine)]
#: Those that may drift.
ROLES = ("system_volume", "load_balancer", "container_runtime", "control_plane", "cni", "worker")
#: In place of Python on a node: whatever module it is given, it answers with a file.
NODE = """\
#!/bin/sh
cat {answer}
"""

pytestmark = [
    pytest.mark.timeout(180),
    pytest.mark.skipif(not PLAYBOOK.exists(), reason="needs ansible-core"),
]


def machine(name: str, **changes: Any) -> dict[str, Any]:
    return {
        "id": f"local://demo/{name}",
        "name": name,
        "address": f"192.0.2.{10 + int(name.rsplit('-', 1)[1])}",
        "host_keys": [KEY],
        "provider": "local",
        "region": "local",
        "zone": "local-1",
        "node_type": "container",
        "power": "on",
        **changes,
    }


def test_no_field_of_machines_json_is_a_template(tmp_path: Path, ansible: Ansible) -> None:
    """A file of ours, in which somebody else wrote: each field of it, a machine each."""
    marker = tmp_path / "ran"
    told = {f"demo-web-{number}": field for number, field in enumerate(FIELDS, start=1)}
    told = {name: field for name, field in told.items() if field != "name"}
    machines = [
        machine(name, **{field: [canary(marker)] if field == "host_keys" else canary(marker)})
        for name, field in told.items()
    ]
    state = tmp_path / "state" / "demo"
    state.mkdir(parents=True)
    document = {"schema": 1, "cluster": "demo", "written_at": "2026-01-02T03:04:05Z"}
    (state / "machines.json").write_text(json.dumps({**document, "machines": machines}))
    (tmp_path / "cluster.yml").write_text(f"""\
plugin: kubewright.cluster.spec
name: demo
version: "1.37"
control_plane: {{provider: local, size: 1}}
pools: [{{name: web, provider: local, size: {len(FIELDS)}}}]
""")
    (tmp_path / "play.yml").write_text("""\
- hosts: all
  gather_facts: false
  tasks:
    - ansible.builtin.set_fact:
        kept: "{{ kubewright_machine | default({}) }}"
    - ansible.builtin.debug: {msg: "seen{{ [kept, ansible_host | default('')] | to_json }}seen"}
""")
    places = {"KUBEWRIGHT_STATE_DIR": str(tmp_path / "state")}
    done = ansible.play("-i", "cluster.yml", "play.yml", **places)
    assert done.returncode == 0, done.stdout + done.stderr
    assert not marker.exists()
    assert done.stdout.count("touch") >= len(told), "each of them was seen"


@pytest.mark.parametrize("field", FIELDS)
def test_a_provider_is_believed_only_what_each_field_can_be(field: str) -> None:
    text = "local://{{lookup('pipe','id')}}" if field == "id" else canary(Path("/tmp/ran"))
    value = [text] if field == "host_keys" else text
    with pytest.raises(KubewrightError) as raised:
        machines.validated([{**machine("demo-web-1"), field: value}])
    assert field.replace("host_keys", "host key") in str(raised.value)


def answer(name: str, text: str) -> dict[str, Any]:
    """What any of our modules returns on a host, with a text wherever one may stand."""
    return {
        "changed": True,
        "msg": text,
        "warnings": [text],
        "diff": [{"before": text, "after": text, "before_header": text, "after_header": text}],
        "drift": {role: [text] for role in ROLES},
        "unknown": [text],
        "findings": [{"check": text, "severity": "warning", "text": text, "remedy": text}],
        "machine": {"hostname": text, "machine_id": name, "interface": text, "mtu": 1500},
        "membership": {"phase": "none", "operation": text, "role": text, "cluster_id": text},
        "node": {"ready": False, "unschedulable": False, "kubelet": text, text: text},
        "api_ready": False,
        "epoch": 0,
        "fence": {"epoch": 0, "run": text},
        "paths": [text],
        "tokens": {"web-1": text},
        "token_ids": [text],
        "images": [{"digest": text, "active": True}],
        text: {text: text},
    }


def test_no_answer_of_a_node_is_a_template(tmp_path: Path, ansible: Ansible) -> None:
    """The whole of a first apply, on nodes whose modules answer with templates."""
    marker = tmp_path / "ran"
    groups: dict[str, dict[str, Any]] = {"control_plane": {}, "pool_web": {}}
    for number, (group, name) in enumerate((("control_plane", "cp-1"), ("pool_web", "web-1"))):
        (tmp_path / f"{name}.json").write_text(json.dumps(answer(name, canary(marker))))
        node = tmp_path / name
        node.write_text(NODE.format(answer=tmp_path / f"{name}.json"))
        node.chmod(0o755)
        groups[group][name] = {
            "ansible_host": f"192.0.2.{number + 1}",
            "ansible_python_interpreter": str(node),
        }
    inventory = {
        "all": {
            "vars": {
                "kubewright_cluster_name": "demo",
                "kubewright_version": "1.37.2",
                "kubewright_state_dir": str(tmp_path / "state"),
                "system_volume_image_digest": "a" * 64,
                "system_volume_image_path": str(tmp_path / "none"),
                "ansible_connection": "local",
            },
            "children": {group: {"hosts": hosts} for group, hosts in groups.items()},
        }
    }
    (tmp_path / "inventory.yml").write_text(yaml.safe_dump(inventory))
    site = CHECKOUT / "playbooks" / "site.yml"
    done = ansible.play("-i", "inventory.yml", "--diff", site)
    said = done.stdout + done.stderr
    assert not marker.exists()
    for task in ("Join as a worker", "Wait for the nodes and for DNS"):
        assert task in said, said
