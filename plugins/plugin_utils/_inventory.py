# Copyright: the Kubewright authors
# Apache License 2.0 (see LICENSE or https://www.apache.org/licenses/LICENSE-2.0)
"""Private to kubewright.cluster: what an inventory says of a cluster, with its defaults.

An inventory that cluster.yml means says everything; a plain one has hosts in groups, and what is
in the roles' options and in some variables kubewright_*.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from types import MappingProxyType
from typing import Any

from ansible_collections.kubewright.cluster.plugins.module_utils._base.errors import KubewrightError
from ansible_collections.kubewright.cluster.plugins.module_utils._cluster import (
    inventory,
    plain,
    rules,
    schema,
    state,
)
from ansible_collections.kubewright.cluster.plugins.module_utils._image import (
    digests,
    download,
    signatures,
)
from ansible_collections.kubewright.cluster.plugins.plugin_utils import _image_dir
from ansible_collections.kubewright.cluster.plugins.plugin_utils._desired import ROLES

Variables = Mapping[str, Any]


@dataclass(frozen=True)
class Inventory:
    """What holds for the cluster, what its provider must know of each node, all that is wrong.

    ``leaving``: the same of machines that are to leave. ``own``: how to reach one's own, which only
    a cluster.yml says (`_cluster.roster`). ``images``: digest and path of the system image, by
    role; only what ``kubewright_image_dir`` has. ``barred``: what is refused also where a cluster
    that cannot work is to be removed.
    """

    settings: dict[str, Any]
    nodes: dict[str, dict[str, Any]]
    leaving: dict[str, dict[str, Any]]
    own: list[dict[str, Any]]
    images: dict[str, dict[str, str]]
    problems: list[str]
    barred: list[str]


def read(
    groups: Mapping[str, Sequence[str]],
    hostvars: Mapping[str, Variables],
    unchecked: Callable[[Variables], str],
    extra: Variables = MappingProxyType({}),
) -> Inventory:
    """Read what Ansible knows of a cluster.

    *unchecked*: what in a host's variables, or in Ansible's configuration, switches the check of
    its host key off; empty where nothing does. *extra*: the variables of ansible-playbook's
    command line, which win over what a play keeps of the answer.
    """
    inside: dict[str, list[str]] = {}
    for group, members in inventory.places(groups).items():
        for host in members:
            inside.setdefault(host, []).append(group)
    hosts = {name: hostvars[name] for name in inside}
    settings = _Settings(hostvars["localhost"], hosts)
    # Roles read these two on the nodes.
    name = settings.get("cluster_name", on_nodes=True)
    version = settings.get("version", on_nodes=True)
    told = {
        "cluster_name": name,
        "version": version,
        "state_dir": str(_whole(settings.get("state_dir") or state.root() / str(name))),
        "pod_cidr": settings.get("pod_cidr") or rules.POD_CIDR,
        "service_cidr": settings.get("service_cidr") or rules.SERVICE_CIDR,
    }
    images = _image_dir.Images(str(version), settings.get("image_dir"))
    for host, variables in hosts.items():
        # Of a cluster.yml the images are found, or found missing, by the package.
        fetched = {"system_volume_image_url", "system_volume_image_digest"} <= variables.keys()
        named = "system_volume_image_path" in variables or fetched
        if not named and "kubewright_role" not in variables:
            images.need(inventory.role(inside[host][0]))
    records = {host: _record(variables) for host, variables in hosts.items()}
    seen = [
        plain.Node(
            host,
            inside[host],
            records[host]["provider"],
            records[host]["address"],
            variables.get("system_volume_size_bytes", rules.MIN_VOLUME_BYTES),
            unchecked(variables),
            variables.get("system_volume_type", "local"),
            variables.get("system_volume_device"),
            inventory.told_labels(variables),
            _max_pods(variables),
        )
        for host, variables in hosts.items()
    ]
    cluster = plain.Cluster(
        name, version, told["pod_cidr"], told["service_cidr"], seen, providers()
    )
    found = [
        *plain.problems(cluster),
        *settings.problems,
        *images.problems,
        *_image_variables(hosts),
    ]
    departing = [
        plain.Node(host, [], inventory.STATIC, unchecked=unchecked(hostvars[host]))
        for host in groups.get(inventory.LEAVING, [])
        if host not in hosts
    ]
    stays = hostvars["localhost"] if "kubewright_state_dir" in extra else {}
    barred = [
        *_state_dir(stays.get("kubewright_state_dir")),
        *_schema(Path(told["state_dir"])),
        *plain.insecure(cluster),
        *plain.insecure(replace(cluster, nodes=departing)),
    ]
    return Inventory(
        told,
        records,
        {one.name: _record(hostvars[one.name]) for one in departing},
        [_own(host, hosts[host], records[host]) for host in hosts if _is_own(hosts[host])],
        images.found,
        list(dict.fromkeys(found)),
        barred,
    )


def providers() -> list[str]:
    """The providers that this collection has: its roles ``provider_<name>``."""
    found = ROLES.glob("provider_*/tasks")
    return sorted(path.parent.name.removeprefix("provider_").replace("_", "-") for path in found)


def _max_pods(variables: Variables) -> Any:
    """Another network than ours may have other room."""
    if variables.get("cni_plugin", "flannel") != "flannel":
        return None
    told = variables.get("container_runtime_kubelet_configuration")
    return told.get("maxPods") if isinstance(told, Mapping) else None


def _whole(path: Any) -> Path:
    """The path as each task would find it, wherever it looks."""
    return Path(str(path)).expanduser().absolute()


def _state_dir(given: Any) -> list[str]:
    """Of an extra variable each task has the text as it was given, and no shell expands it."""
    if given is None or Path(str(given)).is_absolute():
        return []
    return [
        f"kubewright_state_dir: {given} is not an absolute path, and extra variables are "
        f"not expanded. Write {_whole(given)}."
    ]


def _schema(state_dir: Path) -> list[str]:
    """That the state is of a newer Kubewright."""
    try:
        schema.CLUSTER.require(state_dir)
    except KubewrightError as error:
        return [str(error)]
    return []


def _image_variables(hosts: Mapping[str, Variables]) -> list[str]:
    """What nodes would refuse of their images' variables, only after their volumes were made."""
    wrong: dict[str, list[str]] = {}
    for host, variables in hosts.items():
        checks: dict[str, Callable[[], object]] = {}
        if (digest := variables.get("system_volume_image_digest")) is not None:
            checks["digest"] = partial(digests.parse, str(digest))
        if url := variables.get("system_volume_image_url"):
            signers = variables.get("system_volume_image_signers") or []
            # Ansible takes one word for a list of one.
            listed = [signers] if isinstance(signers, str) else signers
            checks["url"] = partial(download.check_url, str(url))
            checks["signers"] = partial(signatures.allowed, [str(signer) for signer in listed])
        for name, check in checks.items():
            try:
                check()
            except KubewrightError as error:
                wrong.setdefault(f"system_volume_image_{name}: {error}", []).append(host)
    return [f"{', '.join(names)}: {problem}" for problem, names in wrong.items()]


