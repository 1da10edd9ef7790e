# SPDX-License-Identifier: Apache-2.0
"""Rules that one field's kind and bounds can't say: quorum, networks, names, versions, providers.

They read the plain document and skip what has the wrong kind (the models report that), so that
a person gets everything that is wrong at once.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass
from ipaddress import IPv4Network
from typing import Any

from kubewright.agreed import names, rules
from kubewright.spec import kubelet, own_machines
from kubewright.spec.errors import Finding, Location, at, dotted
from kubewright.spec.models import LABEL, MAX_NODES, MIN_VOLUME_GB, Spec
from kubewright.spec.names import CONTROL_PLANE, host_name

#: What 64 bits and ext4 take in any case, in GB: 16 PB, with room for what is counted in bytes.
MAX_VOLUME_GB = 16_000_000


class Unresolved(Exception):
    """No such Kubernetes version can be had. ``remedy`` says which ones can."""

    def __init__(self, message: str, remedy: str) -> None:
        super().__init__(message)
        self.message = message
        self.remedy = remedy


@dataclass(frozen=True)
class Surroundings:
    """What the rules must know from outside the file; None = that rule does not apply.

    ``providers``: names of the providers that the collection has.
    ``resolve``: from a version and the cluster's name in the file to a patch release; raises
    :class:`Unresolved`.
    """

    providers: Collection[str] | None = None
    resolve: Callable[[str, str], str] | None = None


def check(data: Any, around: Surroundings) -> list[Finding]:
    """Return what breaks a rule in a document (plain data of cluster.yml)."""
    if not isinstance(data, dict):
        return []
    pools = _pools(data)
    places = _places(data, pools)
    networks, found = _networks(data, pools)
    return [
        *(finding for place in places for finding in own_machines.size_or_nodes(place)),
        *own_machines.nodes(places, _made_names(data, places), networks),
        *own_machines.ssh(data, places),
        *_quorum(data),
        *_pool_names(pools),
        *_host_names(data, pools),
        *_kubelet_args(data, pools),
        *(finding for place in places for finding in _device(place)),
        *(finding for place in places for finding in _volume_size(place)),
        *found,
        *_version(data, around),
        *_providers(data, pools, around),
    ]


def _get(data: Any, key: str, kind: type) -> Any:
    """Return a field when it is there and of that kind (true is not a number), else None."""
    value = data.get(key) if isinstance(data, dict) else None
    return value if isinstance(value, kind) and not isinstance(value, bool) else None


def _pools(data: dict[str, Any]) -> list[tuple[int, dict[str, Any]]]:
    listed = _get(data, "pools", list) or []
    return [(number, pool) for number, pool in enumerate(listed) if isinstance(pool, dict)]


def _places(
    data: dict[str, Any], pools: list[tuple[int, dict[str, Any]]]
) -> list[own_machines.Place]:
    control_plane = _get(data, "control_plane", dict)
    sizes = f"a whole number from 0 to {MAX_NODES}"
    return [
        *(
            [own_machines.Place(("control_plane",), control_plane, "1, 3, 5 or 7")]
            if control_plane is not None
            else []
        ),
        *(own_machines.Place(("pools", number), pool, sizes) for number, pool in pools),
    ]


def _count(place: Any) -> int:
    """Return how many machines a place has, as far as that can be said."""
    nodes = _get(place, "nodes", list)
    return len(nodes) if nodes is not None else max(_get(place, "size", int) or 0, 0)


def _made_names(data: dict[str, Any], places: list[own_machines.Place]) -> dict[str, str]:
    """Return the host names that are made up, with the place of each."""
    cluster = _get(data, "name", str) or ""
    return {
        host_name(cluster, name, number): f"a machine of {dotted(place.location)}"
        for place in places
        for name in [_get(place.data, "name", str) or CONTROL_PLANE]
        for number in range(1, min(_get(place.data, "size", int) or 0, MAX_NODES) + 1)
    }


def _quorum(data: dict[str, Any]) -> Iterator[Finding]:
    control_plane = _get(data, "control_plane", dict)
    field = "nodes" if _get(control_plane, "nodes", list) is not None else "size"
    size = _count(control_plane)
    if field == "nodes" and not size:
        yield Finding(("control_plane", field), "is empty", "write 1, 3, 5 or 7 machines")
    if 0 < size <= rules.MAX_CONTROL_PLANES:
        yield from at(("control_plane", field), rules.quorum(size))


def _pool_names(pools: list[tuple[int, dict[str, Any]]]) -> Iterator[Finding]:
    first: dict[str, int] = {}
    for number, pool in pools:
        name = _get(pool, "name", str)
        where: Location = ("pools", number, "name")
        if name is None:
            continue
        if name == CONTROL_PLANE:
            yield Finding(
                where, f"'{name}' is the name of the control plane's hosts", "choose another name"
            )
        elif name in first:
            yield Finding(
                where, f"'{name}' is also the name of pools[{first[name]}]", "choose another name"
            )
        else:
            first[name] = number


def _kubelet_args(
    data: dict[str, Any], pools: list[tuple[int, dict[str, Any]]]
) -> Iterator[Finding]:
    places: list[tuple[Location, Any]] = [(("control_plane",), data.get("control_plane"))]
    places += [(("pools", number), pool) for number, pool in pools]
    for where, place in places:
        for name, value in (_get(place, "kubelet_args", dict) or {}).items():
            at: Location = (*where, "kubelet_args", name)
            yield from kubelet.findings(at, name, value, _get(data, "version", str) or "")


def _device(place: own_machines.Place) -> Iterator[Finding]:
    volume = _get(place.data, "system_volume", dict)
    kind = volume.get("type", "local") if volume is not None else "local"
    where: Location = (*place.location, "system_volume", "device")
    if volume is None or kind not in ("local", "block"):
        return
    if kind == "block" and "device" not in volume:
        yield Finding(
            where,
            "is missing: a volume of type block is a device",
            "add its path, such as /dev/disk/by-id/virtio-system",
        )
    if kind == "local" and "device" in volume:
        yield Finding(
            where,
            "can't be set: a volume of type local is a file",
            "remove it, or write type: block",
            at_key=True,
        )
    device = _get(volume, "device", str)
    if kind == "block" and device and {".", ".."} & set(device.split("/")):
        yield Finding(
            where,
            f"'{device}' has . or .. in it",
            "write its path without them, such as /dev/disk/by-id/virtio-system",
        )


def _volume_size(place: own_machines.Place) -> Iterator[Finding]:
    size = _get(_get(place.data, "system_volume", dict), "size_gb", int)
    if size is not None and size > MAX_VOLUME_GB:
        yield Finding(
            (*place.location, "system_volume", "size_gb"),
            f"{size} is more than a file or device can have",
            f"write a whole number of GB, {MIN_VOLUME_GB} to {MAX_VOLUME_GB}",
        )


def _host_names(data: dict[str, Any], pools: list[tuple[int, dict[str, Any]]]) -> Iterator[Finding]:
    cluster = _get(data, "name", str)
    if cluster is None or not re.match(LABEL, cluster):
        return
    control_plane = _get(data, "control_plane", dict)
    longest = host_name(cluster, CONTROL_PLANE, _get(control_plane, "size", int) or 1)
    if _makes_names(control_plane) and len(longest) > names.MAX_LABEL:
        yield _too_long(("name",), longest)
        return
    for number, pool in pools:
        if not _makes_names(pool):
            continue
        name = _get(pool, "name", str)
        longest = host_name(cluster, name or "", _get(pool, "size", int) or 1)
        if name and len(longest) > names.MAX_LABEL:
            yield _too_long(("pools", number, "name"), longest)


def _makes_names(place: Any) -> bool:
    """Whether hosts are called after the cluster: those of a list have their own names."""
    return _get(place, "nodes", list) is None


def _too_long(where: Location, host: str) -> Finding:
    excess = len(host) - names.MAX_LABEL
    return Finding(
        where,
        f"makes the host name {host}, which has {len(host)} characters; the "
        f"maximum is {names.MAX_LABEL}",
        f"shorten the name of the cluster or of the pool by {excess}",
    )


def _networks(
    data: dict[str, Any], pools: list[tuple[int, dict[str, Any]]]
) -> tuple[dict[str, IPv4Network], list[Finding]]:
    """Return the networks that can be read, by field, and what is wrong with them."""
    networks: dict[str, IPv4Network] = {}
    found: list[Finding] = []
    for key in ("pod_cidr", "service_cidr"):
        text = data.get(key, Spec.model_fields[key].default)
        network = rules.network(text) if isinstance(text, str) and text else None
        if isinstance(network, IPv4Network):
            networks[key] = network
        else:
            found += at((key,), network)
    pods, services = networks.get("pod_cidr"), networks.get("service_cidr")
    if pods is not None:
        machines = _count(data.get("control_plane")) + sum(_count(pool) for _, pool in pools)
        found += at(("pod_cidr",), rules.pod_network(pods, machines))
    if services is not None:
        found += at(("service_cidr",), rules.service_network(services))
    if pods is not None and services is not None:
        # Told at the field that the file has; the other one may be a default.
        key, other = (
            ("service_cidr", "pod_cidr") if "service_cidr" in data else ("pod_cidr", "service_cidr")
        )
        found += at((key,), rules.overlap(networks[key], networks[other], other))
    return networks, found


def _version(data: dict[str, Any], around: Surroundings) -> Iterator[Finding]:
    version = _get(data, "version", str)
    if around.resolve is None or version is None or not re.match(r"^\d+\.\d+(\.\d+)?$", version):
        return
    cluster = _get(data, "name", str) or ""
    try:
        around.resolve(version, cluster if re.match(LABEL, cluster) else "")
    except Unresolved as error:
        yield Finding(("version",), error.message, error.remedy)


def _providers(
    data: dict[str, Any], pools: list[tuple[int, dict[str, Any]]], around: Surroundings
) -> Iterator[Finding]:
    if around.providers is None:
        return
    places: list[tuple[Location, Any]] = [(("control_plane",), data.get("control_plane"))]
    places += [(("pools", number), pool) for number, pool in pools]
    for where, part in places:
        name = _get(part, "provider", str)
        if name and re.match(LABEL, name) and name not in around.providers:
            yield from at((*where, "provider"), rules.provider(name, around.providers))
