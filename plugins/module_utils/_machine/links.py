# Copyright: the Kubewright authors
# Apache License 2.0 (see LICENSE or https://www.apache.org/licenses/LICENSE-2.0)
"""This machine's addresses, and the interfaces that hold them."""

from __future__ import annotations

import ipaddress
import socket
from pathlib import Path

from ansible_collections.kubewright.cluster.plugins.module_utils._onnode import netlink


def addresses() -> dict[str, str]:
    """Name of the interface by address, IPv4 and IPv6."""
    names = {index: name for index, name in socket.if_nameindex()}
    return {
        address: names.get(index, f"interface {index}") for index, address in netlink.addresses()
    }


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