def _record(variables: Variables) -> dict[str, Any]:
    provider = variables.get("kubewright_provider") or inventory.STATIC
    # None: ssh checks the host by what its user trusts, and we know no key. A machine that a
    # provider makes has its keys from there, and until then none.
    unsaid: list[str] | None = None if provider == inventory.STATIC else []
    return {
        "provider": provider,
        "address": inventory.address(variables),
        "port": variables.get("ansible_port") or 22,
        "host_keys": variables.get("kubewright_host_keys", unsaid),
    }


def _is_own(variables: Variables) -> bool:
    """Whether it is a machine that a cluster.yml lists by its name."""
    return (
        "kubewright_role" in variables
        and variables.get("kubewright_provider") == inventory.STATIC
        and bool(inventory.address(variables))
    )


def _own(host: str, variables: Variables, record: Mapping[str, Any]) -> dict[str, Any]:
    return {
        "name": host,
        "address": str(record["address"]),
        "port": int(record["port"]),
        "user": str(variables.get("ansible_user") or "root"),
        "private_key_file": str(variables.get("ansible_ssh_private_key_file") or ""),
        "host_keys": list(record["host_keys"] or []),
        "pool": inventory.pool_of(variables),
        "role": str(variables["kubewright_role"]),
    }


class _Settings:
    """Variables of the cluster: every node that has one must have the same."""

    def __init__(self, everywhere: Variables, hosts: Mapping[str, Variables]) -> None:
        self._everywhere = everywhere
        self._hosts = hosts
        self.problems: list[str] = []

    def get(self, key: str, *, on_nodes: bool = False) -> Any:
        """The value of ``kubewright_<key>``, of localhost only where no node must have it."""
        name = f"kubewright_{key}"
        values: dict[str, str] = {}
        first = None
        for host, variables in self._hosts.items():
            value = variables.get(name)
            if value is not None:
                first = value if first is None else first
                values.setdefault(str(value), host)
        if len(values) > 1:
            listed = ", ".join(f"{value} for {host}" for value, host in values.items())
            self.problems.append(f"{name} differs: {listed}. Set it once, for the group all.")
        # Localhost has no inventory_dir, so what is said of nodes may not be read there.
        if first is None and not (on_nodes and self._hosts):
            return self._everywhere.get(name)
        return first
