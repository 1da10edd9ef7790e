# SPDX-License-Identifier: Apache-2.0
"""What comes from files, providers and nodes is text: no template in it is ever rendered."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from canaries import Place, at, canary, put, texts
from real_ansible import PLAYBOOK, Ansible

from kubewright.spec.errors import SpecError, dotted
from kubewright.spec.kubelet_fields import fields
from kubewright.spec.loading import check
from kubewright.spec.models import Spec, json_schema
from kubewright.spec.rules import Surroundings

CHECKOUT = Path(__file__).parents[3]
KEY = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIHZ7D+MlvoSO/iEMpoZIkXpsMWiuumuAV2PgHFm8eyes"
#: It has every list that there is, with one entry.
CLUSTER: dict[str, Any] = {
    "plugin": "kubewright.cluster.spec",
    "name": "demo",
    "version": "1.37",
    "control_plane": {
        "provider": "static",
        "nodes": [{"name": "alpha", "address": "192.0.2.11", "host_keys": [KEY]}],
        "system_volume": {"type": "block", "device": "/dev/sdb"},
    },
    "pools": [
        {
            "name": "web",
            "provider": "static",
            "nodes": [{"name": "beta", "address": "192.0.2.21", "host_keys": [KEY]}],
            "system_volume": {"type": "block", "device": "/dev/sdb"},
        }
    ],
    "ssh": {"user": "root", "private_key_file": "~/.ssh/id_ed25519"},
}
KUBELET_ARGS: tuple[Place, ...] = (("control_plane", "kubelet_args"), ("pools", 0, "kubelet_args"))
IDENTITY = {
    "cluster_id": "3f0c",
    "begun": False,
    "initial_node": "",
    "ca_certificate": "AAAA",
    "ca_cert_hash": "sha256:" + "c" * 64,
    "control_plane_pki": {"ca.crt": "AAAA"},
}

#: The real action; what it would send to a node is written to a file.
RECORDING = """\
import json
from pathlib import Path

from ansible_collections.kubewright.cluster.plugins.action import node_state


class ActionModule(node_state.ActionModule):
    def _execute_module(self, module_name, module_args, task_vars):
        name = task_vars["inventory_hostname"]
        Path(task_vars["recorded"], f"{name}.json").write_text(json.dumps(module_args))
        return {"changed": False}
"""
#: Everything that is known of a host, and what the roles make of it.
PLAYS = """\
- hosts: localhost
  connection: local
  gather_facts: false
  tasks:
    - ansible.builtin.import_tasks: "{{ checkout }}/playbooks/tasks/cluster.yml"
    - ansible.builtin.set_fact:
        kubewright_identity: "{{ identity }}"
        kubewright_decision: {actor: "{{ groups.control_plane | first }}"}
        kubewright_api_servers: >-
          {{ hostvars | kubewright.cluster.api_servers(groups.control_plane) }}
- hosts: all
  gather_facts: false
  vars_files: ["{{ checkout }}/playbooks/vars/nodes.yml"]
  vars:
    kubewright_state: {membership: {phase: none}}
  tasks:
    - ansible.builtin.debug:
        msg: "{{ hostvars[inventory_hostname] | to_json }}"
    - recording:
        roles: "{{ kubewright_roles | difference(['preflight']) }}"
      ignore_errors: true
"""

pytestmark = [
    pytest.mark.timeout(180),
    pytest.mark.skipif(not PLAYBOOK.exists(), reason="needs ansible-core"),
]


def every_text() -> Iterator[Place]:
    """Each field of cluster.yml that takes text, and in kubelet_args each of the kubelet's."""
    schema = json_schema()
    for place in texts(schema, schema):
        if place[:-1] not in KUBELET_ARGS and not any(part == "any" for part in place):
            yield place
    for parent in KUBELET_ARGS:
        for name, kind in fields("1.37").items():
            of_kind = kind.adapter().json_schema()
            yield from ((*parent, name, *inner) for inner in texts(of_kind, of_kind))


def refusals(document: dict[str, Any]) -> list[str]:
    """The fields of which `kubewright validate` says something."""
    text = yaml.safe_dump(document)
    try:
        check(text, Path("cluster.yml"), Surroundings())
    except SpecError as error:
        return [problem.field for problem in error.problems]
    return []


