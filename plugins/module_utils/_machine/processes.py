# Copyright: the Kubewright authors
# Apache License 2.0 (see LICENSE or https://www.apache.org/licenses/LICENSE-2.0)
"""Which processes run, whose they are, and who holds a port."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from dataclasses import dataclass
from pathlib import Path

from ansible_collections.kubewright.cluster.plugins.module_utils._base import owned

MANAGED = "# Managed by Kubewright"
UNITS = owned.UNIT_DIRECTORY.lstrip("/")
LISTEN = "0A"  # the kernel's TCP_LISTEN, as /proc/net/tcp prints it


@dataclass(frozen=True)
class Process:
    """`exe` and `unit` (systemd's) are empty where they are not known."""

    pid: int
    name: str
    exe: str = ""
    unit: str = ""

    def __str__(self) -> str:
        return f"{self.name} (process {self.pid}{f', {self.unit}' if self.unit else ''})"


def processes(root: Path) -> Iterator[Process]:
    """All of them; one that ends meanwhile is left out."""
    for directory in sorted((root / "proc").glob("[0-9]*")):
        process = _read(directory)
        if process:
            yield process


def is_ours(process: Process, root: Path) -> bool:
    """Whether it runs from a system image, or for a unit that a role has written.

    Of a program in its own root directory, or of a detached image, the path alone says nothing.
    """
    return process.exe.startswith(f"{owned.IMAGE}/") or (
        bool(process.unit) and is_managed(root / UNITS / process.unit)
    )


def is_managed(file: Path) -> bool:
    """Whether a role has written this file."""
    try:
        return file.read_text(errors="replace").startswith(MANAGED)
    except OSError:
        return False


def listeners(ports: Collection[int], root: Path) -> dict[int, Process | None]:
    """Which of *ports* (TCP) are listened on, on any address, and by whom where that is known."""
    sockets: dict[str, int] = {}
    for name in ("tcp", "tcp6"):
        table = root / "proc/net" / name
        for line in table.read_text().splitlines()[1:] if table.exists() else []:
            fields = line.split()
            port = int(fields[1].rpartition(":")[2], 16)
            if fields[3] == LISTEN and port in ports:
                sockets[f"socket:[{fields[9]}]"] = port
    found: dict[int, Process | None] = dict.fromkeys(sorted(sockets.values()))
    if sockets:
        for process, held in _holders(frozenset(sockets), root):
            found[sockets[held]] = process
    return found


def _holders(sockets: frozenset[str], root: Path) -> Iterator[tuple[Process, str]]:
    for directory in (root / "proc").glob("[0-9]*"):
        held = sockets & set(_open_files(directory / "fd"))
        process = _read(directory) if held else None
        if process:
            yield from ((process, one) for one in held)


def _open_files(descriptors: Path) -> Iterator[str]:
    try:
        found = list(descriptors.iterdir())
    except OSError:  # the process has ended, or may not be looked at
        return
    for descriptor in found:
        try:
            yield str(descriptor.readlink())
        except OSError:  # closed since: of ourselves, the very directory that was listed
            continue


def _read(directory: Path) -> Process | None:
    try:
        name = (directory / "comm").read_text(errors="replace").strip()
        groups = (directory / "cgroup").read_text(errors="replace").splitlines()
    except OSError:
        return None
    try:
        exe = str((directory / "exe").readlink()).removesuffix(" (deleted)")
    except OSError:  # a thread of the kernel
        exe = ""
    parts = [part for line in groups for part in line.split("/") if part.endswith(".service")]
    return Process(int(directory.name), Path(exe).name or name, exe, parts[-1] if parts else "")
