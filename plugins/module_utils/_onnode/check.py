# Copyright: the Kubewright authors
# Apache License 2.0 (see LICENSE or https://www.apache.org/licenses/LICENSE-2.0)
"""Whether traffic flows through a node, as the node itself sees it.

Like `guard`, this very file also lies on each node, where `report` runs it for ``status``; the
probe and the end of an apply run it as part of their modules. So all of them say the same.

A node that works reaches every API server, the pod network of every other node, and by way of
kube-proxy the Services of the API and of DNS; and so do its pods, in whose network sockets are
opened as well. Nothing is written and nothing is left behind: each question is one connection or
one packet to what every cluster has.

Of many nodes not everyone asks everyone, see `sample` of `traffic`, which also has the words.
"""

from __future__ import annotations

import contextlib
import ctypes
import http.client
import os
import socket
import ssl
import struct
import time
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path

try:
    from ansible_collections.kubewright.cluster.plugins.module_utils._onnode import (
        flannel,
        netlink,
        traffic,
    )
except ImportError:  # alone on a node
    import flannel  # type: ignore[import-not-found,no-redef]
    import netlink  # type: ignore[import-not-found,no-redef]
    import traffic  # type: ignore[import-not-found,no-redef]

#: Where the container runtime keeps the networks of its pods.
NETWORKS = Path("/run/netns")
POD_NETWORK = "cni-"
CA = Path("/etc/kubernetes/pki/ca.crt")
FLANNEL = Path("/etc/cni/net.d/10-flannel.conflist")
API_PORT, KUBELET_PORT, SERVICE_PORT, DNS_PORT, PROXY_PORT = 6443, 10250, 443, 53, 10256
#: Seconds for each question, all of which are asked at once: a packet that was lost is sent again
#: after one second.
LIMIT = 2.0
#: What is left at least of that for the next step of a question, lest it be endless.
POLL = 0.01
#: A datagram is sent again after so long.
AGAIN = 0.7
#: A pod's Service by name, whichever domain the cluster has: it is that of all clusters of ours.
NAME = "kubernetes.default.svc.cluster.local"
CLONE_NEWNET = 0x40000000
SILENT = f"no answer within {LIMIT:g} s"

Ask = Callable[[socket.socket], str]


def troubles(request: traffic.Request) -> list[traffic.Trouble]:
    """What doesn't work from here. Takes little longer than `LIMIT`."""
    return traffic.judge(request, look(request))


def look(request: traffic.Request) -> traffic.Seen:
    """Ask everything at once."""
    seen = traffic.Seen(flannel=FLANNEL.exists())
    if seen.flannel:
        seen.local = netlink.vxlan_local(traffic.OVERLAY)
        seen.ways = _ways(request.peers) if seen.local is not None else {}
        seen.networks = flannel.announced()
        seen.strangers = flannel.strangers(seen.networks) if seen.networks else []
    api, dns = (request.service(1), SERVICE_PORT), (request.service(10), DNS_PORT)
    trust = _trust()
    with contextlib.ExitStack() as opened:
        pool = opened.enter_context(ThreadPoolExecutor(max_workers=128))
        masquerades = pool.submit(flannel.masquerades) if seen.networks else None
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
        pod = opened.enter_context(pod_network(api))
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
        if masquerades:
            seen.masquerades = masquerades.result()
    seen.proxy = proxy.get("", "")
    return seen


def _ways(peers: Mapping[str, str]) -> dict[str, str]:
    """The first address of the pod network of each of *peers* that flannel has made known here."""
    machines = dict(netlink.neighbours(traffic.OVERLAY, socket.AF_BRIDGE))
    leads = {
        machines[hardware]: address
        for hardware, address in netlink.neighbours(traffic.OVERLAY, socket.AF_INET)
        if hardware in machines
    }
    return {name: leads[address] for name, address in peers.items() if address in leads}


@contextlib.contextmanager
def pod_network(place: tuple[str, int]) -> Iterator[int | None]:
    """A descriptor of the network of a pod that runs here; None where there is no such pod.

    Of a pod that starts or ends, or has left its network behind, no route leads to *place*.
    """
    names = sorted(NETWORKS.glob(f"{POD_NETWORK}*")) if NETWORKS.is_dir() else []
    for name in names:
        try:
            fd = os.open(name, os.O_RDONLY)
        except OSError:  # it ended just now
            continue
        try:
            if _has_route(fd, place):
                yield fd
                return
        finally:
            os.close(fd)
    yield None


def _has_route(fd: int, place: tuple[str, int]) -> bool:
    try:
        with network(fd), socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as one:
            one.connect(place)  # sends nothing
    except OSError:
        return False
    return True


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
        return traffic.REFUSED
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
                return f"it can't resolve {name} (code {code})"
            return ""
        return SILENT

    return ask


def _trust() -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.load_verify_locations(cafile=str(CA))
    return context
