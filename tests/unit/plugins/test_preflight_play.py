# SPDX-License-Identifier: Apache-2.0
"""The probe of machines that do not answer, in a real ansible-playbook."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
from real_ansible import PLAYBOOK, Ansible

CHECKOUT = Path(__file__).parents[3]
NODES = {"cp-1": "control_plane", "web-1": "pool_web"}

pytestmark = [
    pytest.mark.timeout(120),
    pytest.mark.skipif(not PLAYBOOK.exists(), reason="needs ansible-core"),
]


def test_the_reasons_are_one_table_before_anything_is_elected(
    tmp_path: Path, ansible: Ansible
) -> None:
    # Nothing listens on port 1.
    dead = {"ansible_host": "127.0.0.1", "ansible_port": 1, "kubewright_provider": "static"}
    inventory = {
        "all": {
            "vars": {
                "kubewright_cluster_name": "demo",
                "kubewright_version": "1.37.2",
                "kubewright_pod_cidr": "10.244.0.0/16",
                "kubewright_service_cidr": "10.96.0.0/16",
                "kubewright_state_dir": str(tmp_path / "state"),
            },
            "children": {
                "kubewright": {"children": {group: {} for group in NODES.values()}},
                **{group: {"hosts": {name: dead}} for name, group in NODES.items()},
            },
        }
    }
    (tmp_path / "inventory.json").write_text(json.dumps(inventory))
    done = ansible.play("-i", "inventory.json", CHECKOUT / "playbooks/probe.yml")
    said = done.stdout + done.stderr
    assert done.returncode == 2, said
    assert "2 findings on cp-1, web-1 must be mended first" in said
    for name in NODES:
        assert re.search(rf"FATAL +{name} +ssh +The machine is there, but nothing listens", said)
        assert re.search(rf"{name} +: ok=1 +changed=0 +unreachable=0 .* ignored=1", said)
    assert "Elect who acts" not in said
