# Copyright: the Kubewright authors
# Apache License 2.0 (see LICENSE or https://www.apache.org/licenses/LICENSE-2.0)
"""Private to kubewright.cluster: whether traffic flows through a node, as the node itself sees it.

Like `_guard`, this very file also lies on each node, where `_report` runs it for ``status``; the
probe and the end of an apply run it as part of their modules. So all of them say the same.

A node that works reaches every API server, the pod network of every other node, and by way of
kube-proxy the Services of the API and of DNS; and so do its pods, in whose network sockets are
opened as well. Nothing is written and nothing is left behind: each question is one connection or
one packet to what every cluster has.

Of many nodes not everyone asks everyone, see `sample`.
"""

from __future__ import annotations

import contextlib
import ctypes
import functools
import http.client
import ipaddress
import os
import socket
import ssl
import struct
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

try:
    from ansible_collections.kubewright.cluster.plugins.module_utils import _netlink as netlink
except ImportError:  # alone on a node
    import netlink  # type: ignore[import-not-found,no-redef]

#: Where the container runtime keeps the networks of its pods.
NETWORKS = Path("/run/netns")
POD_NETWORK = "cni-"
CA = Path("/etc/kubernetes/pki/ca.crt")
FLANNEL = Path("/etc/cni/net.d/10-flannel.conflist")
OVERLAY = "flannel.1"
API_PORT, KUBELET_PORT, SERVICE_PORT, DNS_PORT, PROXY_PORT = 6443, 10250, 443, 53, 10256
#: Seconds for each question, all of which are asked at once: a packet that was lost is sent again
#: after one second.
LIMIT = 2.0
#: What is left at least of that for the next step of a question, lest it be endless.
POLL = 0.01
#: A datagram is sent again after so long.
AGAIN = 0.7
#: So many others a node asks where there are more than that.
EVERYONE = 10
#: A pod's Service by name, whichever domain the cluster has: it is that of all clusters of ours.
NAME = "kubernetes.default.svc.cluster.local"
CLONE_NEWNET = 0x40000000
SILENT = f"no answer within {LIMIT:g} s"
REFUSED = "refused"

Ask = Callable[[socket.socket], str]


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
    *ways*: addresses in the pod network of peers, as flannel knows them; *local*: the address that
    it sends from, None without its interface. *flannel*: whether it is the pod network.
    *pod*: whether there was a pod whose network could be used. *proxy*: of kube-proxy's health.
    """

    flannel: bool = False
    local: str | None = None
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


def troubles(request: Request) -> list[Trouble]:
    """What doesn't work from here. Takes little longer than `LIMIT`."""
    return judge(request, look(request))


def look(request: Request) -> Seen:
    """Ask everything at once."""
    seen = Seen(flannel=FLANNEL.exists())
    if seen.flannel:
        seen.local = netlink.vxlan_local(OVERLAY)
        seen.ways = _ways(request.peers) if seen.local is not None else {}
    api, dns = (request.service(1), SERVICE_PORT), (request.service(10), DNS_PORT)
    trust = _trust()
    with contextlib.ExitStack() as opened:
        pool = opened.enter_context(ThreadPoolExecutor(max_workers=128))
        waiting: list[tuple[dict[str, str], str, Future[str]]] = []

        def ask(into: dict[str, str], key: str, question: Ask, kind: int, fd: int | None) -> None:
            try:
                with network(fd):
                    one = opened.enter_context(socket.socket(socket.AF_INET, kind))
            except OSError:  # the pod ended just now
                return
            one.settimeout(LIMIT)
            waiting.append((into, key, pool.submit(_words, question, one)))

        own = (None, seen.overlay, seen.services)
        pod = opened.enter_context(pod_network())
        seen.pod = pod is not None
        for fd, overlay, services in (own, (pod, seen.from_pods, seen.pod_services))[
            : 1 + seen.pod
        ]:
            for name, way in seen.ways.items():
                ask(overlay, name, connects((way, KUBELET_PORT)), socket.SOCK_STREAM, fd)
            ask(services, "api", connects(api), socket.SOCK_STREAM, fd)
            ask(services, "dns", resolves(dns), socket.SOCK_DGRAM, fd)
        for name, address in request.servers.items():
            question = is_ready((address, API_PORT), trust, request.api_name)
            ask(seen.servers, name, question, socket.SOCK_STREAM, None)
        for name, address in request.peers.items():
            ask(seen.nodes, name, connects((address, KUBELET_PORT)), socket.SOCK_STREAM, None)
        proxy: dict[str, str] = {}
        ask(proxy, "", is_healthy(("127.0.0.1", PROXY_PORT)), socket.SOCK_STREAM, None)
        for into, key, answer in waiting:
            into[key] = answer.result()
    seen.proxy = proxy.get("", "")
    return seen


def judge(request: Request, seen: Seen) -> list[Trouble]:
    """What is wrong, in words. Pure."""
    return [*_servers(request, seen), *_overlay(request, seen), *_services(request, seen)]


def _servers(request: Request, seen: Seen) -> Iterator[Trouble]:
    silent = _failed(seen.servers)
    if silent:
        names = [name for name in silent if name != request.name]
        yield Trouble(
            f"The API server of {_told(silent)} does not answer here ({_why(silent)}).",
            "Where it answers others, a firewall there or between drops TCP 6443 from this node."
            if names
            else "`crictl ps -a` and `crictl logs` there tell why.",
            tuple(names),
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
            f"The pod network is not there: flannel has made no interface {OVERLAY}.", f"{logs}."
        )
        return
    if seen.local and seen.local != request.address:
        yield Trouble(
            f"flannel sends from {seen.local}, and the node's address is {request.address}: it "
            "took another network card.",
            "Apply: flannel is told the node's address.",
        )
    unknown = tuple(name for name in request.peers if name not in seen.ways)
    if unknown:
        yield Trouble(
            f"flannel knows no way from here to the pods of {_told(unknown)}, by the addresses of "
            "their nodes.",
            f"Where they are nodes of the cluster, {logs}, or the one of the other node.",
            unknown,
        )
    lost = {name: why for name, why in seen.overlay.items() if not _answered(why)}
    away = {name: why for name, why in lost.items() if not _answered(seen.nodes.get(name, ""))}
    if away:
        yield Trouble(
            f"Neither {_told(away)} nor the pods there can be reached from here ({_why(away)}).",
            "It is off, or a firewall on one of the nodes or between drops what comes in: nodes "
            "need UDP 8472 and TCP 10250 of each other (docs/health.md).",
            tuple(away),
        )
    if near := {name: why for name, why in lost.items() if name not in away}:
        yield Trouble(
            f"Pods here can't reach the pods of {_told(near)} ({_networks(seen, near)}: "
            f"{_why(near)}), though the nodes reach each other.",
            "A firewall on one of the nodes or between drops UDP 8472 (VXLAN) or what comes out of "
            f"{OVERLAY} (docs/health.md), or flannel does not run there.",
            tuple(near),
        )
    cut = {name: why for name, why in _failed(seen.from_pods).items() if name not in lost}
    if cut := {name: why for name, why in cut.items() if not _answered(why)}:
        yield Trouble(
            f"Pods here can't reach the pods of {_told(cut)} ({_networks(seen, cut)}: "
            f"{_why(cut)}), while the node itself can.",
            "Something drops what is forwarded: look at `sysctl net.ipv4.ip_forward` (1) and, for a"
            " chain of the hook forward, at `nft list ruleset`.",
            tuple(cut),
        )


def _services(request: Request, seen: Seen) -> Iterator[Trouble]:
    api, dns = request.service(1), request.service(10)
    alive = not seen.servers or any(not why for why in seen.servers.values())
    told = _proxy(seen.proxy)
    proxy = (
        "`kubectl -n kube-system logs -l k8s-app=kube-proxy --field-selector "
        f"spec.nodeName={request.name}` tells why."
    )
    if seen.services.get("api"):
        if alive:
            yield Trouble(
                f"Services don't work here: that of the API ({api}) does not answer "
                f"({seen.services['api']}), and API servers do. {told}.",
                proxy,
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
                "Something drops what pods send: look at `sysctl net.ipv4.ip_forward` (1) and, for "
                "a chain of the hook forward, at `nft list ruleset`.",
            )
            return


