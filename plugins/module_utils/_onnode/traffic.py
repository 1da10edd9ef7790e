# Copyright: the Kubewright authors
# Apache License 2.0 (see LICENSE or https://www.apache.org/licenses/LICENSE-2.0)
"""What is wrong with a node's traffic, in words. Pure.

`check` looks; here is whom it asks, and what its answers mean. Like it, this very file also lies
on each node.
"""

from __future__ import annotations

import functools
import ipaddress
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

#: flannel's interface.
OVERLAY = "flannel.1"
#: How a connection ended that the other side refused, so that it can be reached.
REFUSED = "refused"
#: So many others a node asks where there are more than that.
EVERYONE = 10


@dataclass(frozen=True)
class Request:
    """Who asks, and what only others know of the cluster.

    *name*, *address*: the node's own. Addresses by name: *nodes*, of all nodes, and *servers*, of
    those with an API server. *api_name*: what the API's certificates hold. *service_cidr*: its
    first address is the API's Service, its tenth that of DNS (kubeadm).
    """

    name: str
    address: str
    nodes: Mapping[str, str]
    servers: Mapping[str, str]
    api_name: str
    service_cidr: str

    @functools.cached_property
    def peers(self) -> dict[str, str]:
        """Addresses of the nodes that this one asks."""
        return {name: self.nodes[name] for name in sample(self.nodes, self.name)}

    def service(self, number: int) -> str:
        """An address of the Service network."""
        return str(ipaddress.ip_network(self.service_cidr)[number])


@dataclass(frozen=True)
class Trouble:
    """What is wrong here, what to do about it, and the other nodes that it is *about*."""

    text: str
    remedy: str
    about: tuple[str, ...] = ()

    def as_dict(self) -> dict[str, Any]:
        """For JSON."""
        return {**asdict(self), "about": list(self.about)}


@dataclass
class Seen:
    """What was asked and how it ended: "" where an answer came, else why not.

    *servers*, *nodes* (of peers), *overlay* (the same by the pod network) by name; *from_pods* of
    the overlay as seen by a pod. *services*, *pod_services* by ``api`` and ``dns``.
    *networks*: those of this node's pods by flannel's word; *strangers*: addresses of their bridge
    that are of none of them. *masquerades*: whether pods send out with the node's address.
    *ways*: addresses in the pod network of peers, as flannel knows them; *local*: the address that
    it sends from, None without its interface. *flannel*: whether it is the pod network.
    *pod*: whether there was a pod whose network could be used. *proxy*: of kube-proxy's health.
    """

    flannel: bool = False
    local: str | None = None
    networks: list[str] = field(default_factory=list)
    strangers: list[str] = field(default_factory=list)
    masquerades: bool = True
    ways: dict[str, str] = field(default_factory=dict)
    pod: bool = False
    servers: dict[str, str] = field(default_factory=dict)
    nodes: dict[str, str] = field(default_factory=dict)
    overlay: dict[str, str] = field(default_factory=dict)
    from_pods: dict[str, str] = field(default_factory=dict)
    services: dict[str, str] = field(default_factory=dict)
    pod_services: dict[str, str] = field(default_factory=dict)
    proxy: str = ""


def sample(names: Iterable[str], own: str) -> list[str]:
    """Whom *own* asks of all nodes *names*: everyone of few, of many always the same few. Pure.

    Those at the distances 1, 2, 4, ... around the ring of sorted names. So each is asked by as
    many others, whoever is cut off is noticed by several, and a new node changes little.
    """
    ring = sorted({*names, own})
    others = [name for name in ring if name != own]
    if len(others) <= EVERYONE:
        return others
    start, found, step = ring.index(own), [], 1
    while step < len(ring):
        found.append(ring[(start + step) % len(ring)])
        step *= 2
    return found


def judge(request: Request, seen: Seen) -> list[Trouble]:
    """What is wrong, in words. Pure."""
    looks = (_servers, _bridge, _overlay, _outside, _services)
    return [trouble for look in looks for trouble in look(request, seen)]


def _servers(request: Request, seen: Seen) -> Iterator[Trouble]:
    silent = _failed(seen.servers)
    if silent:
        names = [name for name in silent if name != request.name]
        yield Trouble(
            f"The API server of {_told(silent)} does not answer here ({_why(silent)}).",
            "If it answers others, a firewall there or in between drops TCP 6443 from this node."
            if names
            else "`crictl ps -a` and `crictl logs` there show why.",
            tuple(names),
        )


def _bridge(request: Request, seen: Seen) -> Iterator[Trouble]:
    if seen.strangers:
        yield Trouble(
            f"Pods can't start here: their bridge (cni0) has {_told(seen.strangers)}, but "
            f"the pod network of this node is {_told(seen.networks)}.",
            "'kubewright apply' recreates the bridge, and restarts the pods of the old network.",
        )


def _outside(request: Request, seen: Seen) -> Iterator[Trouble]:
    if not seen.masquerades:
        yield Trouble(
            "Pods here can't reach anything outside the cluster: flannel's "
            "masquerading rules were removed (nft, a firewall).",
            "'kubewright apply' restores them.",
        )


