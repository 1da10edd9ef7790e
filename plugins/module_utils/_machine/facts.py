# Copyright: the Kubewright authors
# Apache License 2.0 (see LICENSE or https://www.apache.org/licenses/LICENSE-2.0)
"""What a machine is. Reads only."""

from __future__ import annotations

import hashlib
import os
import platform
import socket
from pathlib import Path
from typing import Any

from ansible_collections.kubewright.cluster.plugins.module_utils._machine import links
from ansible_collections.kubewright.cluster.plugins.module_utils._onnode import guard


def machine_facts(root: Path = Path("/"), address: str | None = None) -> dict[str, Any]:
    """What preflight and the roles decide on: architecture, cgroup version, memory in bytes, ...

    *address*: the node's own; of the interface that holds it, name and MTU are told (else "", 0).
    """
    addresses = links.addresses()
    interface = addresses.get(links.canonical(address or ""), "")
    swaps = (root / "proc/swaps").read_text().splitlines()[1:]
    memory = next(
        int(line.split()[1]) * 1024
        for line in (root / "proc/meminfo").read_text().splitlines()
        if line.startswith("MemTotal:")
    )
    return {
        "addresses": addresses,
        "architecture": platform.machine(),
        "boot_id": (root / "proc/sys/kernel/random/boot_id").read_text().strip(),
        "cgroup": 2 if (root / "sys/fs/cgroup/cgroup.controllers").exists() else 1,
        "cpus": len(os.sched_getaffinity(0)),
        "hostname": socket.gethostname(),
        "interface": interface,
        "kernel": platform.release(),
        "machine_id": machine_id(root),
        "memory": memory,
        "mtu": links.mtu(interface, root) if interface else 0,
        "python": platform.python_version(),
        "root": os.geteuid() == 0,
        "swap": [line.split()[0] for line in swaps],
        "systemd": (root / "run/systemd/system").is_dir(),
    }


def boot(root: Path = Path("/")) -> str:
    """What this boot has and no other: the kernel's id of it, and when the first process started.

    A container that is started again keeps the first of the two, which is its host's. The second is
    the 22nd field of its stat, in ticks, see proc_pid_stat(5); the name before may hold anything.
    """
    kernel = (root / "proc/sys/kernel/random/boot_id").read_text("ascii").strip()
    stat = (root / "proc/1/stat").read_text("utf-8", "replace")
    return f"{kernel} {stat.rpartition(')')[2].split()[19]}"


def machine_id(root: Path = Path("/")) -> str:
    """A hash of /etc/machine-id, which is for the machine alone; "" where it has none.

    See machine-id(5): it is confidential, and "uninitialized" until the first boot.
    """
    try:
        text = (root / "etc/machine-id").read_text("ascii", errors="replace").strip()
    except OSError:
        text = ""
    if text in ("", "uninitialized"):
        return ""
    return hashlib.sha256(f"kubewright {text}".encode()).hexdigest()[:32]


def loop_file(mount_point: Path) -> str | None:
    """Name of the file behind the loop device mounted at *mount_point*; None for nothing."""
    if not os.path.ismount(mount_point):
        return None
    backing = guard.loop_file(mount_point.stat().st_dev)
    return backing.name if backing else None
