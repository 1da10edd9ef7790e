# SPDX-License-Identifier: Apache-2.0
"""When certificates in the cluster's state end: the administrator's, and those of the CAs.

What lies on nodes is told by the nodes, see :mod:`kubewright.observe.reports`.
"""

from __future__ import annotations

import base64
from datetime import datetime, timedelta
from pathlib import Path

from cryptography import x509

from kubewright.locations import ClusterPaths
from kubewright.observe.credentials import CredentialsError, read_kubeconfig
from kubewright.observe.model import Finding

SECTION = "certificates"
#: The collection's module kubeconfig renews the administrator's from then on.
SOON = timedelta(days=30)
#: Another cluster has to be made until then, and all that runs moved there.
CA_SOON = timedelta(days=365)
#: By their names below the state's pki.
AUTHORITIES = {"ca": "the CA", "etcd/ca": "etcd's CA", "front-proxy-ca": "the front proxy's CA"}


def of_state(paths: ClusterPaths, now: datetime) -> tuple[Finding, ...]:
    """Return what has to be said of certificates that end. Files that can't be used say nothing."""
    own = (_authority(paths.pki / f"{name}.crt", whose, now) for name, whose in AUTHORITIES.items())
    return tuple(found for found in (_administrator(paths.kubeconfig, now), *own) if found)


def administrator_ends(kubeconfig: Path) -> datetime | None:
    """Return until when the administrator's certificate is valid; None where it can't be read."""
    try:
        user = read_kubeconfig(kubeconfig)["users"][0]["user"]
        return _ends(base64.b64decode(user["client-certificate-data"]))
    except (CredentialsError, KeyError, ValueError, TypeError):
        return None


def _administrator(path: Path, now: datetime) -> Finding | None:
    ends = administrator_ends(path)
    if ends is None or ends - now > SOON:
        return None
    text = f"the administrator's certificate in {path} {_when(ends, now)}."
    remedy = "Run 'kubewright apply' to renew it, then 'kubewright kubeconfig' to print it."
    return Finding(SECTION, text, remedy, warning=ends > now)


def _authority(path: Path, whose: str, now: datetime) -> Finding | None:
    try:
        ends = _ends(path.read_bytes())
    except (OSError, ValueError):
        return None
    if ends - now > CA_SOON:
        return None
    text = f"{whose} ({path}) {_when(ends, now)}."
    remedy = "Kubewright can't replace a CA yet: move to a new cluster before it expires."
    return Finding(SECTION, text, remedy, warning=ends > now)


def _ends(pem: bytes) -> datetime:
    return x509.load_pem_x509_certificate(pem).not_valid_after_utc


def _when(ends: datetime, now: datetime) -> str:
    day = ends.date().isoformat()
    if ends <= now:
        return f"expired on {day}"
    days = (ends - now).days
    return f"expires in {days} day{'' if days == 1 else 's'} ({day})"
