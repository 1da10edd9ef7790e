# Copyright: the Kubewright authors
# Apache License 2.0 (see LICENSE or https://www.apache.org/licenses/LICENSE-2.0)
"""How long a module may work on a node, and its end when it hangs.

A file system that does not answer (a server of NFS that is gone, a broken disk) keeps whoever asks
it for ever, and with it the node's lock. So each module has a limit of its own, from when it has
the lock, well above those of the commands that it runs: who passes it hangs. The module then ends
itself. Where not even that is possible, the controller waits no longer either (`on_controller`).

To wait for the lock is not to hang. So that the controller sees the difference, a module waits for
`LOCK_TURN` at most, says who has the lock, and is called again until ``lock_timeout`` is over.
"""

from __future__ import annotations

import contextlib
import json
import os
import shlex
import subprocess
import sys
import threading
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

# Seconds, of modules that are not named below.
WORK = 300
# Beside what they are told to wait for. Who only looks takes a second, on a busy machine ten.
MODULES = {
    "certificates": 600,
    "cluster_ready": 60,
    "control_plane_restart": 900,
    "etcd_info": 60,
    "kubeadm": 300,
    "node_reset": 900,
    "node_state": 60,
    "node_traffic": 60,
    "node_up": 60,
    # Of 700 MB each byte is written, read and hashed.
    "system_image": 1800,
    "system_image_info": 120,
}
# The same of the sections of a role's document, each of which has a limit of its own.
SECTIONS = {
    "image": MODULES["system_image"],
    # Started, watched, put back and watched again.
    "kubelet": 900,
    "units": 900,
    # Making and checking a file system of 20 GB.
    "volume": 2400,
}
# What a module waits where it is not told; as its ``timeout`` says.
TIMEOUTS = {
    "certificates": 120,
    "cluster_objects": 60,
    "cluster_ready": 180,
    "control_plane_restart": 300,
    "join_credentials": 60,
    "kubeadm": 580,
    "node_traffic": 60,
    "node_up": 300,
}
# Of one image that is imported, of one call of systemctl, and so on.
SECTION_TIMEOUTS = {"container_images": 300, "kubelet": 120, "node": 120, "units": 180}
# These take no lock.
LOCKLESS = ("cluster_ready", "etcd_info", "node_traffic", "node_up")
# An image that the node fetches. What has come is kept.
FETCH = 7200
LOCK_TIMEOUT = 600
LOCK_TURN = 15
# For the way there and back, and for a module that is about to end itself.
MARGIN = 30
# Characters of a command that is named.
SHOWN = 100


def work(module: str, params: Mapping[str, Any]) -> float:
    """Seconds that a module may work, once it has the lock."""
    if module == "node_parts":
        documents: Mapping[str, Mapping[str, Any]] = params.get("documents") or {}
        own = (of_section(section, one) for one in documents.values() for section in one)
        return WORK + sum(own)
    timeout = params.get("timeout")
    waits = float(TIMEOUTS.get(module, 0) if timeout is None else timeout)
    if module == "join_credentials":
        waits *= max(1, len(params.get("nodes") or params.get("token_ids") or ()))
    waits += float(params.get("wait_for_api") or 0)
    return MODULES.get(module, WORK) + waits + (FETCH if params.get("url") else 0)


def of_section(section: str, document: Mapping[str, Any]) -> float:
    """Seconds that one section of a role's document may take to be made."""
    fetched = section == "image" and document[section].get("url")
    waits = SECTION_TIMEOUTS.get(section, 0) + (FETCH if fetched else 0)
    return SECTIONS.get(section, WORK) + waits


def on_controller(module: str, params: Mapping[str, Any]) -> float:
    """Seconds after which nobody waits for one call of a module any more."""
    lock = 0.0 if module in LOCKLESS else min(lock_timeout(params), LOCK_TURN)
    return lock + work(module, params) + MARGIN


def lock_timeout(params: Mapping[str, Any]) -> float:
    """Seconds that a module's calls wait for the lock, all together."""
    told = params.get("lock_timeout")
    return float(LOCK_TIMEOUT if told is None else told)


@contextlib.contextmanager
def ends_within(seconds: float) -> Iterator[None]:
    """End this process where the body takes longer, with a module's result that says so."""
    timer = threading.Timer(seconds, _end, (seconds, threading.get_ident()))
    timer.daemon = True
    timer.start()
    try:
        yield
    finally:
        timer.cancel()


def hung(seconds: float, where: str = "") -> str:
    """What is said of a machine on which a task does not end."""
    place = f": it hangs at {where}" if where else ""
    return f"This machine did not answer within {seconds:g} s{place}"


def _end(seconds: float, thread: int) -> None:
    result = {"failed": True, "hung": True, "changed": False, "msg": hung(seconds, _where(thread))}
    os.write(1, json.dumps(result).encode() + b"\n")
    # A signal would be for a thread that takes none; this ends all that the kernel lets end.
    os._exit(1)


def _where(thread: int) -> str:
    """What a thread is busy with, as far as it is a command or a path: the innermost one."""
    frame = sys._current_frames().get(thread)
    while frame is not None:
        for value in frame.f_locals.values():
            if isinstance(value, subprocess.Popen) and isinstance(value.args, list):
                return f"`{shlex.join(value.args)[:SHOWN]}`"
            if isinstance(value, Path):
                return str(value)
        frame = frame.f_back
    return ""
