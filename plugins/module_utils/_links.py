# Copyright: the Kubewright authors
# Apache License 2.0 (see LICENSE or https://www.apache.org/licenses/LICENSE-2.0)
"""Private to kubewright.cluster: this machine's addresses, and the interfaces that hold them.

Asked of the kernel itself: a machine that is no node yet need not have the command ``ip``.
Layouts: the kernel's rtnetlink(7), linux/if_addr.h.
"""

from __future__ import annotations

import ipaddress
import socket
import struct
from collections.abc import Iterator
from pathlib import Path

RTM_NEWADDR, RTM_GETADDR, NLMSG_DONE, NLMSG_ERROR = 20, 22, 3, 2
REQUEST_DUMP = 0x301
IFA_ADDRESS, IFA_LOCAL = 1, 2
HEADER, ADDRESS_MESSAGE, ATTRIBUTE = struct.Struct("=IHHII"), struct.Struct("=BBBBI"), 4
BUFFER = 1 << 16
SECONDS = 5.0


def addresses() -> dict[str, str]:
    """Name of the interface by address, IPv4 and IPv6."""
    names = {index: name for index, name in socket.if_nameindex()}
    found = {}
    with socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, socket.NETLINK_ROUTE) as kernel:
        kernel.settimeout(SECONDS)
        size = HEADER.size + ADDRESS_MESSAGE.size
        kernel.send(
            HEADER.pack(size, RTM_GETADDR, REQUEST_DUMP, 1, 0) + ADDRESS_MESSAGE.pack(0, 0, 0, 0, 0)
        )
        done = False
        while not done:
            for kind, body in _messages(kernel.recv(BUFFER)):
                done = done or kind in (NLMSG_DONE, NLMSG_ERROR)
                if kind == RTM_NEWADDR:
                    index, address = parse(body)
                    if address:
                        found[address] = names.get(index, f"interface {index}")
    return found


def parse(body: bytes) -> tuple[int, str]:
    """Index of the interface and address of an RTM_NEWADDR message; "" for an unknown family.

    The local one where both are given: on a point-to-point link the other is the peer's.
    """
    family, _, _, _, index = ADDRESS_MESSAGE.unpack_from(body)
    attributes = dict(_attributes(body[ADDRESS_MESSAGE.size :]))
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


def _messages(data: bytes) -> Iterator[tuple[int, bytes]]:
    while len(data) >= HEADER.size:
        length, kind, _, _, _ = HEADER.unpack_from(data)
        yield kind, data[HEADER.size : length]
        data = data[_aligned(max(length, HEADER.size)) :]


def _attributes(data: bytes) -> Iterator[tuple[int, bytes]]:
    while len(data) >= ATTRIBUTE:
        length, kind = struct.unpack_from("=HH", data)
        yield kind, data[ATTRIBUTE:length]
        data = data[_aligned(max(length, ATTRIBUTE)) :]


def _aligned(length: int) -> int:
    return (length + 3) & ~3
