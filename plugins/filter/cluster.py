# Copyright: the Kubewright authors
# Apache License 2.0 (see LICENSE or https://www.apache.org/licenses/LICENSE-2.0)
"""Filters: the nodes, what they said, and authorities as files."""

from __future__ import annotations

import functools
import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from ansible_collections.kubewright.cluster.plugins.module_utils._cluster import inventory
from ansible_collections.kubewright.cluster.plugins.plugin_utils._refusal import FilterRefusal

ON_NODE = Path(__file__).resolve().parents[1] / "module_utils/_onnode"
# How one of them names another, and what that one is called on a node.
IMPORT = re.compile(
    r"^from ansible_collections\.kubewright\.cluster\.plugins\.module_utils\._onnode\.(\w+) import",
    re.M,
)
PKI_DIRECTORY = "/etc/kubernetes/pki"
#: As what the roles register kubeadm's result.
JOINS = ("__control_plane_started", "__control_plane_joined", "__worker_joined")
REPORTED = (
    "clock",
    "findings",
    "machine",
    "membership",
    "module_stderr",
    "module_stdout",
    "msg",
    "node_missing",
    "stderr",
    "traffic",
    "unreachable",
)


@functools.cache
def node_script(name: str) -> str:
    """The text of a file of ``module_utils/_onnode``, which nodes run without the collection.

    What it needs of another one lies beside it, as that one's name and ``.py``.
    """
    return IMPORT.sub(r"from \1 import", (ON_NODE / f"{name}.py").read_text("utf-8"))


def wait_for_device(path: str) -> str:
    """Lines of a systemd unit that wait for a device below /dev; empty for any other path.

    The name of a device's unit is its path, escaped by systemd's rule, see systemd.unit(5).
    """
    if not path.startswith("/dev/"):
        return ""
    name = "-".join(
        re.sub(r"[^\w:.]", _hexadecimal, part, flags=re.ASCII) for part in path[1:].split("/")
    )
    return f"Requires={name}.device\nAfter={name}.device"


def _hexadecimal(character: re.Match[str]) -> str:
    return "".join(f"\\x{byte:02x}" for byte in character[0].encode())


def nodes(groups: Mapping[str, list[str]]) -> list[str]:
    """The hosts of a cluster: control planes first, then pool by pool.

    `groups`: Ansible's own. Nodes are in `control_plane` and in the groups `pool_<name>`.
    """
    return inventory.names(groups)


def known(groups: Mapping[str, list[str]]) -> list[str]:
    """The nodes of a cluster, and then the machines that are leaving it."""
    return inventory.known(groups)


def leaving_planes(
    hostvars: Mapping[str, Mapping[str, Any]], groups: Mapping[str, list[str]]
) -> list[str]:
    """The control planes that are leaving: they serve the API until they are removed."""
    return [
        name
        for name in groups.get(inventory.LEAVING, [])
        if hostvars[name].get("kubewright_role") == inventory.CONTROL_PLANE
    ]


def providers(records: Mapping[str, Mapping[str, Any]], names: list[str]) -> list[str]:
    """The providers of `names` by what `cluster_inventory` says, as in the names of their roles."""
    return list(dict.fromkeys(records[name]["provider"].replace("-", "_") for name in names))


def provided(records: Mapping[str, Mapping[str, Any]], provider: str) -> list[dict[str, Any]]:
    """What `cluster_inventory` says of the nodes of a provider, each with its name."""
    return [
        {"name": name, **record}
        for name, record in records.items()
        if record["provider"] == provider
    ]


def unready(
    records: Mapping[str, Mapping[str, Any]], names: list[str], machines: list[Mapping[str, Any]]
) -> list[str]:
    """Those of `names` whose machine is missing, off or unfinished, by what the providers list.

    `records`: what `cluster_inventory` says. A machine without host keys has not been finished by
    its provider; of one's own machines ssh says by itself which it does not know.

    An error where a node's machine is at another provider: none is moved, and two of one name
    could not be told apart.
    """
    moved = [
        f"{machine['name']} is a machine of the provider {machine['provider']}, but the "
        f"inventory assigns it to {records[machine['name']]['provider']}."
        for machine in machines
        if machine["name"] in names and machine["provider"] != records[machine["name"]]["provider"]
    ]
    if moved:
        raise FilterRefusal(
            f"{' '.join(moved)} Nothing was changed. Give the new pool another name, "
            "or restore the provider."
        )
    own = {name for name in names if records[name]["provider"] == inventory.STATIC}
    ready = {
        machine["name"]
        for machine in machines
        if machine["power"] == "on" and (machine["host_keys"] or machine["name"] in own)
    }
    return [name for name in names if name not in ready]


