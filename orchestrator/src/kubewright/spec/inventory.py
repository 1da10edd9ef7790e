# SPDX-License-Identifier: Apache-2.0
"""The Ansible inventory that a spec means. Pure: everything it knows is in its parameters."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from kubewright.agreed import inventory as rules
from kubewright.locations import ClusterPaths
from kubewright.spec import connection, roster
from kubewright.spec.images import SystemImage
from kubewright.spec.machines import Machine, Machines
from kubewright.spec.models import ControlPlane, Drain, Node, Pool, Spec, Ssh, SystemVolume
from kubewright.spec.providers import Provider

GB = 10**9
KUBELET = "container_runtime_kubelet_configuration"


@dataclass(frozen=True)
class Group:
    """``hosts`` and ``children`` in the order in which Ansible should have them."""

    hosts: tuple[str, ...] = ()
    children: tuple[str, ...] = ()
    variables: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Inventory:
    """``variables`` hold for all hosts and for localhost; ``hosts`` has each host's own."""

    variables: Mapping[str, Any]
    groups: Mapping[str, Group]
    hosts: Mapping[str, Mapping[str, Any]]


def build(
    spec: Spec,
    *,
    version: str,
    paths: ClusterPaths,
    machines: Machines,
    images: Mapping[str, SystemImage] | None = None,
    providers: Mapping[str, Provider] | None = None,
    private_key: str = "",
    file: Path | None = None,
) -> Inventory:
    """Return the inventory of a cluster.

    ``version`` is the patch release ("1.37.2"), ``images`` the system image of each role for it,
    ``private_key`` tells what is in the user's private key file from what was in it before.
    ``file``: the resolved path of the cluster.yml.
    """
    members = roster.of(spec, machines)
    places: list[tuple[str, str, ControlPlane | Pool, tuple[str, ...]]] = [
        (rules.CONTROL_PLANE, "", spec.control_plane, members.control_planes),
        *((rules.WORKER, pool.name, pool, members.pools[pool.name]) for pool in spec.pools),
    ]
    known = machines.by_name()
    hosts: dict[str, dict[str, Any]] = {}
    for role, pool, place, names in places:
        provided = _provider_variables(place.provider, providers or {})
        shared = {
            **_with_kubelet_args(provided, place.kubelet_args),
            "kubewright_provider": place.provider,
            "kubewright_pool": pool,
            "kubewright_role": role,
            **_volume_variables(place.system_volume),
            **_image_variables((images or {}).get(role)),
            **_drain_variables(place.drain),
        }
        given = {node.name: node for node in place.nodes}
        for name in names:
            machine = known.get(name)
            if name in given:
                machine = _own_machine(spec.name, given[name], machine)
            listed = machine.host_keys if machine else ()
            reached = connection.variables(name, spec.ssh, given.get(name), paths, listed)
            hosts[name] = {
                **shared,
                **_machine_variables(machine, reached, private_key),
                **reached,
            }
    groups = {
        "kubewright": Group(
            children=(rules.CONTROL_PLANE, "workers"), variables=connection.shared(paths)
        ),
        rules.CONTROL_PLANE: Group(hosts=places[0][3]),
        "workers": Group(children=tuple(rules.group(pool.name) for pool in spec.pools)),
        **{rules.group(pool): Group(hosts=names) for _, pool, _, names in places[1:]},
    }
    if members.leaving:
        leaving = {
            one.name: _leaving_variables(spec, one, paths, private_key) for one in members.leaving
        }
        groups[rules.LEAVING] = Group(hosts=tuple(leaving), variables=connection.shared(paths))
        hosts |= leaving
    variables = _cluster_variables(spec, version, paths)
    if file is not None:
        variables["kubewright_cluster_file"] = str(file)
    return Inventory(variables, groups, hosts)


def _cluster_variables(spec: Spec, version: str, paths: ClusterPaths) -> dict[str, Any]:
    return {
        "kubewright_cluster_name": spec.name,
        "kubewright_version": version,
        "kubewright_state_dir": str(paths.state),
        "kubewright_pod_cidr": spec.pod_cidr,
        "kubewright_service_cidr": spec.service_cidr,
    }


def _leaving_variables(
    spec: Spec, leaving: roster.Leaving, paths: ClusterPaths, private_key: str
) -> dict[str, Any]:
    """Return how to reach a machine that the file does not have any more, and what its node is.

    How long its pods may take to leave is said by its pool, where that is still there.
    """
    own, machine = leaving.own, leaving.machine
    ssh = (
        Ssh(user=own.user, port=own.port, private_key_file=own.private_key_file or None)
        if own
        else spec.ssh
    )
    reached = connection.variables(leaving.name, ssh, leaving.node, paths, machine.host_keys)
    places = (
        [spec.control_plane]
        if leaving.role == rules.CONTROL_PLANE
        else [pool for pool in spec.pools if pool.name == leaving.pool]
    )
    return {
        "kubewright_provider": machine.provider,
        "kubewright_pool": leaving.pool,
        "kubewright_role": leaving.role,
        "kubewright_leaving": leaving.why,
        **(_drain_variables(places[0].drain) if places else {}),
        **_machine_variables(machine, reached, private_key),
        **reached,
    }


def _own_machine(cluster: str, node: Node, listed: Machine | None) -> Machine:
    """Return a machine of one's own as its provider lists it: what the file says is what there is.

    Only host keys that the file does not have come from the listing.
    """
    keys = connection.host_keys(node) or (listed.host_keys if listed else ())
    return rules.static_machine(cluster, node.name, node.address, keys)


def _machine_variables(
    machine: Machine | None, reached: Mapping[str, Any], private_key: str
) -> dict[str, Any]:
    """Return what is known of a machine once its provider has listed it.

    The control socket's name depends on the host keys, so that a machine made anew under the same
    name and address is never spoken to through its predecessor's connection; and on who logs in
    and how, so that nobody is let in by the connection of somebody else.
    """
    if machine is None:
        return {}
    login = (f"{key}={reached[key]}" for key in sorted(reached))
    identity = "\n".join((machine.name, machine.address, *machine.host_keys, *login, private_key))
    socket = hashlib.sha256(identity.encode()).hexdigest()[:10]
    return {
        "ansible_host": machine.address,
        "ansible_control_path": f"%(directory)s/{socket}",
        "kubewright_machine": machine.as_dict(),
    }


def _volume_variables(volume: SystemVolume) -> dict[str, Any]:
    size = {"system_volume_size_bytes": volume.size_gb * GB}
    if volume.device is None:
        return size
    return {**size, "system_volume_type": volume.type, "system_volume_device": volume.device}


def _image_variables(image: SystemImage | None) -> dict[str, Any]:
    if image is None:
        return {}
    return {"system_volume_image_digest": image.digest, "system_volume_image_path": str(image.path)}


def _drain_variables(policy: Drain) -> dict[str, Any]:
    """Return what the user has said; the role has the same defaults."""
    return {f"node_drain_{name}": getattr(policy, name) for name in sorted(policy.model_fields_set)}


def _provider_variables(name: str, providers: Mapping[str, Provider]) -> Mapping[str, Any]:
    provider = providers.get(name)
    return provider.host_vars if provider else {}


def _with_kubelet_args(
    variables: Mapping[str, Any], kubelet_args: Mapping[str, Any]
) -> dict[str, Any]:
    """What the user wants of the kubelet, over what the provider's machines need."""
    needed = variables.get(KUBELET, {})
    wanted = {**needed, **kubelet_args}
    return {**variables, **({KUBELET: wanted} if wanted else {})}
