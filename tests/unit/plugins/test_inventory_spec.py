# SPDX-License-Identifier: Apache-2.0
"""The inventory plugin, through ansible-inventory and ansible-playbook."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from kubewright.spec.models import ControlPlane, Pool, Spec

ROOT = Path(__file__).parents[3]
BIN = Path(sys.prefix) / "bin"

pytestmark = [
    pytest.mark.timeout(60),
    pytest.mark.skipif(not (BIN / "ansible-inventory").exists(), reason="needs ansible-core"),
]

CLUSTER = """\
plugin: kubewright.cluster.spec
name: demo
version: "1.37"
control_plane: {provider: local, size: 3}
pools:
  - {name: web-a, provider: local, size: 2}
  - {name: none, provider: local, size: 0}
"""


class World:
    """A cluster.yml, and Ansible that finds the collection in the checkout."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.file = directory / "cluster.yml"
        self.file.write_text(CLUSTER)
        self.state = directory / "state" / "demo"
        self.state.mkdir(parents=True)
        namespace = directory / "share" / "ansible_collections" / "kubewright"
        namespace.mkdir(parents=True)
        (namespace / "cluster").symlink_to(ROOT)
        self.env = {
            **os.environ,
            "ANSIBLE_COLLECTIONS_PATH": str(directory / "share"),
            "ANSIBLE_NOCOLOR": "1",
            "KUBEWRIGHT_STATE_DIR": str(directory / "state"),
            "KUBEWRIGHT_CACHE_DIR": str(directory / "cache"),
            "LC_ALL": "C.UTF-8",
        }

    def run(self, program: str, *words: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [BIN / program, *words],
            cwd=self.directory,
            env=self.env,
            capture_output=True,
            text=True,
            check=False,
        )

    def listed(self) -> dict[str, Any]:
        ended = self.run("ansible-inventory", "-i", "cluster.yml", "--list")
        assert ended.returncode == 0, ended.stderr
        # Text that is no template is marked in this output.
        data: dict[str, Any] = json.loads(
            ended.stdout, object_hook=lambda found: found.get("__ansible_unsafe", found)
        )
        return data

    def machines(self, address: str) -> None:
        machine = {
            "id": "local://demo/demo-cp-1",
            "name": "demo-cp-1",
            "address": address,
            "host_keys": ["ssh-ed25519 AAAA"],
            "provider": "local",
            "region": "local",
            "zone": "local-1",
            "node_type": "container",
            "power": "on",
        }
        content = {
            "schema": 1,
            "cluster": "demo",
            "written_at": "2026-01-02T03:04:05Z",
            "machines": [machine],
        }
        (self.state / "machines.json").write_text(json.dumps(content))


@pytest.fixture
def world(tmp_path: Path) -> World:
    return World(tmp_path)


def test_the_inventory_of_the_checkouts_own_collection(world: World) -> None:
    world.machines("10.89.0.11")
    listed = world.listed()
    assert listed["control_plane"]["hosts"] == ["demo-cp-1", "demo-cp-2", "demo-cp-3"]
    assert listed["pool_web_a"]["hosts"] == ["demo-web-a-1", "demo-web-a-2"]
    assert listed["workers"]["children"] == ["pool_web_a", "pool_none"]
    assert listed["kubewright"]["children"] == ["control_plane", "workers"]
    variables = listed["_meta"]["hostvars"]["demo-cp-1"]
    assert variables["ansible_host"] == "10.89.0.11"
    assert variables["kubewright_version"] == "1.37.2"
    assert variables["kubewright_state_dir"] == str(world.state)
    assert variables["kubewright_machine"]["id"] == "local://demo/demo-cp-1"
    assert "ansible_host" not in listed["_meta"]["hostvars"]["demo-cp-2"]
    local = listed["_meta"]["hostvars"]["demo-web-a-1"]
    assert local["system_volume_sparse"] is True, "a variable of the local provider"


def test_localhost_sees_the_cluster_and_a_refresh_reads_machines_again(world: World) -> None:
    machines = world.state / "machines.json"
    world.machines("10.0.0.1")
    later = machines.read_text().replace("10.0.0.1", "10.0.0.2")
    machines.unlink()
    (world.directory / "later.json").write_text(later)
    (world.directory / "playbook.yml").write_text(f"""\
- hosts: localhost
  gather_facts: false
  tasks:
    - ansible.builtin.assert:
        that:
          - kubewright_cluster_name == "demo"
          - "'ansible_host' not in hostvars['demo-cp-1']"
    - ansible.builtin.copy:
        src: {world.directory}/later.json
        dest: {machines}
        mode: "0600"
    - ansible.builtin.meta: refresh_inventory
    - ansible.builtin.assert:
        that: hostvars["demo-cp-1"].ansible_host == "10.0.0.2"
""")
    ended = world.run("ansible-playbook", "-i", "cluster.yml", "playbook.yml")
    assert ended.returncode == 0, ended.stdout + ended.stderr


def test_a_cluster_keeps_its_release_when_the_catalogue_moves_on(world: World) -> None:
    identity = {"begun": True, "initial_node": "demo-cp-1", "fixed": {"version": "1.37.1"}}
    (world.state / "identity").mkdir()
    (world.state / "identity" / "cluster.json").write_text(json.dumps(identity))
    assert world.listed()["_meta"]["hostvars"]["demo-cp-1"]["kubewright_version"] == "1.37.1"


