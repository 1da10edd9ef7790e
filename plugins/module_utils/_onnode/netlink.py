# Copyright: the Kubewright authors
# Apache License 2.0 (see LICENSE or https://www.apache.org/licenses/LICENSE-2.0)
"""Questions to the kernel about links, addresses and neighbours.

Like `guard`, this very file also lies on each node. The kernel itself is asked: a machine that is
no node yet need not have the command ``ip``, and nobody's lists have ``bridge``.
Layouts: rtnetlink(7), linux/{if_addr,if_link,neighbour}.h.
"""

from __future__ import annotations

import socket
import struct
from collections.abc import Iterator

RTM_NEWLINK, RTM_GETLINK = 16, 18
RTM_NEWADDR, RTM_GETADDR = 20, 22
RTM_NEWNEIGH, RTM_GETNEIGH = 28, 30
NLMSG_ERROR, NLMSG_DONE = 2, 3
REQUEST_DUMP = 0x301
IFLA_IFNAME, IFLA_LINKINFO, IFLA_INFO_DATA, IFLA_VXLAN_LOCAL = 3, 18, 2, 4
NDA_DST, NDA_LLADDR = 1, 2
NESTED = 0x3FFF  # without the flags that an attribute's type may carry
HEADER, ATTRIBUTE = struct.Struct("=IHHII"), struct.Struct("=HH")
IFA_ADDRESS, IFA_LOCAL = 1, 2
LINK_MESSAGE, NEIGHBOUR_MESSAGE = struct.Struct("=BBHiII"), struct.Struct("=BBHiHBB")
ADDRESS_MESSAGE = struct.Struct("=BBBBI")
BUFFER = 1 << 16
SECONDS = 5.0


def dump(kind: int, fixed: bytes) -> Iterator[bytes]:
    """The bodies of all answers to a question of *kind* that begins with *fixed*.

    :raises OSError: the kernel refused.
    """
    with socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, socket.NETLINK_ROUTE) as kernel:
        kernel.settimeout(SECONDS)
        kernel.send(HEADER.pack(HEADER.size + len(fixed), kind, REQUEST_DUMP, 1, 0) + fixed)
        while True:
            for told, body in messages(kernel.recv(BUFFER)):
                if told == NLMSG_ERROR:
                    number = -struct.unpack_from("=i", body)[0]
                    raise OSError(number, "the kernel does not answer over netlink")
                if told == NLMSG_DONE:
                    return
                yield body


def messages(data: bytes) -> Iterator[tuple[int, bytes]]:
    """Type and body of each message in what was received."""
    while len(data) >= HEADER.size:
        length, kind, _, _, _ = HEADER.unpack_from(data)
        yield kind, data[HEADER.size : length]
        data = data[_aligned(max(length, HEADER.size)) :]


def attributes(data: bytes) -> dict[int, bytes]:
    """Attributes by type; of one that is given twice the last."""
    found = {}
    while len(data) >= ATTRIBUTE.size:
        length, kind = ATTRIBUTE.unpack_from(data)
        found[kind & NESTED] = data[ATTRIBUTE.size : length]
        data = data[_aligned(max(length, ATTRIBUTE.size)) :]
    return found


def addresses() -> list[tuple[int, str]]:
    """Index of the interface and address, IPv4 and IPv6, of this machine's addresses."""
    asked = dump(RTM_GETADDR, ADDRESS_MESSAGE.pack(0, 0, 0, 0, 0))
    return [(index, address) for index, address in map(parse_address, asked) if address]


def parse_address(body: bytes) -> tuple[int, str]:
    """Index of the interface and address of an RTM_NEWADDR message; "" for an unknown family.

    The local one where both are given: on a point-to-point link the other is the peer's.
    """
    family, _, _, _, index = ADDRESS_MESSAGE.unpack_from(body)
    told = attributes(body[ADDRESS_MESSAGE.size :])
    raw = told.get(IFA_LOCAL) or told.get(IFA_ADDRESS)
    if raw is None or family not in (socket.AF_INET, socket.AF_INET6):
        return index, ""
    return index, socket.inet_ntop(family, raw)


def vxlan_local(name: str) -> str | None:
    """The address from which the VXLAN interface *name* sends; None without it, "" for any."""
    for body in dump(RTM_GETLINK, LINK_MESSAGE.pack(0, 0, 0, 0, 0, 0)):
        link = attributes(body[LINK_MESSAGE.size :])
        if link.get(IFLA_IFNAME, b"").rstrip(b"\0").decode() == name:
            info = attributes(link.get(IFLA_LINKINFO, b""))
            local = attributes(info.get(IFLA_INFO_DATA, b"")).get(IFLA_VXLAN_LOCAL)
            return socket.inet_ntop(socket.AF_INET, local) if local else ""
    return None


def neighbours(name: str, family: int) -> list[tuple[bytes, str]]:
    """Hardware address and IPv4 address of each neighbour that the interface *name* knows.

    Of the family ``AF_BRIDGE`` these are, for a VXLAN, the machines that lead there.
    """
    index = socket.if_nametoindex(name)
    found = []
    for body in dump(RTM_GETNEIGH, NEIGHBOUR_MESSAGE.pack(family, 0, 0, 0, 0, 0, 0)):
        if NEIGHBOUR_MESSAGE.unpack_from(body)[3] != index:
            continue
        told = attributes(body[NEIGHBOUR_MESSAGE.size :])
        if len(told.get(NDA_DST, b"")) == 4 and NDA_LLADDR in told:
            found.append((told[NDA_LLADDR], socket.inet_ntop(socket.AF_INET, told[NDA_DST])))
    return found


def _aligned(length: int) -> int:
    return (length + 3) & ~3