def play(ansible: Ansible, inventory: Path, **more: str) -> str:
    """Run the plays; what they say."""
    directory = ansible.directory
    (directory / "action_plugins").mkdir()
    (directory / "action_plugins/recording.py").write_text(RECORDING)
    (directory / "play.yml").write_text(PLAYS)
    known = {"identity": IDENTITY, "recorded": str(directory), "checkout": str(CHECKOUT)}
    done = ansible.play(
        "-i",
        inventory,
        "-e",
        json.dumps(known),
        "play.yml",
        KUBEWRIGHT_STATE_DIR=str(directory / "state"),
        KUBEWRIGHT_CACHE_DIR=str(directory / "cache"),
        **more,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout + done.stderr


def kubelet(directory: Path, host: str) -> dict[str, Any]:
    """The kubelet's configuration that a host would get."""
    documents = json.loads((directory / f"{host}.json").read_text())["documents"]
    files = documents["container_runtime"]["kubelet"]["files"]
    drop_in = next(file for file in files if file["path"].endswith("10-kubewright.conf"))
    configuration: dict[str, Any] = json.loads(drop_in["content"])
    return configuration


def test_no_field_of_cluster_yml_is_a_template(tmp_path: Path, ansible: Ansible) -> None:
    """Every one that takes text, each refused with its name, or written as it stands."""
    marker = tmp_path / "ran"
    taken: list[Place] = []
    document = CLUSTER
    for place in every_text():
        alone = put(CLUSTER, place, canary(marker))
        named = refusals(alone)
        if named:
            # Of one part of a value also what is then missing beside it.
            end = place.index("kubelet_args") + 2 if "kubelet_args" in place else len(place)
            whole = dotted(place[:end])
            assert any(
                dotted(place).startswith(field) or field.startswith(whole) for field in named
            ), (place, named)
        else:
            taken.append(place)
            document = put(document, place, canary(marker))
    assert ("pools", 0, "kubelet_args", "clusterDomain") in taken
    (tmp_path / "cluster.yml").write_text(yaml.safe_dump(document))
    play(ansible, tmp_path / "cluster.yml")
    assert not marker.exists()
    for host, parent in zip(("alpha", "beta"), KUBELET_ARGS, strict=True):
        written = kubelet(tmp_path, host)
        for name, value in at(document, parent).items():
            assert written[name] == value
    assert not [place for place in taken if place[:2] not in [p[:2] for p in KUBELET_ARGS]], (
        "a field that takes anything has to be looked at above"
    )


def test_every_field_is_tried() -> None:
    """What generates the places sees each field of the models, whatever is added to them."""
    seen = {place[0] for place in every_text()}
    assert seen == set(Spec.model_fields)


def options() -> dict[str, tuple[str, Any]]:
    """Each option that may hold text, of the roles that make a node: its group, and its spec."""
    found = {}
    for path in sorted(CHECKOUT.glob("roles/*/meta/argument_specs.yml")):
        role = path.parents[1].name
        if role in ("preflight", "kubeconfig", "node") or role.startswith("provider_"):
            continue
        group = "control_plane" if role in ("control_plane", "cni") else "pool_web"
        specs = yaml.safe_load(path.read_text())["argument_specs"]
        found |= {
            name: (group, option)
            for name, option in specs["main"]["options"].items()
            if option["type"] not in ("bool", "int", "float")
        }
    return found


def shaped(option: dict[str, Any], text: str) -> Any:
    """A text in the shape of an option's type."""
    if option["type"] == "list":
        return [{"any": text} if option.get("elements") == "dict" else text]
    return {"any": {"deep": [text]}} if option["type"] == "dict" else text


class Unsafe(str):
    """A text that Ansible's YAML says is no template."""


yaml.SafeDumper.add_representer(
    Unsafe, lambda dumper, text: dumper.represent_scalar("!unsafe", str(text))
)
#: A line that would be a setting of its own in each format that there is.
BROKEN_OUT = "ExecStartPre=/bin/false"


@pytest.fixture
def plain(tmp_path: Path, ansible: Ansible) -> dict[str, tuple[str, str]]:
    """Option and text of each host of a plain inventory, after the plays have run.

    What the plays say is in the file ``said``.
    """
    groups: dict[str, dict[str, Any]] = {"control_plane": {}, "pool_web": {}}
    tried = {}
    for text in (canary(tmp_path / "ran"), f"x\n{BROKEN_OUT}\n"):
        for name, (group, option) in options().items():
            number = len(tried) + 1
            host = {name: shaped(option, Unsafe(text)), "ansible_host": f"192.0.2.{number}"}
            if name == "system_volume_device":
                host["system_volume_type"] = "block"
            groups[group][f"node-{number}"] = host
            tried[f"node-{number}"] = (name, text)
    inventory = {
        "all": {
            "vars": {
                "kubewright_cluster_name": "demo",
                "kubewright_version": "1.37.2",
                "kubewright_image_dir": str(tmp_path),
                # Some do not fit together.
                "kubewright_refuse": False,
            },
            "children": {group: {"hosts": hosts} for group, hosts in groups.items()},
        }
    }
    (tmp_path / "inventory.yml").write_text(yaml.safe_dump(inventory))
    (tmp_path / "said").write_text(play(ansible, tmp_path / "inventory.yml"))
    return tried


def test_no_option_of_a_plain_inventory_is_more_than_text(
    tmp_path: Path, plain: dict[str, tuple[str, str]]
) -> None:
    """What its owner marks as no template stays none in what the roles make of it.

    And what can't stand in a file's format is refused, with the option's name.
    """
    assert not (tmp_path / "ran").exists()
    said = " ".join((tmp_path / "said").read_text().split())
    refused = set()
    for host, (name, _) in plain.items():
        sent = tmp_path / f"{host}.json"
        if sent.exists():
            files = [
                file.get("content", "")
                for document in json.loads(sent.read_text())["documents"].values()
                for file in document.get("files", ())
            ]
            assert not any(BROKEN_OUT in content.splitlines() for content in files), name
        else:
            refused.add(name)
            assert name in said.split(f"[{host}]: FAILED!", 1)[1].split("[ERROR]", 1)[0], name
    assert {"container_runtime_limit_nofile", "system_volume_device"} <= refused
    names = [name for name, _ in plain.values()]
    host = f"node-{names.index('container_runtime_kubelet_configuration') + 1}"
    assert kubelet(tmp_path, host)["any"] == {"deep": [canary(tmp_path / "ran")]}
