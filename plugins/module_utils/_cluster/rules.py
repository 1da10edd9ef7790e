# Copyright: the Kubewright authors
# Apache License 2.0 (see LICENSE or https://www.apache.org/licenses/LICENSE-2.0)
"""What no single host of an inventory can say is wrong. No I/O.

They are the rules that the command has for cluster.yml, for inventories that it never sees:
quorum, names, addresses, networks, version, volumes. tests/data/bad_clusters.yml tests both.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from ipaddress import IPv4Address, IPv4Network, ip_network

from ansible_collections.kubewright.cluster.plugins.module_utils._cluster import (
    inventory,
    labels,
    volumes,
)

# A DNS label, RFC 1123.
LABEL = re.compile(r"[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?")
VERSION = re.compile(r"\d+\.\d+\.\d+")
# Names that Ansible or the inventory of a cluster.yml has for something else.
RESERVED_NAMES = ("all", "kubewright", "localhost", "ungrouped", "workers")
MAX_CONTROL_PLANES = 7
# The pod network of one node: kube-controller-manager's default for IPv4.
NODE_PREFIX = 24
# It hands out at most 2^16 node networks (kubeadm: PodSubnetNodeMaskMaxDiff).
WIDEST_POD_PREFIX = NODE_PREFIX - 16
# Of a node's network the first and the last address are no host's, and the bridge takes one.
MAX_PODS = 2 ** (32 - NODE_PREFIX) - 3
# kubeadm: at most 20 bits of service addresses, and at least 10 addresses.
SERVICE_PREFIXES = (12, 28)
MIN_VOLUME_BYTES = volumes.MINIMUM_BYTES
# In words that a systemd unit takes as they are; the same in the package's spec.
DEVICE = re.compile(r"(/[A-Za-z0-9_.:+@=-]+)+")
_SET_ADDRESS = (
    "Set ansible_host, or kubewright_address where SSH needs another one, to the address by which "
    "the other nodes reach the host."
)
RESERVED_NETWORKS = {
    "0.0.0.0/8": "this network",
    "127.0.0.0/8": "loopback",
    "169.254.0.0/16": "link-local",
    "224.0.0.0/4": "multicast",
    "240.0.0.0/4": "reserved",
}


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
    volume_bytes: object = MIN_VOLUME_BYTES
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
        f"{node.name}: {node.unchecked} switches the check of SSH host keys off. Take it away, "
        "and put the host's key into ~/.ssh/known_hosts."
        for node in cluster.nodes
        if node.unchecked
    ]


def _cluster(cluster: Cluster) -> Iterator[str]:
    if cluster.name is None:
        yield "kubewright_cluster_name is missing. Set it for all hosts, such as demo."
    elif not isinstance(cluster.name, str) or not LABEL.fullmatch(cluster.name):
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
    elif size > MAX_CONTROL_PLANES:
        yield f"The group control_plane has {size} hosts. Put 1, 3, 5 or 7 there."
    elif size % 2 == 0:
        yield (
            f"The group control_plane has {size} hosts. {size} is even: etcd then survives the "
            f"loss of {(size - 1) // 2}, as with {size - 1}. Put {size - 1} or {size + 1} there."
        )


def _names(nodes: Sequence[Node]) -> Iterator[str]:
    for node in nodes:
        if not LABEL.fullmatch(node.name):
            yield (
                f"'{node.name}' is not a DNS label, and the host's name becomes its Node's. Name "
                "it with lower-case letters, digits and inner hyphens, and its address in "
                "ansible_host."
            )
        elif node.name in RESERVED_NAMES:
            yield f"'{node.name}' has a meaning of its own in Ansible. Choose another name."
        if len(node.groups) > 1:
            yield (
                f"{node.name} is in {' and in '.join(node.groups)}. A node has one role and one "
                "pool: take it out of the others."
            )


def _addresses(cluster: Cluster) -> Iterator[str]:
    seen: dict[IPv4Address, str] = {}
    networks = {
        "kubewright_pod_cidr": _network(cluster.pod_cidr),
        "kubewright_service_cidr": _network(cluster.service_cidr),
    }
    for node in cluster.nodes:
        if node.address is None:
            if node.provider == "static":
                yield f"{node.name} has no address. Set ansible_host to its IPv4 address."
            continue
        try:
            address = IPv4Address(str(node.address))
        except ValueError:
            yield (
                f"{node.name}: its address '{node.address}' is not an IPv4 address. {_SET_ADDRESS}"
            )
            continue
        use = _use(address)
        if use:
            yield f"{node.name}: its address {address} is in {use}. {_SET_ADDRESS}"
        elif address in seen:
            yield (
                f"{node.name}: its address {address} is also the address of {seen[address]}. "
                f"{_SET_ADDRESS}"
            )
        else:
            seen[address] = node.name
        for name, network in networks.items():
            if isinstance(network, IPv4Network) and address in network:
                yield (
                    f"{node.name}: its address {address} is in {name} {network}. Choose a network "
                    "that no machine is in."
                )


def _use(address: IPv4Address) -> str:
    for network, use in RESERVED_NETWORKS.items():
        if address in IPv4Network(network):
            return f"{network} ({use})"
    return ""


def _networks(cluster: Cluster) -> Iterator[str]:
    pods, services = _network(cluster.pod_cidr), _network(cluster.service_cidr)
    if isinstance(pods, str):
        yield f"kubewright_pod_cidr: {pods}"
    else:
        yield from _pod_network(pods, len(cluster.nodes))
    if isinstance(services, str):
        yield f"kubewright_service_cidr: {services}"
        return
    first, last = SERVICE_PREFIXES
    if not first <= services.prefixlen <= last:
        size = "large" if services.prefixlen < first else "small"
        yield (
            f"kubewright_service_cidr: /{services.prefixlen} is too {size} for services. Write a "
            f"prefix length from {first} to {last}."
        )
    if isinstance(pods, IPv4Network) and pods.overlaps(services):
        yield (
            f"kubewright_service_cidr: {services} overlaps kubewright_pod_cidr {pods}. Choose "
            "networks that do not overlap."
        )


def _network(text: object) -> IPv4Network | str:
    """The network, or what is wrong with it."""
    try:
        network = ip_network(str(text), strict=False)
    except ValueError:
        return f"'{text}' is not a network. Write one such as 10.244.0.0/16."
    if not isinstance(network, IPv4Network):
        return (
            f"'{text}' is an IPv6 network, and only IPv4 is supported. Write an IPv4 network, "
            "such as 10.244.0.0/16."
        )
    if str(network) != text:
        return f"'{text}' is not the first address of its network. Write {network}."
    for reserved, use in RESERVED_NETWORKS.items():
        if network.overlaps(IPv4Network(reserved)):
            return f"'{text}' overlaps {reserved} ({use}). Write a private network."
    return network


def _pod_network(network: IPv4Network, nodes: int) -> Iterator[str]:
    if network.prefixlen < WIDEST_POD_PREFIX:
        yield (
            f"kubewright_pod_cidr: /{network.prefixlen} is too large: Kubernetes divides at most a "
            f"/{WIDEST_POD_PREFIX}. Write a prefix length from {WIDEST_POD_PREFIX} to "
            f"{NODE_PREFIX}."
        )
        return
    room = 2 ** (NODE_PREFIX - network.prefixlen) if network.prefixlen <= NODE_PREFIX else 0
    if room < max(nodes, 1):
        needed = max(WIDEST_POD_PREFIX, NODE_PREFIX - (max(nodes, 1) - 1).bit_length())
        yield (
            f"kubewright_pod_cidr: {network} has room for {room} nodes (a /{NODE_PREFIX} each) of "
            f"{nodes}. Write a prefix length of {needed} or less."
        )


def _machines(cluster: Cluster) -> Iterator[str]:
    for node in cluster.nodes:
        for name, value in node.labels.items():
            if not labels.is_value(value):
                yield (
                    f"{node.name}: {name}: '{value}' can't be a label of its Node. Write "
                    f"{labels.WRITE}."
                )
        if node.provider not in cluster.providers:
            yield (
                f"{node.name}: kubewright_provider: there is no provider '{node.provider}'. The "
                f"providers here are: {', '.join(sorted(cluster.providers))}."
            )
        if isinstance(node.max_pods, int) and node.max_pods > MAX_PODS:
            yield (
                f"{node.name}: container_runtime_kubelet_configuration: maxPods {node.max_pods} is "
                f"more than a node has addresses for: its /{NODE_PREFIX} of kubewright_pod_cidr "
                f"has {MAX_PODS + 1}, of which the bridge takes one. Write {MAX_PODS} or less."
            )
        size = node.volume_bytes
        if not isinstance(size, int) or isinstance(size, bool) or size < MIN_VOLUME_BYTES:
            yield (
                f"{node.name}: system_volume_size_bytes: {size} is not allowed. Write "
                f"{MIN_VOLUME_BYTES} or more, the 20 GB that images need."
            )
        device = node.volume_device
        if node.volume_type == "block" and not (
            isinstance(device, str) and DEVICE.fullmatch(device)
        ):
            yield (
                f"{node.name}: system_volume_device: {device} is not the path of a device, which a "
                "volume of type block needs. Write one, such as /dev/disk/by-id/virtio-system."
            )
        elif node.volume_type != "block" and device:
            yield (
                f"{node.name}: system_volume_device is set, and the volume is of type "
                f"{node.volume_type}. Remove it, or write system_volume_type: block."
            )
