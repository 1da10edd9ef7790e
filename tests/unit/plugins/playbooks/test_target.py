# SPDX-License-Identifier: Apache-2.0
"""Operations on hosts that somebody names: a name that means nobody is an error."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import yaml
from real_ansible import Ansible

PLAYBOOKS = Path(__file__).parents[4] / "playbooks"
INVENTORY = """\
control_plane: {hosts: {a: {ansible_connection: local}}}
pool_web: {hosts: {b: {ansible_connection: local}}}
"""
# Apart from pytest's process, whose imports Ansible would take over.
TEMPLATE = """
import json, sys
from ansible.parsing.dataloader import DataLoader
from ansible.plugins.loader import init_plugin_loader
from ansible.template import Templar

path, cases = json.load(sys.stdin)
init_plugin_loader()
target = DataLoader().load_from_file(path, trusted_as_template=True)
groups = {"all": ["a", "b"], "control_plane": ["a"], "pool_web": ["b"]}
found = [
    Templar(DataLoader(), {"groups": groups, **target, **told}).template(target["kubewright_hosts"])
    for told in cases
]
json.dump(found, sys.stdout)
"""


def hosts(*cases: dict[str, Any]) -> Any:
    """What the plays' `hosts` becomes with the variables of each case."""
    done = subprocess.run(
        [sys.executable, "-c", TEMPLATE],
        input=json.dumps([str(PLAYBOOKS / "vars/target.yml"), cases]),
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def test_hosts_and_groups_that_there_are() -> None:
    targets = ["b", "a,b", "a, b", "pool_web", "all", "localhost", "pool_*", "all:!a", ["a"], []]
    assert hosts(*({"kubewright_target": it, "ansible_limit": "a"} for it in targets)) == targets


def test_the_limit_counts_where_nobody_is_named() -> None:
    """And without any it is localhost, which is no node: each operation refuses it."""
    assert hosts({"ansible_limit": "b"}, {}) == ["b", "localhost"]


def test_a_name_that_means_nobody_is_an_error(tmp_path: Path, ansible: Ansible) -> None:
    """Also under a limit, which leaves a play for localhost out."""
    (tmp_path / "inventory.yml").write_text(INVENTORY)
    words = ["kubewright.cluster.reset", "-i", "inventory.yml", "-e", "kubewright_target=b,wbe"]
    done = ansible.play(*words, "--limit", "b")
    shown = done.stdout + done.stderr
    assert done.returncode != 0 and "TASK" not in shown, shown
    assert "no host or group of this inventory is named wbe." in shown
    assert "Nothing was changed. Hosts: a, b. Groups: control_plane, pool_web." in shown


def test_all_operations_on_named_hosts_find_them_alike() -> None:
    named = [path for path in PLAYBOOKS.glob("*.yml") if "kubewright_target=" in path.read_text()]
    assert len(named) == 13
    for path in named:
        for number, play in enumerate(yaml.safe_load(path.read_text())):
            # The first play may find out in which order they have their turns.
            hosts = [
                "{{ kubewright_hosts }}",
                "{{ hostvars.localhost.kubewright_turns | default([]) }}",
            ]
            assert play["hosts"] in hosts[: number + 1], path.name
            assert "vars/target.yml" in play["vars_files"], path.name
