# SPDX-License-Identifier: Apache-2.0
"""What a podman that was killed half-way leaves behind, and how it is cleared away.

Podman writes down late what it has done: a kill in between leaves processes, mounts and network
namespaces that it knows nothing of, and that make it fail later. Everything here is found by a
container's id or by being in nobody's use, so that other containers of the host stay untouched.
"""

from __future__ import annotations

import json
import os
import select
import signal
import subprocess
from collections.abc import Collection, Iterator
from pathlib import Path

PROC = Path("/proc")
RUNC = Path("/run/runc")
EXITS = Path("/run/libpod/exits")
NAMESPACES = Path("/run/netns")
PODMAN_NAMESPACE = "netns-*"


def processes() -> Iterator[tuple[int, list[str]]]:
    """Process id and command line of every process that has one."""
    for entry in PROC.iterdir():
        if entry.name.isdigit():
            try:
                command = (entry / "cmdline").read_bytes().decode(errors="replace")
            except (FileNotFoundError, ProcessLookupError):
                continue
            if command:
                yield int(entry.name), command.rstrip("\0").split("\0")


def living() -> set[str]:
    """The ids of containers whose first process is there, or whose monitor will tell of its end.

    Podman believes that a container runs until its monitor (conmon) writes down how it ended.
    """
    listed = subprocess.run(
        ["runc", "list", "--format=json"], check=True, capture_output=True, text=True
    )
    known = json.loads(listed.stdout) or []
    running = {str(entry["id"]) for entry in known if entry["status"] != "stopped"}
    return running | {word for command in _monitors() for word in command}


def tell_ended(container: str) -> None:
    """Write down for podman, as its monitor would have done, that a container has ended.

    Podman takes it for killed then, and lets it be started or removed. See conmon(8), --exit-dir;
    podman's own is `exits` below its tmp_dir, containers.conf(5).
    """
    path = EXITS / container
    if not path.exists():
        beside = path.with_name(f".{container}")
        beside.write_text(str(128 + signal.SIGKILL), encoding="ascii")
        beside.replace(path)


def _monitors() -> list[list[str]]:
    return [command for _, command in processes() if Path(command[0]).name == "conmon"]


def wait_for(pids: Collection[int], seconds: float) -> None:
    """Wait until the processes have ended, or the time is over."""
    for pid in pids:
        try:
            descriptor = os.pidfd_open(pid)
        except ProcessLookupError:
            continue
        try:
            poll = select.poll()
            poll.register(descriptor, select.POLLIN)
            poll.poll(seconds * 1000)
        finally:
            os.close(descriptor)


def wait_for_podman(containers: Collection[str], seconds: float = 60) -> None:
    """Wait for a podman that an earlier run started and that still works on one of `containers`."""
    busy = [
        pid
        for pid, command in processes()
        if Path(command[0]).name == "podman" and not set(command).isdisjoint(containers)
    ]
    wait_for(busy, seconds)


def mount_points() -> list[str]:
    """Where something is mounted, as this process sees it; proc(5)."""
    lines = (PROC / "self/mountinfo").read_text().splitlines()
    return [line.split()[4].replace("\\040", " ") for line in lines]


def sweep(container: str) -> None:
    """End and unmount what is left of a container, by its id, that podman takes for stopped."""
    monitors = [
        pid
        for pid, command in processes()
        if Path(command[0]).name == "conmon" and container in command
    ]
    for pid in monitors:
        try:
            os.kill(pid, signal.SIGKILL)
        except ProcessLookupError:
            continue
    wait_for(monitors, 10)
    if (RUNC / container).exists():
        subprocess.run(["runc", "delete", "--force", container], check=True, capture_output=True)
    for mount in reversed(mount_points()):
        if f"/overlay-containers/{container}/" in mount:
            subprocess.run(["umount", mount], check=True)


def _identity(path: Path) -> tuple[int, int] | None:
    try:
        status = path.stat()
    except OSError:
        return None
    return status.st_dev, status.st_ino


def _namespaces_in_use() -> set[tuple[int, int]]:
    """Device and inode of the namespaces in which a thread runs or that a process holds open."""
    found = set()
    for pid, _ in processes():
        links = [PROC / str(pid) / "ns/net"]
        for directory, name in (("task", "ns/net"), ("fd", "")):
            try:
                links += [entry / name for entry in (PROC / str(pid) / directory).iterdir()]
            except OSError:
                continue
        found |= {identity for link in links if (identity := _identity(link))}
    return found


def end_orphan_namespaces() -> None:
    """Remove podman's network namespaces that no process is in or holds and no container refers to.

    The ends of their virtual cables on this host go with them. The first condition spares a podman
    that is just making one, the second a container that podman is just restarting.
    """
    mounted = set(mount_points())
    candidates = [path for path in NAMESPACES.glob(PODMAN_NAMESPACE) if str(path) in mounted]
    in_use = _namespaces_in_use()
    orphans = [path for path in candidates if _identity(path) not in in_use]
    if not orphans:
        return
    ids = _podman("ps", "--all", "--quiet", "--no-trunc").split()
    known = json.loads(_podman("container", "inspect", *ids)) if ids else []
    referred = {entry["NetworkSettings"]["SandboxKey"] for entry in known}
    for path in orphans:
        if str(path) not in referred:
            subprocess.run(["umount", path], check=True)
            path.unlink()


def release_namespace_directory() -> None:
    """Unmount /run/netns when nothing is left in it.

    Podman mounts it on itself before its first container and leaves it; so does `ip netns add`.
    Either does it again when needed.
    """
    if str(NAMESPACES) in mount_points() and not any(NAMESPACES.iterdir()):
        subprocess.run(["umount", NAMESPACES], check=True)


def remove_bridge(interface: str) -> None:
    """Remove the bridge of a removed network; podman leaves it while a cable is plugged in."""
    if (Path("/sys/class/net") / interface / "bridge").exists():
        subprocess.run(["ip", "link", "delete", interface], check=True)


def _podman(*arguments: str) -> str:
    command = ["podman", *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout
