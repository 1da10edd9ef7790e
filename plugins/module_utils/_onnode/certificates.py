# Copyright: the Kubewright authors
# Apache License 2.0 (see LICENSE or https://www.apache.org/licenses/LICENSE-2.0)
"""Which certificates a node has, and when they end. Reads only.

This very file also lies on each node, outside the image. So it needs nothing but Python's standard
library, which can't tell a certificate's dates: they are read out of its DER here. A dozen files
cost a few milliseconds; `kubeadm certs check-expiration` costs a hundred times as much, knows
control planes alone, and lies in an image that may not be mounted.

Where they lie: kubeadm's phases/certs/certlist.go and phases/kubeconfig; the kubelet's
pkg/kubelet/certificate. The form: RFC 5280, 4.1.
"""

from __future__ import annotations

import base64
import re
import ssl
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any

KUBERNETES = Path("/etc/kubernetes")
KUBELET = Path("/var/lib/kubelet/pki")
# There from before kubeadm's certificates are exchanged until all run with the new ones.
RENEWAL = Path("/var/lib/kubewright/renewal.json")

# Whose they are. kubeadm made them, and renews them.
OF_KUBEADM = {
    "pki/apiserver.crt": "the API server",
    "pki/apiserver-kubelet-client.crt": "the API server as the kubelets' client",
    "pki/apiserver-etcd-client.crt": "the API server as etcd's client",
    "pki/front-proxy-client.crt": "the API server as its extensions' client",
    "pki/etcd/server.crt": "etcd",
    "pki/etcd/peer.crt": "etcd among its members",
    "pki/etcd/healthcheck-client.crt": "etcd's health check",
    "admin.conf": "this node's administrator",
    "super-admin.conf": "this node's super-administrator",
    "controller-manager.conf": "the controller manager",
    "scheduler.conf": "the scheduler",
}
# The kubelet renews the first by itself; the second, which it signs itself, never.
KUBELET_CLIENT = "kubelet-client-current.pem"
KUBELET_SERVER = "kubelet.crt"
# Without these no API server answers, whatever else is well.
TO_SERVE = (
    "pki/apiserver.crt",
    "pki/apiserver-etcd-client.crt",
    "pki/etcd/server.crt",
    "pki/etcd/peer.crt",
)

# A person should have a month. Of a short-lived one a tenth has to be left: the kubelet renews its
# own when 70 to 90 % have passed (client-go's certificate_manager.go).
SOON = timedelta(days=30)
LAST_PART = 10
NAMED = 3

_PEM = re.compile("-----BEGIN CERTIFICATE-----(.+?)-----END CERTIFICATE-----", re.DOTALL)
_EMBEDDED = re.compile(r"^\s*client-certificate-data:\s*(\S+)\s*$", re.MULTILINE)
_SEQUENCE, _VERSION, _UTC_TIME, _GENERAL_TIME = 0x30, 0xA0, 0x17, 0x18
_DAMAGED = "it contains a damaged certificate"


@dataclass(frozen=True)
class Certificate:
    """The one that is *holder*'s. *name*: as above.

    *begins*, *ends*: its validity, None where it can't be used, and *wrong* says why then.
    """

    name: str
    path: Path
    holder: str
    begins: datetime | None = None
    ends: datetime | None = None
    wrong: str = ""

    def over(self, now: datetime) -> bool:
        """Whether nobody accepts it any more."""
        return self.ends is None or self.ends <= now

    def due(self, now: datetime) -> bool:
        """Whether it has to be renewed: it is over, or will be soon."""
        if self.ends is None or self.begins is None:
            return True
        return self.ends - now < min(SOON, (self.ends - self.begins) / LAST_PART)

    def state(self, now: datetime, plural: bool = False) -> str:
        """What it is, such as "expired on 2026-11-01". *plural*: said of several."""
        if self.ends is None:
            return self.wrong
        day = self.ends.date().isoformat()
        if self.over(now):
            return f"expired on {day}"
        days = (self.ends - now).days
        return f"expire{'' if plural else 's'} in {days} day{'' if days == 1 else 's'} ({day})"

    def as_dict(self, now: datetime) -> dict[str, Any]:
        """It as plain data, with a sentence."""
        return {
            "file": str(self.path),
            "holder": self.holder,
            "ends": self.ends.isoformat() if self.ends else None,
            "due": self.due(now),
            "over": self.over(now),
            "text": f"the certificate of {self.holder} ({self.path}) {self.state(now)}",
        }


def of_node(kubernetes: Path = KUBERNETES, kubelet: Path = KUBELET) -> list[Certificate]:
    """All certificates of a node that has joined a cluster, but for the CAs'.

    What kubeadm did not make there is left out; a kubelet has a client's certificate.
    """
    made = [name for name in OF_KUBEADM if (kubernetes / name).exists()]
    found = [_read(name, kubernetes / name, OF_KUBEADM[name]) for name in made]
    found.append(_read(KUBELET_CLIENT, kubelet / KUBELET_CLIENT, "the kubelet"))
    if (kubelet / KUBELET_SERVER).exists():
        found.append(_read(KUBELET_SERVER, kubelet / KUBELET_SERVER, "the kubelet as a server"))
    return found


def due(found: Iterable[Certificate], now: datetime, *names: str) -> list[Certificate]:
    """Those of *found* that have to be renewed; with *names*, of these alone."""
    return [one for one in found if one.due(now) and (not names or one.name in names)]


