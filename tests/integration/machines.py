# SPDX-License-Identifier: Apache-2.0
"""The machines of the local provider, seen by the host that runs them: their power, and a shell."""

from __future__ import annotations

import json
import os
import select
import signal
import subprocess
from collections.abc import Sequence
from pathlib import Path

IMAGE_ROOT = "/opt/kubewright"
#: Gives a node's containerd the images of the archive on its stdin.
IMPORT_IMAGES = (
    *(f"{IMAGE_ROOT}/bin/ctr", "--namespace", "k8s.io"),
    *("images", "import", "--local", "-"),
)


class CommandFailed(Exception):
    """A command on a machine failed; the text has what it said."""


def container(machine: str) -> str:
    """The name of a machine's container."""
    return f"kubewright-{machine}"


def run_on(
    machine: str, command: Sequence[str], stdin: bytes | None = None, limit: float = 60
) -> str:
    """Run a command on a machine as root and return its stdout; ``limit`` is in seconds."""
    result = subprocess.run(
        ["podman", "exec", *(["-i"] if stdin is not None else []), container(machine), *command],
        input=stdin,
        capture_output=True,
        timeout=limit,
        check=False,
    )
    if result.returncode != 0:
        said = (result.stderr or result.stdout).decode(errors="replace").strip()
        raise CommandFailed(f"{machine}: {' '.join(command)}: status {result.returncode}: {said}")
    return result.stdout.decode()


def put(machine: str, path: str, content: bytes) -> None:
    """Write a file on a machine, readable by root alone."""
    run_on(machine, ["sh", "-c", 'umask 077; cat >"$1"', "sh", path], stdin=content)


def import_image(machine: str, archive: Path) -> None:
    """Give a machine's containerd the image of a docker-archive."""
    run_on(machine, IMPORT_IMAGES, stdin=archive.read_bytes(), limit=120)


def owners(cluster: str) -> set[str]:
    """The ids of the clusters of that name that have something on this host."""
    found = set()
    for kind in (["ps", "--all"], ["volume", "ls"], ["network", "ls"]):
        label = f"label=kubewright.cluster={cluster}"
        listed = _podman(*kind, "--filter", label, "--format=json")
        for thing in json.loads(listed):
            labels = thing.get("Labels") or thing.get("labels") or {}
            found.add(labels.get("kubewright.cluster_id", ""))
    return found - {""}


def lose_monitor(machine: str) -> None:
    """End a machine with podman's monitor of it, so that podman believes that it runs."""
    said = _podman("inspect", "--format={{.State.ConmonPid}} {{.State.Pid}}", container(machine))
    monitor, first = map(int, said.split())
    process = os.pidfd_open(first)
    try:
        os.kill(monitor, signal.SIGKILL)
        os.kill(first, signal.SIGKILL)
        ended = select.poll()
        ended.register(process, select.POLLIN)
        assert ended.poll(10_000), f"{machine} has not ended"
    finally:
        os.close(process)
    state = _podman("inspect", "--format={{.State.Status}}", container(machine)).strip()
    assert state == "running", f"podman knows of it: {state}"


def started(machine: str) -> str:
    """When a machine was switched on or restarted last; as text, the later is the greater."""
    return _podman("inspect", "--format={{.State.StartedAt.UTC}}", container(machine)).strip()


def power_off(*machines: str) -> None:
    """Cut the power: every process of the machines dies at once, nothing is written back."""
    _podman("kill", "--signal", "KILL", *map(container, machines))


def power_on(*machines: str) -> None:
    """Power on machines that are off."""
    _podman("start", *map(container, machines))


def halt(*machines: str) -> None:
    """Shut machines down in good order; power_on() starts them."""
    _podman("stop", "--time=90", *map(container, machines))


def lose(*machines: str) -> None:
    """Take machines away with their disks, as no tool of ours does."""
    for name in map(container, machines):
        disks = _podman("inspect", "--format={{range .Mounts}}{{.Name}} {{end}}", name).split()
        _podman("rm", "--force", "--time=0", name)
        _podman("volume", "rm", *disks)


def _podman(*arguments: str) -> str:
    done = subprocess.run(
        ["podman", *arguments], check=True, capture_output=True, text=True, timeout=120
    )
    return done.stdout
