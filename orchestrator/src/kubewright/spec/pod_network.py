# SPDX-License-Identifier: Apache-2.0
"""How much room ``pod_cidr`` has: for nodes, and on each node for pods."""

from __future__ import annotations

from collections.abc import Iterator
from ipaddress import IPv4Network

from kubewright.spec.errors import Finding

#: The pod network of one node: kube-controller-manager's default --node-cidr-mask-size for IPv4.
NODE_PREFIX = 24
#: kube-controller-manager hands out at most 2^16 node networks (kubeadm: PodSubnetNodeMaskMaxDiff).
WIDEST_POD_PREFIX = NODE_PREFIX - 16
#: What a node has for pods: of its /24 the first and the last address are no host's, and the bridge
#: takes one (CNI plugin host-local: the gateway).
ADDRESSES = 2 ** (32 - NODE_PREFIX) - 2
MAX_PODS = ADDRESSES - 1


def findings(network: IPv4Network, machines: int) -> Iterator[Finding]:
    """Say what is wrong with the pods' network of a cluster of so many machines."""
    if network.prefixlen < WIDEST_POD_PREFIX:
        yield Finding(
            ("pod_cidr",),
            f"/{network.prefixlen} is too large: Kubernetes divides at most a /{WIDEST_POD_PREFIX}",
            f"write a prefix length from {WIDEST_POD_PREFIX} to {NODE_PREFIX}",
        )
        return
    room = 2 ** (NODE_PREFIX - network.prefixlen) if network.prefixlen <= NODE_PREFIX else 0
    if room < max(machines, 1):
        needed = max(WIDEST_POD_PREFIX, NODE_PREFIX - (max(machines, 1) - 1).bit_length())
        yield Finding(
            ("pod_cidr",),
            f"{network} has room for {room} nodes (a /{NODE_PREFIX} each) of {machines}",
            f"write a prefix length of {needed} or less",
        )
