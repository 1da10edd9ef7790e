# SPDX-License-Identifier: Apache-2.0
"""Modules of the controller's own files run in Ansible's process, as modules do."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from real_ansible import Ansible

PLAY = """
- name: Play
  hosts: localhost
  connection: local
  gather_facts: false
  vars:
    # Whatever would start a process for a module fails.
    ansible_python_interpreter: /nowhere/python
  tasks:
    - &identity
      name: Predict
      kubewright.cluster.cluster_identity: &arguments
        path: "{{ playbook_dir }}/identity"
        cluster_name: demo
      check_mode: true
      diff: true
    - <<: *identity
      name: Make
      check_mode: false
    - <<: *identity
      name: Again
      check_mode: false
      diff: false
    - name: Without its argument
      kubewright.cluster.machines_file:
        directory: "{{ playbook_dir }}"
        cluster: demo
      ignore_errors: true
    - name: A bad entry
      kubewright.cluster.machines_file:
        directory: "{{ playbook_dir }}"
        cluster: demo
        machines: [{name: a}]
      ignore_errors: true
    - name: No directory
      kubewright.cluster.machines_file:
        directory: "{{ playbook_dir }}/play.yml/below"
        cluster: demo
        machines: []
      ignore_errors: true
    - name: Sign
      kubewright.cluster.kubeconfig:
        path: "{{ playbook_dir }}/kubeconfig"
        identity_path: "{{ playbook_dir }}/identity"
        cluster_name: demo
        server: https://192.0.2.1:6443
"""


@pytest.fixture
def results(tmp_path: Path, ansible: Ansible) -> dict[str, dict[str, Any]]:
    """The result of each task by its name."""
    (tmp_path / "play.yml").write_text(PLAY)
    process = ansible.play("play.yml", ANSIBLE_STDOUT_CALLBACK="ansible.posix.json")
    assert process.returncode == 0, process.stdout + process.stderr
    tasks = json.loads(process.stdout)["plays"][0]["tasks"]
    return {task["task"]["name"]: task["hosts"]["localhost"] for task in tasks}


@pytest.mark.timeout(120)
def test_check_diff_change_and_failure(results: dict[str, Any], tmp_path: Path) -> None:
    predicted, made, again = results["Predict"], results["Make"], results["Again"]
    assert predicted["changed"] and made["changed"] and not again["changed"]
    assert predicted["diff"]["after"] and made["diff"]["after"]
    assert "diff" not in again
    assert again["cluster_id"] == made["cluster_id"] != predicted["cluster_id"]
    assert (tmp_path / "identity/pki/ca.key").is_file()

    missing, bad = results["Without its argument"], results["A bad entry"]
    assert missing["failed"] and "machines" in missing["msg"]
    assert bad["failed"] and not bad["changed"]
    nowhere = results["No directory"]
    assert nowhere["failed"] and "play.yml/below/machines.json: Not a directory" in nowhere["msg"]
    assert "Traceback" not in json.dumps([missing, bad, nowhere])

    assert results["Sign"]["changed"]
    assert (tmp_path / "kubeconfig").stat().st_mode & 0o777 == 0o600
