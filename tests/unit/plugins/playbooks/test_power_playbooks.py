# SPDX-License-Identifier: Apache-2.0
"""Machines are restarted and switched off in turn, and none of another cluster is touched."""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path

import pytest
import yaml
from real_ansible import INVENTORY, PLAYBOOK, Ansible

CHECKOUT = Path(__file__).resolve().parents[4]
OURS, THEIRS = "5b0e6f0a-0000-4000-8000-000000000001", "5b0e6f0a-0000-4000-8000-000000000002"
# Whoever is not refused ends as well: Ansible restarts no machine that it works on itself.
SCRIPT = """
mount -t tmpfs tmpfs /run && mkdir -p /var/lib/kubewright || exit 9
mount -t tmpfs tmpfs /var/lib/kubewright || exit 9
cp kubeadm.json /var/lib/kubewright
echo READY
for playbook in reboot power_off node_image_gc; do
  {playbook} -i inventory.yml kubewright.cluster.$playbook --limit b
done
ls /var/lib/kubewright
"""


@pytest.mark.skipif(os.getuid() != 0, reason="needs a mount namespace")
def test_a_machine_of_another_cluster_is_refused(tmp_path: Path, ansible: Ansible) -> None:
    state = tmp_path / "state"
    state.mkdir()
    record = {"schema": 1, "file": "", "ids": [OURS], "providers": ["static"]}
    (state / "record.json").write_text(json.dumps(record))
    (tmp_path / "inventory.yml").write_text(INVENTORY.format(state=state, python=sys.executable))
    node = {"phase": "finished", "operation": "join", "role": "worker", "cluster_id": THEIRS}
    (tmp_path / "kubeadm.json").write_text(json.dumps(node))
    done = ansible.play_apart(SCRIPT.format(playbook=PLAYBOOK))
    if "READY" not in done.stdout:
        pytest.skip(f"no mount namespace here: {done.stderr}")
    *runs, left = done.stdout.split("PLAY RECAP")
    assert len(runs) == 3, done.stdout + done.stderr
    for shown in runs:
        assert f"b is a node of the cluster {THEIRS}, and demo is {OURS} here." in shown
        assert "Take the run's epoch" not in shown
    assert left.split()[-1] == "kubeadm.json", "nothing was written"


@pytest.mark.parametrize("operation", ["reboot", "power_off"])
def test_each_has_its_turn_after_what_is_known_was_asked_again(operation: str) -> None:
    begin, turn = yaml.safe_load((CHECKOUT / f"playbooks/{operation}.yml").read_text())
    assert begin["vars"] == turn["vars"] == {"kubewright_operation": operation}
    assert (turn["serial"], turn["any_errors_fatal"]) == (1, True)
    asked, *drains, switched = turn["tasks"][: 3 if operation == "reboot" else 2]
    back = turn["tasks"][len(drains) + 2 :]
    assert asked["ansible.builtin.import_tasks"] == "tasks/power_turn.yml"
    role = switched["ansible.builtin.include_role"]
    assert (role["tasks_from"], role["apply"]) == (operation, {"connection": "local"})
    waits = ["ansible.builtin.wait_for_connection", "kubewright.cluster.node_up"]
    found = [next(key for key in task if "." in key) for task in back]
    assert found == ([*waits, "ansible.builtin.include_role"] if operation == "reboot" else [])
    nodes = [*drains, *back[2:]]
    turns = [task["ansible.builtin.include_role"]["tasks_from"] for task in nodes]
    assert turns == (["drain", "release"] if operation == "reboot" else [])
    # Who can't be reached is rebooted with the pods that are there.
    assert {task["when"].partition(" ")[0] for task in nodes} <= {"drains"}


def test_etcd_is_asked_last_before_a_machine_goes() -> None:
    *_, asks, refuses = yaml.safe_load((CHECKOUT / "playbooks/tasks/power_turn.yml").read_text())
    assert "kubewright.cluster.etcd_info" in asks and "ansible.builtin.assert" in refuses
    assert asks["when"] == refuses["when"] == "counts"
