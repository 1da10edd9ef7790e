# SPDX-License-Identifier: Apache-2.0
"""The Ansible inventory that a spec means. Pure: everything it knows is in its parameters."""

from __future__ import annotations

import hashlib
import shlex
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from kubewright.locations import ClusterPaths
from kubewright.spec.images import SystemImage
from kubewright.spec.machines import Machine, Machines
from kubewright.spec.models import Spec
from kubewright.spec.names import CONTROL_PLANE, host_name, pool_group
from kubewright.spec.providers import Provider

CONTROL_PLANE_ROLE = "control_plane"
WORKER_ROLE = "worker"
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
) -> Inventory:
    """Return the inventory of a cluster.

    ``version`` is the patch release ("1.37.2"), ``images`` the system image of each role for it.
    """
    places = [
        (
            CONTROL_PLANE_ROLE,
            "",
            spec.control_plane.provider,
            _names(spec, CONTROL_PLANE, spec.control_plane.size),
            spec.control_plane.kubelet_args,
        )
    ]
    places += [
        (
            WORKER_ROLE,
            pool.name,
            pool.provider,
            _names(spec, pool.name, pool.size),
            pool.kubelet_args,
        )
        for pool in spec.pools
    ]
    known = machines.by_name()
    hosts: dict[str, dict[str, Any]] = {}
    for role, pool, provider, names, kubelet_args in places:
        shared = {
            **_with_kubelet_args(_provider_variables(provider, providers or {}), kubelet_args),
            "kubewright_provider": provider,
            "kubewright_pool": pool,
            "kubewright_role": role,
            **_image_variables((images or {}).get(role)),
        }
        for name in names:
            hosts[name] = {
                **shared,
                **_connection(name, paths),
                **_machine_variables(known.get(name)),
            }
    groups = {
        "kubewright": Group(children=("control_plane", "workers"), variables=_ssh_variables(paths)),
        "control_plane": Group(hosts=places[0][3]),
        "workers": Group(children=tuple(pool_group(pool.name) for pool in spec.pools)),
        **{pool_group(pool): Group(hosts=names) for _, pool, _, names, _ in places[1:]},
    }
    return Inventory(_cluster_variables(spec, version, paths), groups, hosts)


def _names(spec: Spec, pool: str, size: int) -> tuple[str, ...]:
    return tuple(host_name(spec.name, pool, number) for number in range(1, size + 1))


def _cluster_variables(spec: Spec, version: str, paths: ClusterPaths) -> dict[str, Any]:
    return {
        "kubewright_cluster_name": spec.name,
        "kubewright_version": version,
        "kubewright_state_dir": str(paths.state),
        "kubewright_pod_cidr": spec.pod_cidr,
        "kubewright_service_cidr": spec.service_cidr,
    }


def _ssh_variables(paths: ClusterPaths) -> dict[str, Any]:
    return {
        "ansible_user": "root",
        "ansible_python_interpreter": "/usr/bin/python3",
        # Either name: the first is the ssh plugin's own, the second every connection's.
        "ansible_ssh_pipelining": True,
        "ansible_pipelining": True,
        "ansible_ssh_private_key_file": str(paths.ssh_key),
        # No ControlPath here: Ansible adds one, in a directory that it makes with mode 0700.
        # Keep-alives end a connection to a machine that lost power after 15 s instead of never.
        "ansible_ssh_args": "-o ControlMaster=auto -o ControlPersist=60s"
        " -o ServerAliveInterval=5 -o ServerAliveCountMax=3"
        # Three times as fast as OpenSSH's first choice where the CPU has AES; it stays the second.
        " -o Ciphers=^aes128-gcm@openssh.com",
        "ansible_control_path_dir": str(paths.control_sockets),
    }


def _connection(name: str, paths: ClusterPaths) -> dict[str, Any]:
    """Return the options that check a machine's host key against our own list, under its own name.

    A percent sign starts a token in ssh's options, and blanks part their words; see ssh_config(5).
    """
    known_hosts = str(paths.known_hosts).replace("%", "%%")
    options = {
        "UserKnownHostsFile": f'"{known_hosts}"',
        "GlobalKnownHostsFile": "/dev/null",
        "StrictHostKeyChecking": "yes",
        "HostKeyAlias": name,
        "IdentitiesOnly": "yes",
    }
    words = [word for key, value in options.items() for word in ("-o", f"{key}={value}")]
    return {"ansible_ssh_common_args": shlex.join(words)}


def _machine_variables(machine: Machine | None) -> dict[str, Any]:
    """Return what is known of a machine once its provider has listed it.

    The control socket's name depends on the host keys, so that a machine made anew under the same
    name and address is never spoken to through its predecessor's connection.
    """
    if machine is None:
        return {}
    identity = "\n".join((machine.name, machine.address, *machine.host_keys))
    socket = hashlib.sha256(identity.encode()).hexdigest()[:10]
    return {
        "ansible_host": machine.address,
        "ansible_control_path": f"%(directory)s/{socket}",
        "kubewright_machine": machine.as_dict(),
    }


def _image_variables(image: SystemImage | None) -> dict[str, Any]:
    if image is None:
        return {}
    return {"system_volume_image_digest": image.digest, "system_volume_image_path": str(image.path)}


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