def test_only_what_the_collection_wrote_is_a_template(world: World) -> None:
    """A provider.yml is its code: here one of a collection that differs in that file alone."""
    namespace = world.directory / "share" / "ansible_collections" / "kubewright"
    (namespace / "cluster").unlink()
    (namespace / "cluster" / "roles").mkdir(parents=True)
    for name in ("galaxy.yml", "meta", "plugins"):
        shutil.copytree(ROOT / name, namespace / "cluster" / name) if (
            ROOT / name
        ).is_dir() else shutil.copy(ROOT / name, namespace / "cluster")
    role = namespace / "cluster" / "roles" / "provider_local"
    role.mkdir()
    (role / "provider.yml").write_text(
        "host_vars: {mine: '{{ 1 + 1 }}', deep: {list: ['{{ inventory_hostname }}']}}\n"
    )
    world.file.write_text(CLUSTER.replace("size: 3", "size: 3, kubelet_args: {clusterDomain: X}"))
    world.file.write_text(world.file.read_text().replace("X", "'{{ 1 + 1 }}'"))
    words = ["-e", "ansible_connection=local", "-m", "ansible.builtin.debug"]
    said = ""
    for variable in ("mine", "deep", "container_runtime_kubelet_configuration"):
        ended = world.run(
            "ansible", "-i", "cluster.yml", "demo-cp-1", *words, "-a", f"var={variable}"
        )
        said += ended.stdout
    assert '"mine": 2' in said
    assert '"demo-cp-1"\n        ]' in said
    assert '"clusterDomain": "{{ 1 + 1 }}"' in said


def test_what_is_wrong_with_a_file_is_told(world: World) -> None:
    """Three inventories at once: Ansible goes on after a bad one."""
    moon = CLUSTER.replace("provider: local, size: 3", "provider: moon, size: 3")
    for name, text in (("field", CLUSTER + "poolz: 1\n"), ("provider", moon)):
        (world.directory / name).mkdir()
        (world.directory / name / "cluster.yml").write_text(text)
    world.machines("10.0.0.1")
    machines = world.state / "machines.json"
    machines.write_text(machines.read_text().replace('"cluster": "demo"', '"cluster": "other"'))
    files = [f"-i={place}cluster.yml" for place in ("field/", "provider/", "")]
    told = world.run("ansible-inventory", *files, "--list").stderr
    assert "field/cluster.yml:8:1: poolz: is not a known field; did you mean pools?" in told
    assert "there is no provider 'moon'; known providers: local" in told
    assert "machines.json: can't be used: it belongs to the cluster 'other', not to 'demo'" in told


def test_without_the_package_it_says_what_to_install(world: World) -> None:
    empty = world.directory / "empty"
    empty.mkdir()
    (empty / "kubewright.py").write_text(
        "raise ModuleNotFoundError('No module named kubewright')\n"
    )
    world.env["PYTHONPATH"] = str(empty)
    ended = world.run("ansible-inventory", "-i", "cluster.yml", "--list")
    told = " ".join(ended.stderr.split())
    assert f"{BIN}/python" in told
    assert " -m pip install kubewright" in told


def test_the_documentation_names_every_field(world: World) -> None:
    ended = world.run("ansible-doc", "-t", "inventory", "--json", "kubewright.cluster.spec")
    assert ended.returncode == 0, ended.stderr
    options = json.loads(ended.stdout)["kubewright.cluster.spec"]["doc"]["options"]
    assert set(options) == set(Spec.model_fields)
    assert set(options["control_plane"]["suboptions"]) == set(ControlPlane.model_fields)
    assert set(options["pools"]["suboptions"]) == set(Pool.model_fields)


def test_the_state_of_another_file_of_the_name_is_refused(world: World) -> None:
    listed = world.listed()
    assert listed["_meta"]["hostvars"]["demo-cp-1"]["kubewright_cluster_file"] == str(world.file)
    other = world.directory / "other.yml"
    other.write_text(CLUSTER)
    record = {"schema": 1, "file": str(other), "ids": ["id"], "providers": ["local"]}
    (world.state / "record.json").write_text(json.dumps(record))
    ended = world.run("ansible-inventory", "-i", "cluster.yml", "--list")
    assert f"another cluster called demo, that of {other}" in " ".join(ended.stderr.split())
    assert "demo-cp-1" not in ended.stdout
    other.unlink()
    assert world.listed()["_meta"]["hostvars"]["demo-cp-1"], "it was moved"


def test_a_playbook_tells_why_the_file_is_none_and_not_what_it_lacks_without(world: World) -> None:
    """Ansible goes on with an empty inventory, in which nothing is said of a cluster."""
    world.file.write_text(world.file.read_text().replace("size: 3", "size: 2"))
    task = "{kubewright.cluster.cluster_inventory: {}}"
    play = f"- hosts: localhost\n  gather_facts: false\n  tasks: [{task}]\n"
    (world.directory / "play.yml").write_text(play)
    ended = world.run("ansible-playbook", "-i", "cluster.yml", "play.yml")
    assert ended.returncode == 2, ended.stdout + ended.stderr
    failed = ended.stdout.partition("FAILED! => ")[2]
    assert f"{world.file}:4:40: control_plane.size: 2 is even" in failed
    assert "is missing" not in failed
