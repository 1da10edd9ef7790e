# Copyright: the Kubewright authors
# Apache License 2.0 (see LICENSE or https://www.apache.org/licenses/LICENSE-2.0)
"""Private to kubewright.cluster: this machine's addresses, and the interfaces that hold them."""

from __future__ import annotations

import ipaddress
import socket
import struct
from pathlib import Path

from ansible_collections.kubewright.cluster.plugins.module_utils import _netlink

IFA_ADDRESS, IFA_LOCAL = 1, 2
ADDRESS_MESSAGE = struct.Struct("=BBBBI")


def addresses() -> dict[str, str]:
    """Name of the interface by address, IPv4 and IPv6."""
    names = {index: name for index, name in socket.if_nameindex()}
    found = {}
    for body in _netlink.dump(_netlink.RTM_GETADDR, ADDRESS_MESSAGE.pack(0, 0, 0, 0, 0)):
        index, address = parse(body)
        if address:
            found[address] = names.get(index, f"interface {index}")
    return found


def parse(body: bytes) -> tuple[int, str]:
    """Index of the interface and address of an RTM_NEWADDR message; "" for an unknown family.

    The local one where both are given: on a point-to-point link the other is the peer's.
    """
    family, _, _, _, index = ADDRESS_MESSAGE.unpack_from(body)
    attributes = _netlink.attributes(body[ADDRESS_MESSAGE.size :])
    raw = attributes.get(IFA_LOCAL) or attributes.get(IFA_ADDRESS)
    if raw is None or family not in (socket.AF_INET, socket.AF_INET6):
        return index, ""
    return index, socket.inet_ntop(family, raw)


def canonical(address: str) -> str:
    """An IP address as the kernel writes it; "" for what is none, such as a name."""
    try:
        return str(ipaddress.ip_address(address))
    except ValueError:
        return ""


def mtu(interface: str, root: Path) -> int:
    """Its largest packet in bytes; 0 where it is not known."""
    try:
        return int((root / "sys/class/net" / interface / "mtu").read_text())
    except (OSError, ValueError):
        return 0
