# Copyright: the Kubewright authors
# Apache License 2.0 (see LICENSE or https://www.apache.org/licenses/LICENSE-2.0)
"""Which hosts of an inventory are nodes, and what they are. No I/O.

An inventory of any kind has the groups ``control_plane`` and ``pool_<name>``. A pool's name has
hyphens where its group has underscores.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from ansible_collections.kubewright.cluster.plugins.module_utils._cluster.machines import Machine

CONTROL_PLANE = "control_plane"
WORKER = "worker"
# Where machines come from unless an inventory says something else: they are there.
STATIC = "static"
# Machines that are known, and that the cluster is not to have any more.
LEAVING = "leaving"
_POOL = "pool_"
POOL_LABEL = "kubewright.io/pool"
# kubernetes.io's well-known labels, by the field of a machine.
_LABELS = {
    "region": "topology.kubernetes.io/region",
    "zone": "topology.kubernetes.io/zone",
    "node_type": "node.kubernetes.io/instance-type",
}


def places(groups: Mapping[str, Sequence[str]]) -> dict[str, Sequence[str]]:
    """The groups of nodes among Ansible's *groups*: the control plane's first, then the pools'."""
    found = {name: hosts for name, hosts in groups.items() if name.startswith(_POOL)}
    return {CONTROL_PLANE: groups.get(CONTROL_PLANE, []), **found}


def names(groups: Mapping[str, Sequence[str]]) -> list[str]:
    """All nodes, each once, in the order of `places`."""
    return list(dict.fromkeys(host for hosts in places(groups).values() for host in hosts))


def known(groups: Mapping[str, Sequence[str]]) -> list[str]:
    """All nodes, and then the machines that are leaving."""
    return list(dict.fromkeys([*names(groups), *groups.get(LEAVING, [])]))


def pool(group: str) -> str:
    """The pool of a group of nodes; empty for the control plane's."""
    return "" if group == CONTROL_PLANE else group.removeprefix(_POOL).replace("_", "-")


def group(pool_name: str) -> str:
    """The group of a pool. Groups have no hyphens, pools no underscores."""
    return f"{_POOL}{pool_name.replace('-', '_')}"


def role(group: str) -> str:
    """The role of a group's nodes."""
    return CONTROL_PLANE if group == CONTROL_PLANE else WORKER


def pool_of(variables: Mapping[str, Any]) -> str:
    """The pool of a host with these *variables*: what they say, else by its group."""
    told = variables.get("kubewright_pool")
    if told is not None:
        return str(told)
    groups = variables.get("group_names") or []
    return next((pool(group) for group in groups if group.startswith(_POOL)), "")


def address(variables: Mapping[str, Any]) -> Any:
    """A host's own address: its machine's, what the inventory has for it, what Ansible connects to.

    None while unknown.
    """
    return (
        (variables.get("kubewright_machine") or {}).get("address")
        or variables.get("kubewright_address")
        or variables.get("ansible_host")
    )


def machine(variables: Mapping[str, Any]) -> dict[str, Any]:
    """A host's machine as its provider has it, empty while unknown.

    An inventory that knows nothing of machines names them itself.
    """
    told = variables.get("kubewright_machine")
    if told or variables.get("kubewright_provider", STATIC) != STATIC:
        return dict(told or {})
    name = variables["inventory_hostname"]
    made = static_machine(variables["kubewright_cluster_name"], name, address(variables))
    return made.as_dict()


def told_labels(variables: Mapping[str, Any]) -> dict[str, Any]:
    """What an inventory says that becomes labels of a host's Node, by where it says it."""
    told = variables.get("kubewright_machine") or {}
    found = {f"kubewright_machine.{key}": told.get(key) for key in _LABELS}
    return {
        "kubewright_pool": pool_of(variables),
        **{name: value for name, value in found.items() if value},
    }


def labels(variables: Mapping[str, Any]) -> dict[str, str]:
    """Labels of a host's Node: its pool, and where its machine is, as far as that is known."""
    its = machine(variables)
    known: dict[str, Any] = {label: its.get(key) for key, label in _LABELS.items()}
    known[POOL_LABEL] = pool_of(variables)
    return {name: value for name, value in known.items() if value}


def static_machine(cluster: str, name: str, where: Any, host_keys: Sequence[str] = ()) -> Machine:
    """The entry in machines.json of a machine that nobody made."""
    return Machine(
        id=f"{STATIC}://{cluster}/{name}",
        name=name,
        address=where,
        host_keys=tuple(host_keys),
        provider=STATIC,
        region=STATIC,
        zone=STATIC,
        node_type=STATIC,
        power="on",
    )
