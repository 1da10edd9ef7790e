# SPDX-License-Identifier: Apache-2.0
"""Rules for machines of one's own, the nodes of the provider static. They read plain data."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from ipaddress import IPv4Address, IPv4Network
from typing import Any

from kubewright.agreed import inventory, machines, rules
from kubewright.spec.errors import Finding, Location, at, dotted
from kubewright.spec.models import LABEL

#: The provider whose machines the file names.
STATIC = inventory.STATIC


@dataclass(frozen=True)
class Place:
    """The control plane or a pool: where it stands, what it says, and what its size may be."""

    location: Location
    data: dict[str, Any]
    sizes: str


@dataclass
class Seen:
    """What other nodes have: by name or address, the location of the first that has it."""

    names: dict[str, str] = field(default_factory=dict)
    addresses: dict[IPv4Address, str] = field(default_factory=dict)


def size_or_nodes(place: Place) -> Iterator[Finding]:
    """Say whether a place has what its provider needs: static names nodes, all others count."""
    where, data = place.location, place.data
    provider = data.get("provider")
    if provider == STATIC:
        if "size" in data:
            yield Finding(
                (*where, "size"),
                "can't be set: machines of the provider static are listed one by one",
                "write nodes instead, such as [{name: alpha, address: 192.0.2.11}]",
                at_key=True,
            )
        elif "nodes" not in data:
            yield Finding(
                (*where, "nodes"),
                "is missing",
                "add a list of machines, such as [{name: alpha, address: 192.0.2.11}]",
            )
        return
    if "nodes" in data and isinstance(provider, str):
        yield Finding(
            (*where, "nodes"),
            f"can't be set: the provider '{provider}' creates its machines",
            "write size instead, or the provider static for your own machines",
            at_key=True,
        )
    elif data.get("size") is None and "nodes" not in data:
        what, remedy = ("is empty", "write") if "size" in data else ("is missing", "add")
        yield Finding((*where, "size"), what, f"{remedy} {place.sizes}")


def ssh(data: dict[str, Any], places: list[Place]) -> Iterator[Finding]:
    """Say whether there are settings for machines that the file does not have.

    Where a provider is missing or no word, nobody knows.
    """
    providers = [place.data.get("provider") for place in places]
    known = providers and all(isinstance(provider, str) for provider in providers)
    if "ssh" in data and known and STATIC not in providers:
        yield Finding(
            ("ssh",),
            f"has no effect: no pool has the provider {STATIC}",
            f"remove it, or write the provider {STATIC} for your own machines",
            at_key=True,
        )


def nodes(
    places: list[Place],
    made: dict[str, str],
    networks: dict[str, IPv4Network],
) -> Iterator[Finding]:
    """Say what is wrong with the nodes that a file names.

    ``made``: names of machines that other providers make, with the place of each. ``networks``: of
    pods and services, by field.
    """
    seen = Seen(names=dict(made))
    for place in places:
        listed = place.data.get("nodes")
        for number, node in enumerate(listed if isinstance(listed, list) else []):
            if isinstance(node, dict):
                where = (*place.location, "nodes", number)
                yield from _name(where, node.get("name"), seen)
                yield from _address(where, node.get("address"), seen, networks)
                yield from _host_keys(where, node.get("host_keys"))


def _name(where: Location, name: object, seen: Seen) -> Iterator[Finding]:
    if not isinstance(name, str) or not re.match(LABEL, name):
        return
    place = (*where, "name")
    if fault := rules.machine_name(name):
        yield from at(place, fault)
    elif name in seen.names:
        yield Finding(
            place, f"'{name}' is also the name of {seen.names[name]}", "choose another name"
        )
    else:
        seen.names[name] = dotted(where)


def _address(
    where: Location, text: object, seen: Seen, networks: dict[str, IPv4Network]
) -> Iterator[Finding]:
    if not isinstance(text, str) or not text:
        return
    place = (*where, "address")
    found = rules.address(text, seen.addresses, dotted(where))
    if isinstance(found, rules.Fault):
        yield from at(place, found)
    else:
        yield from at(place, *rules.inside(found, networks))


def _host_keys(where: Location, keys: object) -> Iterator[Finding]:
    for number, key in enumerate(keys if isinstance(keys, list) else []):
        if not isinstance(key, str) or _is_host_key(key):
            continue
        shown = key if len(key) <= 30 else f"{key[:30]}..."
        if key.startswith(machines.AUTHORITY):
            yield Finding(
                (*where, "host_keys", number),
                f"'{shown}' does not name the CA of the machine's key",
                f'write "{machines.AUTHORITY} NAME ssh-ed25519 AAAA...": a name in the '
                "machine's certificate (ssh-keygen -L), and the public key of the CA that signed "
                "it",
            )
        else:
            yield Finding(
                (*where, "host_keys", number),
                f"'{shown}' is not a public SSH key",
                "write a line of /etc/ssh/ssh_host_ed25519_key.pub of that machine",
            )


def without_comment(key: str) -> str:
    """Return a host key of the file without its comment, which could hold anything."""
    words = key.split()
    return " ".join(words[: 4 if words[0] == machines.AUTHORITY else 2])


def _is_host_key(text: str) -> bool:
    """Whether it is a key, with or without a comment, on one line."""
    return "\n" not in text and bool(text.split()) and machines.is_host_key(without_comment(text))
