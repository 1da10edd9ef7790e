# SPDX-License-Identifier: Apache-2.0
"""Desired documents rendered as the action plugin ``node_state`` renders them, without a run.

    python rendering.py NODES     every node's documents, in one process

The roles and what they are told are the playbooks' own (playbooks/vars/nodes.yml), the function is
the plugin's own. What Ansible adds in a run, its forks and its connections, is left out.
"""

from __future__ import annotations

import importlib
import os
import sys
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

_REPOSITORY = Path(__file__).resolve().parents[2]
# Ansible reads it when it is imported.
os.environ.setdefault("ANSIBLE_COLLECTIONS_PATH", str(_REPOSITORY / ".venv/share/kubewright"))

from ansible.plugins.loader import init_plugin_loader  # noqa: E402

# Before kubewright imports the collection: whoever is first says how it is found.
init_plugin_loader()

import planning  # noqa: E402
import simulated  # noqa: E402
from ansible.parsing.dataloader import DataLoader  # noqa: E402
from ansible.template import Templar  # noqa: E402
from measured import Simulated  # noqa: E402

from kubewright.spec.inventory import Inventory  # noqa: E402

_NODES = _REPOSITORY / "playbooks/vars/nodes.yml"
_AUTHORITIES = ("ca", "etcd/ca", "front-proxy-ca")
#: About as long as those of a real cluster.
_PEM = "-----BEGIN CERTIFICATE-----\n" + ("A" * 64 + "\n") * 12 + "-----END CERTIFICATE-----\n"


class _HostVars(Mapping[str, Mapping[str, Any]]):
    """All hosts' variables; like Ansible's own, never copied with what else a template sees."""

    def __init__(self, known: Mapping[str, Mapping[str, Any]]) -> None:
        self._known = known

    def __getitem__(self, name: str) -> Mapping[str, Any]:
        return self._known[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._known)

    def __len__(self) -> int:
        return len(self._known)

    def __deepcopy__(self, memo: object) -> _HostVars:
        return self


class Renderer:
    """Renders for the hosts of an inventory. ``answers``: what ``node_state`` returned of each."""

    def __init__(self, inventory: Inventory, answers: Mapping[str, Mapping[str, Any]]) -> None:
        module = "ansible_collections.kubewright.cluster.plugins.plugin_utils._desired"
        self._documents = importlib.import_module(module).documents
        self._loader = DataLoader()
        self._inventory = inventory
        self._answers = answers
        planes = inventory.groups["control_plane"].hosts
        controller = {
            "kubewright_identity": _identity(),
            "kubewright_api_servers": [
                {"name": name, "address": inventory.hosts[name]["ansible_host"]} for name in planes
            ],
            "kubewright_decision": {"actor": planes[0]},
        }
        groups = {name: list(group.hosts) for name, group in inventory.groups.items()}
        self._shared = {
            **self._loader.load_from_file(str(_NODES), trusted_as_template=True),
            **inventory.variables,
            **inventory.groups["kubewright"].variables,
            "groups": {**groups, "kubewright": list(inventory.hosts)},
            "hostvars": _HostVars({**inventory.hosts, "localhost": controller}),
        }

    def all(self, names: Iterable[str]) -> int:
        """Render every document of these hosts; return how many there were."""
        return sum(len(self.of_host(name)) for name in names)

    def of_host(self, name: str) -> dict[str, dict[str, Any]]:
        """Return the documents of a host by role."""
        variables = {
            **self._shared,
            **self._inventory.hosts[name],
            "inventory_hostname": name,
            "kubewright_state": self._answers[name],
        }
        templar = Templar(self._loader, variables)
        roles = templar.template(variables["kubewright_roles"])
        return dict(self._documents(roles, variables, self._loader))


def render(nodes: int) -> Simulated:
    """Measure the rendering of all nodes' documents, in one process and without its forks."""
    wanted = simulated.spec(simulated.text(nodes))
    known = simulated.inventory(wanted, simulated.machines(iter(())))
    known = simulated.inventory(wanted, simulated.machines(iter(known.hosts)))
    renderer = Renderer(known, simulated.answers(known))
    renderer.all(list(known.hosts)[:1])  # what is loaded once is not a node's cost
    seconds, count = planning.cost(lambda: renderer.all(known.hosts))
    assert count >= nodes, f"{count} documents"
    return Simulated(nodes, {"render": seconds}, planning.peak_mb())


def _identity() -> dict[str, Any]:
    """Return what ``cluster_identity`` returns, with authorities that nobody could use."""
    pki = {f"{name}{suffix}": _PEM for name in _AUTHORITIES for suffix in (".crt", ".key")}
    return {
        "cluster_id": "3f0c",
        "ca_certificate": _PEM,
        "ca_cert_hash": "sha256:" + "c" * 64,
        "control_plane_pki": {**pki, "sa.key": _PEM, "sa.pub": _PEM},
    }


if __name__ == "__main__":
    sys.exit(planning.main(render, sys.argv[1:]))
