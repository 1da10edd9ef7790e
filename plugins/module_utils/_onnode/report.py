# Copyright: the Kubewright authors
# Apache License 2.0 (see LICENSE or https://www.apache.org/licenses/LICENSE-2.0)
"""All that a node says of itself, in one answer.

Like `guard`, this very file also lies on each node, where ``status`` runs it over SSH: one
connection a node, however many sections there are::

    report.py    read a request (JSON) from standard input, and print the findings (JSON)

The request has what the node doesn't know of the cluster: the fields of `traffic.Request`, as
``traffic``; without it traffic isn't looked at. The answer is a list by section, of findings with
``text``, ``remedy``, ``about`` (other nodes that it is about) and, where all works still,
``warning``. A section that could not be looked at has one finding that says so.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Mapping
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

try:
    from ansible_collections.kubewright.cluster.plugins.module_utils._onnode import (
        certificates as expiry,
    )
    from ansible_collections.kubewright.cluster.plugins.module_utils._onnode import (
        check,
        daemons,
        guard,
        kubelet_died,
    )
    from ansible_collections.kubewright.cluster.plugins.module_utils._onnode.traffic import Request
except ImportError:  # alone on a node
    import certificates as expiry  # type: ignore[import-not-found,no-redef]
    import check  # type: ignore[import-not-found,no-redef]
    import daemons  # type: ignore[import-not-found,no-redef]
    import guard  # type: ignore[import-not-found,no-redef]
    import kubelet_died  # type: ignore[import-not-found,no-redef]
    from traffic import Request  # type: ignore[import-not-found,no-redef]

Finding = dict[str, Any]
JOINED = Path("/var/lib/kubelet/config.yaml")


def volume(request: Mapping[str, Any]) -> list[Finding]:
    """The system volume and the image on it."""
    return [finding(text) for text in guard.report(guard.MOUNT_POINT)]


def runtime(request: Mapping[str, Any]) -> list[Finding]:
    """A container runtime that stands still: containers run on, and none starts or ends."""
    trouble = daemons.containerd() if JOINED.exists() else ""
    remedy = (
        "Run 'systemctl restart containerd' there; pods keep running. `journalctl -u containerd` "
        "shows why."
    )
    return [finding(f"{trouble}: no pod starts or stops here.", remedy)] if trouble else []


def kubelet(request: Mapping[str, Any]) -> list[Finding]:
    """A kubelet that dies again and again, or does not answer: its Node stays Ready for a while."""
    if not JOINED.exists():
        return []
    died = kubelet_died.look()
    if not died:
        trouble = daemons.kubelet()
        remedy = "`journalctl -u kubelet` there shows why; 'systemctl restart kubelet' starts it."
        return [finding(f"{_capital(trouble)}.", remedy)] if trouble else []
    remedy = "Correct that setting; 'kubewright apply' restarts it and checks that it stays up."
    certificates = expiry.report(datetime.now(timezone.utc))
    if any(one["over"] and one["file"].endswith(expiry.KUBELET_CLIENT) for one in certificates):
        # What it names then is where it would get another one.
        remedy = "Its certificate has expired: 'kubewright apply' renews it."
    return [finding(f"{died}.", remedy)]


def traffic(request: Mapping[str, Any]) -> list[Finding]:
    """Whether traffic flows through this node."""
    asked = request.get("traffic")
    if not asked or not JOINED.exists():
        return []
    return [one.as_dict() for one in check.troubles(Request(**asked))]


def certificates(request: Mapping[str, Any]) -> list[Finding]:
    """This node's certificates that have ended, or end soon."""
    due = expiry.report(datetime.now(timezone.utc))
    remedy = "'kubewright apply' renews it."
    return [{**finding(f"{one['text']}.", remedy), "warning": not one["over"]} for one in due]


SECTIONS: dict[str, Callable[[Mapping[str, Any]], list[Finding]]] = {
    "volume": volume,
    "runtime": runtime,
    "kubelet": kubelet,
    "traffic": traffic,
    "certificates": certificates,
}


def _capital(text: str) -> str:
    return text[:1].upper() + text[1:]


def finding(text: str, remedy: str = "") -> Finding:
    """One of this node alone."""
    return {"text": text, "remedy": remedy, "about": []}


def report(request: Mapping[str, Any]) -> dict[str, list[Finding]]:
    """What each section finds. One that fails hides no other."""
    found = {}
    for name, look in SECTIONS.items():
        try:
            found[name] = look(request)
        except (OSError, ValueError) as error:
            found[name] = [finding(f"This could not be checked: {error}.")]
    return found


def main() -> int:
    """Answer the request on standard input."""
    text = sys.stdin.read()
    print(json.dumps(report(json.loads(text) if text.strip() else {})))
    return 0


if __name__ == "__main__":
    sys.exit(main())
