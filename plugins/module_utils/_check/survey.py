# Copyright: the Kubewright authors
# Apache License 2.0 (see LICENSE or https://www.apache.org/licenses/LICENSE-2.0)
"""The facts that preflight judges a new machine by. Reads only."""

from __future__ import annotations

import ipaddress
import os
import stat
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ansible_collections.kubewright.cluster.plugins.module_utils._base import commands
from ansible_collections.kubewright.cluster.plugins.module_utils._machine import (
    kernel,
    leftovers,
    processes,
)
from ansible_collections.kubewright.cluster.plugins.module_utils._volume import plan

# A volume that is not set aside takes what is written to it: at first a system image.
SPARSE_BYTES = 1_000_000_000
# The kubelet gives its DNS servers to pods that have no other, as CoreDNS is one.
RESOLV_CONF = "/etc/resolv.conf"
# Where systemd-resolved runs, kubeadm has the kubelet read this: componentconfigs/kubelet_unix.go.
RESOLVED_CONF = "/run/systemd/resolve/resolv.conf"
RESOLVED_ACTIVE = ("systemctl", "is-active", "--quiet", "systemd-resolved.service")


def survey(
    desired: Mapping[str, Any], machine: Mapping[str, Any], root: Path = Path("/")
) -> dict[str, Any]:
    """Facts of a machine that is to become what *desired* (``preflight_desired``) says.

    *machine*: what `_machine.facts.machine_facts` says of it. Gives ``prepared``, ``listeners``,
    ``modules`` (those that are missing), ``disks``, ``volume`` (what speaks against its place),
    ``resolver`` and ``leftovers``.
    """
    ports = [int(port) for port in desired.get("ports") or ()]
    return {
        "prepared": leftovers.is_prepared(root),
        "listeners": [
            {"port": port, "process": str(process or "an unknown process")}
            for port, process in processes.listeners(ports, root).items()
            if process is None or not processes.is_ours(process, root)
        ],
        "modules": kernel.missing_modules(
            desired.get("kernel_modules") or (), root, machine["kernel"]
        ),
        "disks": disks(desired, root),
        "volume": refused_volume(desired.get("volume"), root),
        "resolver": resolver(
            desired.get("resolv_conf") or "", machine, commands.SystemRunner(), root
        ),
        "leftovers": leftovers.leftovers(root, desired.get("ca_certificate") or ""),
    }


def disks(desired: Mapping[str, Any], root: Path) -> list[dict[str, Any]]:
    """Each file system that something is to lie on, with what is free there, in bytes.

    ``volume``: what the system volume still takes there; ``room``: what others want beside it.
    """
    found: dict[int, dict[str, Any]] = {}

    def place(path: str) -> dict[str, Any]:
        there = _existing(root / path.lstrip("/"))
        device = there.stat().st_dev
        if device not in found:
            status = os.statvfs(there)
            found[device] = {
                "mount": _mount_point(there, root),
                "free": status.f_bavail * status.f_frsize,
                "volume": {},
                "room": {},
            }
        return found[device]

    volume = desired.get("volume") or {}
    if volume and volume["type"] == "local":
        place(volume["path"])["volume"][volume["path"]] = _missing_bytes(volume, root)
    for path, size in (desired.get("room") or {}).items():
        place(path)["room"][path] = int(size)
    return list(found.values())


def refused_volume(volume: Mapping[str, Any] | None, root: Path) -> dict[str, str]:
    """Why the system volume can't be where it is wanted: ``text``, ``remedy``; empty if it can."""
    if volume:
        try:
            plan.steps(plan.parse(volume, root), commands.SystemRunner())
        except plan.Refused as error:
            return {"text": error.text, "remedy": error.remedy}
    return {}


def resolver(
    told: str, machine: Mapping[str, Any], run: commands.Runner, root: Path
) -> dict[str, Any]:
    """Where the kubelet will read DNS servers (``file``), and which of them are on ``loopback``.

    *told*: the file that its configuration names, if it does. ``missing``: whether there is none;
    ``empty``: whether it names no server.
    """
    file = told
    if not file:
        resolved = machine["systemd"] and run(list(RESOLVED_ACTIVE)).rc == 0
        file = RESOLVED_CONF if resolved else RESOLV_CONF
    try:
        text = (root / file.lstrip("/")).read_text("utf-8", errors="replace")
    except OSError:
        return {"file": file, "missing": True, "empty": False, "loopback": []}
    servers = [
        words[1]
        for line in text.splitlines()
        if len(words := line.split()) > 1 and words[0] == "nameserver"
    ]
    loopback = [one for one in servers if _loops(one)]
    return {"file": file, "missing": False, "empty": not servers, "loopback": loopback}


def _loops(server: str) -> bool:
    try:
        address = ipaddress.ip_address(server.partition("%")[0])
    except ValueError:
        return False
    # 0.0.0.0 is this host, resolv.conf(5).
    return address.is_loopback or address.is_unspecified


def _missing_bytes(volume: Mapping[str, Any], root: Path) -> int:
    try:
        status = (root / str(volume["path"]).lstrip("/")).stat()
    except OSError:
        status = None
    there = status.st_blocks * 512 if status and stat.S_ISREG(status.st_mode) else 0
    if volume.get("sparse"):
        return max(0, SPARSE_BYTES - there)
    return max(0, int(volume["size_bytes"]) - there)


def _existing(path: Path) -> Path:
    while not path.exists():
        path = path.parent
    return path


def _mount_point(path: Path, root: Path) -> str:
    device = path.stat().st_dev
    while path != root and path.parent.stat().st_dev == device:
        path = path.parent
    return f"/{path.relative_to(root)}".replace("/.", "/")
