# SPDX-License-Identifier: Apache-2.0
"""Which addresses a cluster's machines get. Pure: text in, text out; IPv4."""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable, Sequence

# Below it: the gateway and whatever a user wants to place by hand.
FIRST_HOST = 11


class AddressError(Exception):
    """No address or network is left; the text says where and what to do."""


def free_subnets(pool: str, taken: Iterable[str]) -> list[str]:
    """The /24 networks of `pool` that overlap nothing in `taken` (IPv4 networks or addresses)."""
    networks = [ipaddress.IPv4Network(text, strict=False) for text in taken]
    return [
        str(subnet)
        for subnet in ipaddress.IPv4Network(pool).subnets(new_prefix=24)
        if not any(subnet.overlaps(network) for network in networks)
    ]


def leases(subnet: str) -> str:
    """The upper half of `subnet`: out of it podman leases a container its first address.

    The machine then takes its own, see `kubewright-machine-network`. Podman does not give that one:
    it keeps the lease of a container whose making was interrupted, and refuses it to the next.
    """
    return str(list(ipaddress.IPv4Network(subnet).subnets(1))[1])


def place(wanted: Sequence[str], taken: Iterable[str], subnet: str) -> dict[str, str]:
    """The lowest free addresses in the lower half of `subnet`, for `wanted` in that order."""
    used = set(taken)
    lower = next(ipaddress.IPv4Network(subnet).subnets(1))
    free = (str(host) for host in list(lower)[FIRST_HOST:] if str(host) not in used)
    placed = dict(zip(wanted, free, strict=False))
    for machine in wanted:
        if machine not in placed:
            raise AddressError(f"The network {subnet} has no address left for {machine}.")
    return placed