def _proxy(why: str) -> str:
    if why == REFUSED:
        return "kube-proxy does not run"
    if why:
        return f"kube-proxy says that it is not healthy ({why})"
    return (
        "kube-proxy runs, and has programmed nothing, or its rules were removed (nft, a firewall)"
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


def _ways(peers: Mapping[str, str]) -> dict[str, str]:
    """The first address of the pod network of each of *peers* that flannel has made known here."""
    machines = dict(netlink.neighbours(OVERLAY, socket.AF_BRIDGE))
    leads = {
        machines[hardware]: address
        for hardware, address in netlink.neighbours(OVERLAY, socket.AF_INET)
        if hardware in machines
    }
    return {name: leads[address] for name, address in peers.items() if address in leads}


@contextlib.contextmanager
def pod_network() -> Iterator[int | None]:
    """A descriptor of the network of a pod that runs here; None where there is no such pod."""
    names = sorted(NETWORKS.glob(f"{POD_NETWORK}*")) if NETWORKS.is_dir() else []
    for name in names:
        try:
            fd = os.open(name, os.O_RDONLY)
        except OSError:  # it ended just now
            continue
        try:
            yield fd
        finally:
            os.close(fd)
        return
    yield None


@contextlib.contextmanager
def network(fd: int | None) -> Iterator[None]:
    """Sockets that this thread opens meanwhile are in the network of *fd*; None: its own."""
    if fd is None:
        yield
        return
    home = os.open("/proc/thread-self/ns/net", os.O_RDONLY)
    try:
        _enter(fd)
        try:
            yield
        finally:
            _enter(home)
    finally:
        os.close(home)


def _enter(fd: int) -> None:
    """setns(2), which Python has from 3.12 on."""
    library = ctypes.CDLL(None, use_errno=True)
    if library.setns(fd, CLONE_NEWNET):
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))


def _words(question: Ask, one: socket.socket) -> str:
    """How a question ended."""
    try:
        return question(one)
    except TimeoutError:
        return SILENT
    except ConnectionRefusedError:
        return REFUSED
    except ssl.SSLCertVerificationError as error:
        return f"its certificate is not trusted: {error.verify_message}"
    except ssl.SSLError as error:
        return f"TLS failed: {error.reason or error}"
    except (OSError, http.client.HTTPException, struct.error) as error:
        return getattr(error, "strerror", None) or str(error) or repr(error)


def connects(place: tuple[str, int]) -> Ask:
    """Whether a connection comes about."""

    def ask(one: socket.socket) -> str:
        one.connect(place)
        return ""

    return ask


def is_ready(place: tuple[str, int], trust: ssl.SSLContext, name: str) -> Ask:
    """Whether an API server with a certificate for *name* says that it is ready."""

    def ask(one: socket.socket) -> str:
        end = time.monotonic() + LIMIT
        one.connect(place)
        one.settimeout(max(0.0, end - time.monotonic()) or POLL)
        with trust.wrap_socket(one, server_hostname=name) as sealed:
            sealed.settimeout(max(0.0, end - time.monotonic()) or POLL)
            return _status(sealed, "/readyz", name)

    return ask


def is_healthy(place: tuple[str, int]) -> Ask:
    """Whether /healthz answers with success."""

    def ask(one: socket.socket) -> str:
        one.connect(place)
        return _status(one, "/healthz", place[0])

    return ask


def _status(one: socket.socket, path: str, host: str) -> str:
    one.sendall(f"GET {path} HTTP/1.0\r\nHost: {host}\r\n\r\n".encode())
    response = http.client.HTTPResponse(one)
    response.begin()
    return "" if response.status == http.client.OK else f"HTTP status {response.status}"


def resolves(place: tuple[str, int], name: str = NAME) -> Ask:
    """Whether a server of DNS knows an address for *name*, see RFC 1035, section 4."""
    number = os.urandom(2)
    labels = b"".join(bytes([len(one)]) + one.encode() for one in name.split("."))
    question = number + struct.pack("!HHHHH", 0x0100, 1, 0, 0, 0) + labels + b"\0\0\1\0\1"

    def ask(one: socket.socket) -> str:
        one.connect(place)
        one.settimeout(AGAIN)
        for last in (False, False, True):
            one.send(question)
            try:
                answer = one.recv(4096)
            except TimeoutError:
                if last:
                    raise
                continue
            code, count = answer[3] & 15, struct.unpack_from("!H", answer, 6)[0]
            if answer[:2] != number or code or not count:
                return f"it does not know {name} (code {code})"
            return ""
        return SILENT

    return ask


def _trust() -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.load_verify_locations(cafile=str(CA))
    return context