def node_states(
    hostvars: Mapping[str, Mapping[str, Any]], names: list[str]
) -> dict[str, Mapping[str, Any]]:
    """What `node_state` returned (as kubewright_state) for those of `names` that answered."""
    states = {name: hostvars[name].get("kubewright_state") or {} for name in names}
    return {name: state for name, state in states.items() if "membership" in state}


def answers(
    hostvars: Mapping[str, Mapping[str, Any]], names: list[str], variable: str = "kubewright_state"
) -> dict[str, dict[str, Any]]:
    """What `preflight_report` needs of `node_state`'s result for each of `names`, in that order.

    `variable`: as what it is registered. Of those that did not answer it is the reason.
    """
    said = {name: hostvars[name].get(variable) or {} for name in names}
    return {name: {key: one[key] for key in REPORTED if key in one} for name, one in said.items()}


def meant(
    hostvars: Mapping[str, Mapping[str, Any]], names: list[str], limited: list[str]
) -> list[str]:
    """Those of `names` that the run is for: what its limit names, and whoever was looked at.

    `limited`: the hosts of the limit, as far as they are known. It may also be a file
    (``--limit @file``), which Ansible's lookup does not read.
    """
    chosen = set(limited)
    return [name for name in names if name in chosen or hostvars[name].get("kubewright_state")]


def awaited(
    states: Mapping[str, Mapping[str, Any]], hostvars: Mapping[str, Mapping[str, Any]]
) -> list[str]:
    """Who has to become Ready by the end of the run: all but those that have failed to join.

    `states`: what `node_state` said of them when it began. `hostvars`: kubeadm's results since.
    """
    return [
        name
        for name, state in states.items()
        if state["membership"]["phase"] == "joined"
        or any((hostvars[name].get(result) or {}).get("phase") == "joined" for result in JOINS)
    ]


def node_address(variables: Mapping[str, Any]) -> str | None:
    """A host's own address: its machine's, else what Ansible connects to; None while unknown."""
    address: str | None = inventory.address(variables)
    return address


def node_machine(variables: Mapping[str, Any]) -> dict[str, Any]:
    """A host's machine as its provider has it; empty while unknown."""
    return inventory.machine(variables)


def node_labels(variables: Mapping[str, Any]) -> dict[str, str]:
    """Labels of a Node: its pool, and where its machine is (kubernetes.io's well-known names)."""
    return inventory.labels(variables)


def api_servers(
    hostvars: Mapping[str, Mapping[str, Any]], names: list[str]
) -> list[dict[str, str]]:
    """Name and address of each control plane in `names`, the same list on every node."""
    addresses = {name: node_address(hostvars[name]) for name in sorted(names)}
    return [{"name": name, "address": address} for name, address in addresses.items() if address]


def reach(
    hostvars: Mapping[str, Mapping[str, Any]], names: list[str], control_planes: list[str]
) -> dict[str, dict[str, str]]:
    """Addresses by name of whom the nodes `names` may ask: ``nodes``, and of these ``servers``."""
    nodes = {one["name"]: one["address"] for one in api_servers(hostvars, names)}
    servers = {name: address for name, address in nodes.items() if name in control_planes}
    return {"nodes": nodes, "servers": servers}


def pki_files(pki: Mapping[str, str]) -> list[dict[str, Any]]:
    """`cluster_identity`'s authorities as files of a document; keys are secret."""
    return [
        {"path": f"{PKI_DIRECTORY}/{name}", "mode": _pki_mode(name), "secret": True}
        if _travels_hidden(name)
        else {"path": f"{PKI_DIRECTORY}/{name}", "content": content}
        for name, content in sorted(pki.items())
    ]


def pki_secrets(pki: Mapping[str, str]) -> dict[str, str]:
    """The content of the secret ones among `pki_files`, by path."""
    return {
        f"{PKI_DIRECTORY}/{name}": content for name, content in pki.items() if _travels_hidden(name)
    }


def _travels_hidden(name: str) -> bool:
    """Keys, and sa.pub: its text ends as that of sa.key does, so in a log it looks like a leak."""
    return name.endswith((".key", ".pub"))


def _pki_mode(name: str) -> str:
    return "0600" if name.endswith(".key") else "0644"


class FilterModule:
    """Ansible's entry point."""

    def filters(self) -> dict[str, Callable[..., Any]]:
        """Names as used in playbooks."""
        return {
            "answers": answers,
            "awaited": awaited,
            "api_servers": api_servers,
            "reach": reach,
            "known": known,
            "leaving_planes": leaving_planes,
            "meant": meant,
            "node_address": node_address,
            "node_labels": node_labels,
            "node_machine": node_machine,
            "node_script": node_script,
            "node_states": node_states,
            "nodes": nodes,
            "pki_files": pki_files,
            "pki_secrets": pki_secrets,
            "provided": provided,
            "providers": providers,
            "unready": unready,
            "wait_for_device": wait_for_device,
        }
