# Copyright: the Kubewright authors
# Apache License 2.0 (see LICENSE or https://www.apache.org/licenses/LICENSE-2.0)
"""Filters: the nodes, which control plane acts for them, and authorities as files."""

from __future__ import annotations

import functools
import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from ansible.errors import AnsibleFilterError
from ansible_collections.kubewright.cluster.plugins.module_utils import _fleet, _nodes

MODULE_UTILS = Path(__file__).resolve().parents[1] / "module_utils"
# How one of them names another, and what that one is called on a node.
IMPORT = re.compile(
    r"^from ansible_collections\.kubewright\.cluster\.plugins\.module_utils\._(\w+) import", re.M
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
    """The text of the module_utils file `name`, which nodes run without the collection.

    What it needs of another one lies beside it, as that one's name and ``.py``.
    """
    return IMPORT.sub(r"from \1 import", (MODULE_UTILS / f"_{name}.py").read_text("utf-8"))


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


def actor(
    states: Mapping[str, Mapping[str, Any]], initial_node: str | None = None, begun: bool = False
) -> str:
    """The control plane that acts for the cluster in this run.

    `states`: what `node_state` returned, by name, of the control planes that answered.
    `initial_node`: the node that is on record as having begun the cluster, if any.
    `begun`: whether the cluster is on record as having been whole.

    It is one whose API server is ready, else one that has to have its certificates renewed before
    it can be; where no cluster exists yet, the node on record, else the first by name. A cluster is
    never begun a second time: where the node on record does not answer and nobody else has joined,
    that is an error.
    """
    if not states:
        raise AnsibleFilterError(
            "No control plane answers. Power one on, or check SSH to it; where there is a --limit, "
            "it has to contain one, since one acts for the cluster."
        )
    joined = sorted(
        name for name, state in states.items() if state["membership"]["phase"] == "joined"
    )
    ready = [name for name in joined if states[name]["api_ready"]]
    if ready:
        return ready[0]
    expired = [name for name in joined if not states[name]["certificates"]["serves"]]
    if expired:
        return expired[0]
    if joined:
        raise AnsibleFilterError(
            f"No API server is ready on {', '.join(joined)}. Most of the control planes must be "
            "powered on: check the others, then look at `crictl ps -a` and "
            "`journalctl -u kubelet` there."
        )
    if begun:
        raise AnsibleFilterError(
            f"The cluster is there, and {', '.join(sorted(states))} is no part of it any more: the "
            "machine was lost or made anew. Bring back another control plane, or restore etcd from "
            "a backup. To begin anew, destroy the cluster."
        )
    if not initial_node:
        return min(states)
    if initial_node not in states:
        raise AnsibleFilterError(
            f"The cluster was begun on {initial_node}, which does not answer, and no other control "
            f"plane has joined. Power {initial_node} on, or destroy the cluster to begin anew."
        )
    return initial_node


def nodes(groups: Mapping[str, list[str]]) -> list[str]:
    """The hosts of a cluster: control planes first, then pool by pool.

    `groups`: Ansible's own. Nodes are in `control_plane` and in the groups `pool_<name>`.
    """
    return _nodes.names(groups)


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
        f"{machine['name']} is a machine of the provider {machine['provider']}, and the inventory "
        f"has it at {records[machine['name']]['provider']}."
        for machine in machines
        if machine["name"] in names and machine["provider"] != records[machine["name"]]["provider"]
    ]
    if moved:
        raise AnsibleFilterError(
            f"{' '.join(moved)} Nothing was changed. Give the new pool another name, or put the "
            "provider back."
        )
    own = {name for name in names if records[name]["provider"] == _nodes.STATIC}
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


def drifted(states: Mapping[str, Mapping[str, Any]], acting: str) -> list[str]:
    """Who is not as desired by its `node_state`, the one that acts for the cluster first.

    Objects of the whole cluster (the role cni) are brought about by that one alone.
    """
    needs = [
        name
        for name, state in sorted(states.items())
        if set(state["drift"]) - ({"cni"} if name != acting else set())
    ]
    return sorted(needs, key=lambda name: name != acting)


def unsettled(
    states: Mapping[str, Mapping[str, Any]],
    drifted: list[str],
    findings: list[Mapping[str, str]],
) -> list[str]:
    """The nodes of which is to be seen whether they work when a run is over.

    `drifted`: who is changed. Besides, who was not Ready, and through whom traffic did not flow by
    the `findings` of `preflight_report`.
    """
    impeded = {one["host"] for one in findings if one["check"] == _fleet.TRAFFIC}
    return [
        name
        for name, state in states.items()
        if name in drifted or name in impeded or not state["node"].get("ready")
    ]


def renewing(states: Mapping[str, Mapping[str, Any]]) -> list[str]:
    """The control planes whose certificates have to be renewed, by their `node_state`."""
    return [
        name
        for name, state in sorted(states.items())
        if state["membership"]["role"] == _nodes.CONTROL_PLANE and state["certificates"]["due"]
    ]


def tried_first(
    states: Mapping[str, Mapping[str, Any]], groups: Mapping[str, list[str]], acting: str
) -> list[str]:
    """Who gets other settings for the kubelet before the others of its kind do: one of each.

    A kind: the control planes, or a pool. Where only one node has joined and would get other
    settings, nobody has to wait for it.
    """
    kinds = [
        [name for name in hosts if states.get(name, {}).get("resets_kubelet")]
        for hosts in _nodes.places(groups).values()
    ]
    return [
        min(names, key=lambda name: (name == acting, names.index(name)))
        for names in kinds
        if len(names) > 1
    ]


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
    address: str | None = _nodes.address(variables)
    return address


def node_machine(variables: Mapping[str, Any]) -> dict[str, Any]:
    """A host's machine as its provider has it; empty while unknown."""
    return _nodes.machine(variables)


def node_labels(variables: Mapping[str, Any]) -> dict[str, str]:
    """Labels of a Node: its pool, and where its machine is (kubernetes.io's well-known names)."""
    return _nodes.labels(variables)


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
    """`cluster_identity`'s authorities as files for `node_files`; keys are secret."""
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
            "actor": actor,
            "answers": answers,
            "awaited": awaited,
            "api_servers": api_servers,
            "reach": reach,
            "unsettled": unsettled,
            "drifted": drifted,
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
            "renewing": renewing,
            "tried_first": tried_first,
            "unready": unready,
            "wait_for_device": wait_for_device,
        }
