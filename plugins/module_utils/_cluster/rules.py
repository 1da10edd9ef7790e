# Copyright: the Kubewright authors
# Apache License 2.0 (see LICENSE or https://www.apache.org/licenses/LICENSE-2.0)
"""What no cluster can have, however it is described. Pure.

A cluster is described by a cluster.yml, which the command reads, or by a plain inventory
(`plain`). Both say where a `Fault` is: as the field of a file, or as a variable of a host.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv4Network, ip_network

from ansible_collections.kubewright.cluster.plugins.module_utils._cluster import names

# What holds where nobody says something else.
POD_CIDR = "10.244.0.0/16"
SERVICE_CIDR = "10.96.0.0/16"

MAX_CONTROL_PLANES = 7
# The pod network of one node: kube-controller-manager's default for IPv4.
NODE_PREFIX = 24
# It hands out at most 2^16 node networks (kubeadm: PodSubnetNodeMaskMaxDiff).
WIDEST_POD_PREFIX = NODE_PREFIX - 16
# Of a node's network the first and the last address are no host's, and the bridge takes one (CNI
# plugin host-local: the gateway).
NODE_ADDRESSES = 2 ** (32 - NODE_PREFIX) - 2
MAX_PODS = NODE_ADDRESSES - 1
# kubeadm: at most 20 bits of service addresses (MaximumBitsForServiceSubnet), and at least 10
# addresses (MinimumAddressesInServiceSubnet), since DNS takes the tenth.
SERVICE_PREFIXES = (12, 28)
# Images of two releases and room to change.
MIN_VOLUME_BYTES = 20 * 10**9
# The path of a device, in words that a systemd unit takes as they are.
DEVICE = re.compile(r"(/[A-Za-z0-9_.:+@=-]+)+")
RESERVED_NETWORKS = {
    "0.0.0.0/8": "this network",
    "127.0.0.0/8": "loopback",
    "169.254.0.0/16": "link-local",
    "224.0.0.0/4": "multicast",
    "240.0.0.0/4": "reserved",
}


@dataclass(frozen=True)
class Fault:
    """What is wrong, and what to do about it: both are what follows in a sentence on the place."""

    text: str
    remedy: str


def address(text: object, seen: dict[IPv4Address, str], whose: str) -> IPv4Address | Fault:
    """The address of a machine, or what is wrong with it.

    *seen*: whose the addresses are that were asked for before; it gets this one.
    """
    try:
        found = IPv4Address(str(text))
    except ValueError:
        return Fault(
            f"'{text}' is not an IPv4 address", "write an IPv4 address, such as 192.0.2.11"
        )
    for reserved, use in RESERVED_NETWORKS.items():
        if found in IPv4Network(reserved):
            return Fault(
                f"{found} is in {reserved} ({use})",
                "write the address at which the other nodes reach the machine",
            )
    if found in seen:
        return Fault(f"{found} is also the address of {seen[found]}", "write its own address")
    seen[found] = whose
    return found


def inside(found: IPv4Address, networks: Mapping[str, IPv4Network]) -> Iterator[Fault]:
    """Of a machine's address and the *networks* of pods and services, by their names."""
    for name, inner in networks.items():
        if found in inner:
            yield Fault(
                f"{found} is in {name} {inner}", f"choose a {name} that contains no machine"
            )


def quorum(size: int) -> Fault | None:
    """Of a number of control planes from 1 to `MAX_CONTROL_PLANES`."""
    if size % 2:
        return None
    return Fault(
        f"{size} is even: etcd then survives the loss of {(size - 1) // 2}, as with {size - 1}",
        f"write {size - 1} or {size + 1}",
    )


def machine_name(name: str) -> Fault | None:
    """Of a name that is a DNS label."""
    if name not in names.RESERVED:
        return None
    return Fault(f"'{name}' is reserved in Ansible", "choose another name")


def network(text: object) -> IPv4Network | Fault:
    """The network, or what is wrong with it."""
    try:
        found = ip_network(str(text), strict=False)
    except ValueError:
        return Fault(
            f"'{text}' is not a network",
            "write an address and a prefix length, such as 10.244.0.0/16",
        )
    if not isinstance(found, IPv4Network):
        return Fault(
            f"'{text}' is an IPv6 network, and only IPv4 is supported",
            "write an IPv4 network, such as 10.244.0.0/16",
        )
    if "/" not in str(text):
        return Fault(f"'{text}' has no prefix length", f"write {text}/16 if that is the network")
    if str(found) != text:
        return Fault(f"'{text}' is not the first address of its network", f"write {found}")
    for reserved, use in RESERVED_NETWORKS.items():
        if found.overlaps(IPv4Network(reserved)):
            return Fault(
                f"'{text}' overlaps {reserved} ({use})",
                "write a private network, such as one of 10.0.0.0/8",
            )
    return found


def pod_network(pods: IPv4Network, machines: int) -> Fault | None:
    """Of the pods' network in a cluster of so many machines."""
    if pods.prefixlen < WIDEST_POD_PREFIX:
        return Fault(
            f"/{pods.prefixlen} is too large: Kubernetes divides at most a /{WIDEST_POD_PREFIX}",
            f"write a prefix length from {WIDEST_POD_PREFIX} to {NODE_PREFIX}",
        )
    room = 2 ** (NODE_PREFIX - pods.prefixlen) if pods.prefixlen <= NODE_PREFIX else 0
    if room >= max(machines, 1):
        return None
    needed = max(WIDEST_POD_PREFIX, NODE_PREFIX - (max(machines, 1) - 1).bit_length())
    return Fault(
        f"{pods} has room for {room} nodes (a /{NODE_PREFIX} each), but there are {machines}",
        f"write a prefix length of {needed} or less",
    )


def service_network(services: IPv4Network) -> Fault | None:
    """Of the services' network."""
    first, last = SERVICE_PREFIXES
    if first <= services.prefixlen <= last:
        return None
    size = "large" if services.prefixlen < first else "small"
    return Fault(
        f"/{services.prefixlen} is too {size} for services",
        f"write a prefix length from {first} to {last}",
    )


def overlap(one: IPv4Network, other: IPv4Network, name: str) -> Fault | None:
    """Of network *one*; *name* is that of the *other*."""
    if not one.overlaps(other):
        return None
    return Fault(f"{one} overlaps {name} {other}", "choose networks that do not overlap")


def max_pods(value: int, name: str) -> Fault | None:
    """Of what a kubelet is told, where the pods' network, called *name*, is ours."""
    if value <= MAX_PODS:
        return None
    return Fault(
        f"{value} is more than a node has addresses for: its /{NODE_PREFIX} of "
        f"{name} has {NODE_ADDRESSES}, one of which the bridge uses",
        f"write {MAX_PODS} or less",
    )


def provider(name: str, known: Iterable[str]) -> Fault:
    """Of a provider that is none of the *known* ones."""
    listed = ", ".join(sorted(known)) or "none"
    return Fault(f"there is no provider '{name}'", f"known providers: {listed}")