def _overlay(request: Request, seen: Seen) -> Iterator[Trouble]:
    if not seen.flannel or not request.peers:
        return
    logs = (
        f"`kubectl -n kube-flannel logs -l app=flannel --field-selector "
        f"spec.nodeName={request.name}` tells why"
    )
    if seen.local is None:
        yield Trouble(
            f"The pod network is missing: flannel has not created the interface {OVERLAY}.",
            f"{logs}.",
        )
        return
    if seen.local and seen.local != request.address:
        yield Trouble(
            f"flannel sends from {seen.local}, but the node's address, which the "
            f"others use, is {request.address}.",
            "'kubewright apply' gives flannel the node's address.",
        )
        return  # what it can't reach is for that
    unknown = tuple(name for name in request.peers if name not in seen.ways)
    if unknown:
        yield Trouble(
            f"flannel has no route from here to the pods of {_told(unknown)} via the "
            "addresses of their nodes.",
            f"If no other finding is about {_told(unknown)}: {logs}, or the same "
            "on the other node.",
            unknown,
        )
    lost = {name: why for name, why in seen.overlay.items() if not _answered(why)}
    away = {name: why for name, why in lost.items() if not _answered(seen.nodes.get(name, ""))}
    if away:
        yield Trouble(
            f"Neither {_told(away)} nor the pods there can be reached from here ({_why(away)}).",
            "It is off, or a firewall on one of the nodes or between them drops incoming "
            "packets: nodes need UDP 8472 and TCP 10250 from each other (docs/health.md).",
            tuple(away),
        )
    if near := {name: why for name, why in lost.items() if name not in away}:
        yield Trouble(
            f"Pods here can't reach the pods of {_told(near)} ({_networks(seen, near)}: "
            f"{_why(near)}), though the nodes reach each other.",
            "A firewall on one of the nodes or between them drops UDP 8472 (VXLAN) or "
            f"packets from {OVERLAY} (docs/health.md), or flannel does not run there.",
            tuple(near),
        )
    cut = {name: why for name, why in _failed(seen.from_pods).items() if name not in lost}
    if cut := {name: why for name, why in cut.items() if not _answered(why)}:
        yield Trouble(
            f"Pods here can't reach the pods of {_told(cut)} ({_networks(seen, cut)}: "
            f"{_why(cut)}), while the node itself can.",
            "Something drops forwarded packets: check `sysctl net.ipv4.ip_forward` (must be"
            " 1), and the chains of the forward hook in `nft list ruleset`.",
            tuple(cut),
        )


def _services(request: Request, seen: Seen) -> Iterator[Trouble]:
    api, dns = request.service(1), request.service(10)
    alive = not seen.servers or any(not why for why in seen.servers.values())
    told = _proxy(seen.proxy)
    proxy = (
        "`kubectl -n kube-system logs -l k8s-app=kube-proxy --field-selector "
        f"spec.nodeName={request.name}` shows why."
    )
    if seen.services.get("api"):
        if alive:
            yield Trouble(
                f"Services don't work here: that of the API ({api}) does not answer "
                f"({seen.services['api']}), although API servers do. {told}.",
                f"'kubewright apply' restores missing rules. Otherwise {proxy}",
            )
        return
    if seen.services.get("dns"):
        yield Trouble(
            f"Cluster DNS ({dns}) does not answer here ({seen.services['dns']}).",
            "`kubectl -n kube-system get pods -o wide -l k8s-app=kube-dns` shows whether it runs, "
            "and where.",
        )
        return
    for key, what in (("api", f"the API ({api})"), ("dns", f"cluster DNS ({dns})")):
        if why := seen.pod_services.get(key):
            yield Trouble(
                f"Pods here can't reach the Service of {what}: {why}. The node itself can.",
                "Something drops the pods' packets: check `sysctl net.ipv4.ip_forward` (must "
                "be 1), and the chains of the forward hook in `nft list ruleset`.",
            )
            return


def _proxy(why: str) -> str:
    if why == REFUSED:
        return "kube-proxy does not run"
    if why:
        return f"kube-proxy reports that it is not healthy ({why})"
    return (
        "kube-proxy runs, but has no rules in place: it wrote none, or they were removed (nft, a "
        "firewall)"
    )


def _failed(answers: Mapping[str, str]) -> dict[str, str]:
    return {name: why for name, why in answers.items() if why}


def _answered(why: str) -> bool:
    """Whether packets came back: a machine without a kubelet refuses, and can be reached."""
    return why in ("", REFUSED)


def _told(names: Sequence[str] | Mapping[str, str]) -> str:
    listed = list(names)
    return listed[0] if len(listed) == 1 else f"{', '.join(listed[:-1])} and {listed[-1]}"


def _why(answers: Mapping[str, str]) -> str:
    return "; ".join(dict.fromkeys(answers.values()))


def _networks(seen: Seen, names: Mapping[str, str]) -> str:
    return ", ".join(seen.ways[name] for name in names)