def over(found: Iterable[Certificate], now: datetime, *names: str) -> bool:
    """Whether one of *names* is in *found* and nobody accepts it any more."""
    return any(one.name in names and one.over(now) for one in found)


def reasons(found: Iterable[Certificate], now: datetime, record: Path = RENEWAL) -> list[str]:
    """What has to be renewed and what that means, in words; what is alike in one sentence.

    *record*: of a renewal, where one was cut.
    """
    groups: dict[tuple[bool, str], list[Certificate]] = {}
    for one in due(found, now):
        groups.setdefault((one.name in OF_KUBEADM, one.state(now)), []).append(one)
    told = [_sentence(group, now, kubeadms) for (kubeadms, _), group in groups.items()]
    if record.exists():
        told.append("the renewal of its certificates was interrupted, and will be finished")
    return told


def summary(found: Sequence[Certificate], now: datetime, record: Path = RENEWAL) -> dict[str, Any]:
    """*found* as plain data.

    `due`: some have to be renewed, or a renewal was cut. `serves`: with these an API server and the
    kubelet that starts it can run.
    """
    return {
        "due": bool(due(found, now)) or record.exists(),
        "serves": not over(found, now, *TO_SERVE, KUBELET_CLIENT),
        "list": [one.as_dict(now) for one in found],
    }


def report(now: datetime, root: Path = Path("/")) -> list[dict[str, Any]]:
    """What a person has to know of a node's certificates: those that have to be renewed.

    *root*: where its files lie. Empty where the node has not joined a cluster.
    """
    kubernetes, kubelet = (root / str(path).lstrip("/") for path in (KUBERNETES, KUBELET))
    found = of_node(kubernetes, kubelet) if kubelet.is_dir() else []
    return [one.as_dict(now) for one in due(found, now)]


def validity(pem: str) -> tuple[datetime, datetime]:
    """Beginning and end of the first certificate in *pem*; `ValueError` where there is none."""
    match = _PEM.search(pem)
    if match is None:
        raise ValueError("it contains no certificate")
    try:
        (certificate,) = _elements(base64.b64decode("".join(match[1].split()), validate=True))
        signed = next(_elements(_content(certificate, _SEQUENCE)))
        # The version is left out of one of version 1: serial number, algorithm, issuer, validity.
        fields = [one for one in _elements(_content(signed, _SEQUENCE)) if one[0] != _VERSION]
        begins, ends = _elements(_content(fields[3], _SEQUENCE))
        return _time(begins), _time(ends)
    except (ValueError, IndexError, StopIteration) as error:
        raise ValueError(_DAMAGED) from error


def _read(name: str, path: Path, holder: str) -> Certificate:
    try:
        text = path.read_text("utf-8", "replace")
        begins, ends = validity(_embedded(text) if path.suffix == ".conf" else text)
    except FileNotFoundError:
        return Certificate(name, path, holder, wrong="is missing")
    except OSError as error:
        return Certificate(name, path, holder, wrong=f"can't be read: {error.strerror}")
    except ValueError as error:
        return Certificate(name, path, holder, wrong=f"can't be used: {error}")
    if path.suffix == ".crt" and not _belongs(path, path.with_suffix(".key")):
        return Certificate(name, path, holder, wrong="can't be used: its key does not match")
    return Certificate(name, path, holder, begins, ends)


def _embedded(text: str) -> str:
    """The client certificate in a kubeconfig, PEM; "" where it has none."""
    match = _EMBEDDED.search(text)
    return base64.b64decode(match[1], validate=True).decode("utf-8", "replace") if match else ""


def _belongs(certificate: Path, key: Path) -> bool:
    try:
        ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT).load_cert_chain(str(certificate), str(key))
    except OSError:  # ssl.SSLError is one
        return False
    return True


def _sentence(group: Sequence[Certificate], now: datetime, kubeadms: bool) -> str:
    several = len(group) > 1
    named = ", ".join(f"{one.holder} ({one.path})" for one in group[:NAMED])
    more = f" and {len(group) - NAMED} more" if len(group) > NAMED else ""
    then = (
        "apply renews all certificates on this node, then restarts API server, controller "
        "manager and scheduler, one control plane at a time"
        if kubeadms
        else "apply gets the kubelet a new one and restarts it; pods keep running"
    )
    state = group[0].state(now, several)
    return f"the certificate{'s' if several else ''} of {named}{more} {state}: {then}"


def _elements(data: bytes) -> Iterator[tuple[int, bytes]]:
    """Tag and content of each DER element in *data*."""
    at = 0
    while at < len(data):
        tag, length, at = data[at], data[at + 1], at + 2
        if length & 0x80:  # the length itself has so many bytes
            size = length & 0x7F
            length, at = int.from_bytes(data[at : at + size], "big"), at + size
        if at + length > len(data):
            raise ValueError(_DAMAGED)
        yield tag, data[at : at + length]
        at += length


def _content(element: tuple[int, bytes], tag: int) -> bytes:
    if element[0] != tag:
        raise ValueError(_DAMAGED)
    return element[1]


def _time(element: tuple[int, bytes]) -> datetime:
    tag, content = element
    text = content.decode("ascii")
    if tag == _UTC_TIME:  # of two digits; RFC 5280, 4.1.2.5.1
        text = f"{'19' if text[:2] >= '50' else '20'}{text}"
    elif tag != _GENERAL_TIME:
        raise ValueError(_DAMAGED)
    return datetime.strptime(text, "%Y%m%d%H%M%SZ").replace(tzinfo=timezone.utc)
