# Copyright: the Kubewright authors
# Apache License 2.0 (see LICENSE or https://www.apache.org/licenses/LICENSE-2.0)
"""What no single host of a plain inventory can say is wrong. No I/O."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from ipaddress import IPv4Address, IPv4Network

from ansible_collections.kubewright.cluster.plugins.module_utils._cluster import (
    inventory,
    labels,
    names,
    rules,
)
from ansible_collections.kubewright.cluster.plugins.module_utils._cluster.rules import Fault

VERSION = re.compile(r"\d+\.\d+\.\d+")
_SET_ADDRESS = (
    "Set ansible_host, or kubewright_address where SSH needs another one, to the address at "
    "which the other nodes reach the host."
)


@dataclass(frozen=True)
class Node:
    """What an inventory says of a host: ``groups`` are those of nodes that it is in.

    ``address`` is None where a provider has yet to make the machine. ``unchecked`` says what
    switches the check of its SSH host key off, if anything. ``labels`` are what becomes labels of
    its Node, by where it is said. ``max_pods``: what its kubelet is told, where the network of pods
    is ours.
    """

    name: str
    groups: Sequence[str]
    provider: str
    address: object = None
    volume_bytes: object = rules.MIN_VOLUME_BYTES
    unchecked: str = ""
    volume_type: object = "local"
    volume_device: object = None
    labels: Mapping[str, object] = field(default_factory=dict)
    max_pods: object = None


@dataclass(frozen=True)
class Cluster:
    """What holds for all nodes, as the inventory has it; ``providers`` are those there are."""

    name: object
    version: object
    pod_cidr: object
    service_cidr: object
    nodes: Sequence[Node] = field(default_factory=list)
    providers: Sequence[str] = ()


def problems(cluster: Cluster) -> list[str]:
    """All that cannot work, as sentences that say where, what and what to write."""
    return [
        *_cluster(cluster),
        *_quorum(cluster.nodes),
        *_names(cluster.nodes),
        *_addresses(cluster),
        *_networks(cluster),
        *_machines(cluster),
    ]


def insecure(cluster: Cluster) -> list[str]:
    """Who could be another machine than the one that is meant: SSH would not notice."""
    return [
        f"{node.name}: {node.unchecked} disables the check of SSH host keys. Remove "
        "it, and add the host's key to ~/.ssh/known_hosts."
        for node in cluster.nodes
        if node.unchecked
    ]


def _told(place: str, *faults: Fault | None, remedy: str = "") -> Iterator[str]:
    """Faults as sentences that begin with *place*; *remedy* where an inventory has another one."""
    for fault in faults:
        if fault is not None:
            own = f"{fault.remedy[0].upper()}{fault.remedy[1:]}."
            yield f"{place} {fault.text}. {remedy or own}"


def _cluster(cluster: Cluster) -> Iterator[str]:
    if cluster.name is None:
        yield "kubewright_cluster_name is missing. Set it for all hosts, such as demo."
    elif not names.is_label(cluster.name):
        yield (
            f"kubewright_cluster_name: '{cluster.name}' is not a DNS label. Write lower-case "
            "letters, digits and inner hyphens, such as demo."
        )
    if cluster.version is None:
        yield 'kubewright_version is missing. Set it for all hosts, such as "1.37.2".'
    elif not isinstance(cluster.version, str) or not VERSION.fullmatch(cluster.version):
        yield (
            f"kubewright_version: '{cluster.version}' is not a release. Write major, minor and "
            'patch in quotes, such as "1.37.2".'
        )


def _quorum(nodes: Sequence[Node]) -> Iterator[str]:
    size = sum(inventory.CONTROL_PLANE in node.groups for node in nodes)
    if size == 0:
        yield "The group control_plane has no hosts. Put 1, 3, 5 or 7 hosts there."
    elif size > rules.MAX_CONTROL_PLANES:
        yield f"The group control_plane has {size} hosts. Put 1, 3, 5 or 7 there."
    elif fault := rules.quorum(size):
        there = fault.remedy.replace("write", "Put")
        yield f"The group control_plane has {size} hosts. {fault.text}. {there} there."


def _names(nodes: Sequence[Node]) -> Iterator[str]:
    for node in nodes:
        if not names.is_label(node.name):
            yield (
                f"'{node.name}' is not a DNS label, but the host name becomes the name of "
                "its Node. Use lower-case letters, digits and inner hyphens, and put its "
                "address into ansible_host."
            )
        else:
            yield from _told("The name of the host", rules.machine_name(node.name))
        if len(node.groups) > 1:
            yield (
                f"{node.name} is in {' and in '.join(node.groups)}. A node has one role "
                "and one pool: remove it from the others."
            )


def _addresses(cluster: Cluster) -> Iterator[str]:
    read = {
        "kubewright_pod_cidr": rules.network(cluster.pod_cidr),
        "kubewright_service_cidr": rules.network(cluster.service_cidr),
    }
    networks = {name: found for name, found in read.items() if isinstance(found, IPv4Network)}
    seen: dict[IPv4Address, str] = {}
    for node in cluster.nodes:
        if node.address is None:
            if node.provider == inventory.STATIC:
                yield f"{node.name} has no address. Set ansible_host to its IPv4 address."
            continue
        place = f"{node.name}: its address"
        found = rules.address(node.address, seen, node.name)
        if isinstance(found, Fault):
            yield from _told(place, found, remedy=_SET_ADDRESS)
        else:
            yield from _told(place, *rules.inside(found, networks))


def _networks(cluster: Cluster) -> Iterator[str]:
    pods, services = rules.network(cluster.pod_cidr), rules.network(cluster.service_cidr)
    pod_fault = pods if isinstance(pods, Fault) else rules.pod_network(pods, len(cluster.nodes))
    yield from _told("kubewright_pod_cidr:", pod_fault)
    if isinstance(services, Fault):
        yield from _told("kubewright_service_cidr:", services)
        return
    clash = None
    if isinstance(pods, IPv4Network):
        clash = rules.overlap(services, pods, "kubewright_pod_cidr")
    yield from _told("kubewright_service_cidr:", rules.service_network(services), clash)


def _machines(cluster: Cluster) -> Iterator[str]:
    for node in cluster.nodes:
        for name, value in node.labels.items():
            if not labels.is_value(value):
                yield (
                    f"{node.name}: {name}: '{value}' can't be a label of its Node. Write "
                    f"{labels.WRITE}."
                )
        if node.provider not in cluster.providers:
            fault = rules.provider(node.provider, cluster.providers)
            yield from _told(f"{node.name}: kubewright_provider:", fault)
        if isinstance(node.max_pods, int):
            yield from _told(
                f"{node.name}: container_runtime_kubelet_configuration: maxPods",
                rules.max_pods(node.max_pods, "kubewright_pod_cidr"),
            )
        size = node.volume_bytes
        if not isinstance(size, int) or isinstance(size, bool) or size < rules.MIN_VOLUME_BYTES:
            yield (
                f"{node.name}: system_volume_size_bytes: {size} is not allowed. Write "
                f"{rules.MIN_VOLUME_BYTES} or more, the 20 GB that the images need."
            )
        device = node.volume_device
        if node.volume_type == "block" and not (
            isinstance(device, str) and rules.DEVICE.fullmatch(device)
        ):
            yield (
                f"{node.name}: system_volume_device: {device} is not the path of a "
                "device; a volume of type block needs one, such as /dev/disk/by-id/virtio-system."
            )
        elif node.volume_type != "block" and device:
            yield (
                f"{node.name}: system_volume_device is set, but the volume is of type "
                f"{node.volume_type}. Remove it, or write system_volume_type: block."
            )
