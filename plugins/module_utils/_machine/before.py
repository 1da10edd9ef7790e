# Copyright: the Kubewright authors
# Apache License 2.0 (see LICENSE or https://www.apache.org/licenses/LICENSE-2.0)
"""What a machine was before the first run that wrote to it.

The record is made once, before anything else of ours lies on the machine, and what it says is
never replaced: a reset brings back just that. A machine that was made a node without a record gets
none later, since that would record our own settings as what was there before.
"""

from __future__ import annotations

import base64
import contextlib
import json
import os
import pwd
import stat
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

from ansible_collections.kubewright.cluster.plugins.module_utils._base import (
    atomic,
    commands,
    owned,
)
from ansible_collections.kubewright.cluster.plugins.module_utils._base.errors import KubewrightError
from ansible_collections.kubewright.cluster.plugins.module_utils._machine import firewall
from ansible_collections.kubewright.cluster.plugins.module_utils._onnode import guard

RECORD = "before.json"
SCHEMA = 1
LARGEST_FILE = 1 << 20


@dataclass(frozen=True)
class Before:
    """A machine as it was.

    `sysctls`: values by name with slashes. `chains`: of the firewall, as `firewall.chains` names
    them; None where nft could not be asked. `links`: network interfaces. `mounts`: mount points.
    `paths`: those of `_base.owned` that were there, and what was directly in its trees. `files`: of
    those that we write over, content in base64, mode, uid and gid. `targets`: those of
    `_base.owned` that were reached.
    """

    sysctls: dict[str, str] = field(default_factory=dict)
    chains: list[str] | None = None
    links: list[str] = field(default_factory=list)
    mounts: list[str] = field(default_factory=list)
    paths: list[str] = field(default_factory=list)
    files: dict[str, dict[str, Any]] = field(default_factory=dict)
    targets: list[str] = field(default_factory=list)


def login_home() -> str:
    """The home of who logged in and became root by sudo(8); root's own where it was root."""
    with contextlib.suppress(KeyError):
        return pwd.getpwnam(os.environ["SUDO_USER"]).pw_dir
    return "/root"


@dataclass(frozen=True)
class Machine:
    """The file system under *root* with root's *home*, and a way to run commands.

    *login*: the home of who logged in, `login_home`.
    """

    run: commands.Runner
    root: Path = Path("/")
    home: str = "/root"
    login: str = field(default_factory=login_home)

    def path(self, name: str) -> Path:
        """*name*, absolute, below ``~`` or below `_base.owned.LOGIN`, on this machine."""
        for mark, home in ((owned.LOGIN, self.login), ("~", self.home)):
            if name.startswith(mark):
                return self.root / f"{home}{name.removeprefix(mark)}".lstrip("/")
        return self.root / name.lstrip("/")

    def has(self, tool: str) -> bool:
        """Whether a program is installed where administrators' programs are."""
        places = commands.ADMIN_PATH.split(":")
        return any((self.path(place) / tool).exists() for place in places)

    def mounts(self) -> list[str]:
        """Mount points in the order in which they were made, see proc(5)."""
        return mount_points(self.path("/proc/self/mountinfo"))

    def name(self, path: Path) -> str:
        """*path* as the machine calls it."""
        return f"/{path.relative_to(self.root)}"


def begin(directory: Path, machine: Machine | None = None) -> None:
    """Record the machine in *directory* unless something of ours lies there already."""
    record = directory / RECORD
    if directory.is_dir():
        unfinished = atomic.temporary_for(record).name
        # A file system of its own has a directory for what is found on it.
        if {entry.name for entry in directory.iterdir()} - {unfinished, "lost+found"}:
            return
    found = look(machine or Machine(commands.SystemRunner(())))
    atomic.make_directories(directory)
    _write(record, found)


def read(directory: Path) -> Before | None:
    """The record in *directory*, None when there is none."""
    record = directory / RECORD
    try:
        data = json.loads(record.read_bytes())
        known = {name: data[name] for name in Before.__dataclass_fields__}
    except FileNotFoundError:
        return None
    except (ValueError, KeyError, TypeError) as error:
        raise KubewrightError(
            f"{record} is damaged ({type(error).__name__}: {error}). It records the machine's "
            "state before Kubewright. Restore it from a backup, or remove it: kernel "
            "settings then stay as they are now."
        ) from error
    return Before(**known)


def complete(directory: Path, names: Iterable[str] = (), machine: Machine | None = None) -> None:
    """Add what could not be known at first: of `_base.owned.SYSCTLS` and *names* (with dots), the
    firewall.

    For settings that came with a kernel module or a later run, and for a machine without nft: the
    system image has it, and is there before anything of Kubernetes runs. What is recorded stays.
    """
    known = read(directory)
    if known is None:
        return
    machine = machine or Machine(commands.SystemRunner(()))
    wanted = [*owned.SYSCTLS, *(slashed(name) for name in names)]
    new = {
        name: value
        for name, value in sysctls(wanted, machine.path("/proc/sys")).items()
        if name not in known.sysctls
    }
    # An interface that has come since is ours or somebody's; there was no value before.
    links = {*known.links, "all", "default"}
    new = {name: value for name, value in new.items() if interface(name) in (None, *links)}
    chains = known.chains
    if chains is None and not machine.path(owned.KUBELET_STATE).exists():
        chains = firewall.present(machine.run, machine.path("/proc"))
    if new or chains is not known.chains:
        known.sysctls.update(new)
        _write(directory / RECORD, replace(known, chains=chains))


def slashed(name: str) -> str:
    """A setting's name as a path, by sysctl.d(5): what comes first, dot or slash, parts it."""
    if "/" in name and ("." not in name or name.index("/") < name.index(".")):
        return name
    return name.translate(str.maketrans("./", "/."))


def interface(name: str) -> str | None:
    """The interface that a setting under ``net/ipv*/conf`` is about, None for others."""
    parts = name.split("/")
    return parts[3] if parts[0] == "net" and parts[2:3] == ["conf"] and len(parts) > 4 else None


def sysctls(names: Iterable[str], directory: Path) -> dict[str, str]:
    """Values of the settings (paths, also patterns) that *directory*, ``/proc/sys``, has."""
    values = {}
    for name in names:
        for path in sorted(directory.glob(name)) if "*" in name else [directory / name]:
            with contextlib.suppress(OSError):
                values[str(path.relative_to(directory))] = path.read_text("ascii").strip()
    return values


def look(machine: Machine) -> Before:
    """What the machine is now."""
    return Before(
        sysctls=sysctls(owned.SYSCTLS, machine.path("/proc/sys")),
        chains=firewall.present(machine.run, machine.path("/proc")),
        links=links(machine),
        mounts=machine.mounts(),
        paths=sorted(_paths(machine)),
        files=_contents(machine, (*owned.FILES, owned.HOSTS)),
        targets=targets(machine),
    )


def targets(machine: Machine) -> list[str]:
    """Those of `_base.owned.TARGETS` that have been reached since the machine has booted."""
    asked = machine.run(["systemctl", "is-active", "--", *owned.TARGETS])
    states = asked.stdout.split()
    return [name for name, state in zip(owned.TARGETS, states, strict=False) if state == "active"]


def links(machine: Machine) -> list[str]:
    """Names of the network interfaces."""
    directory = machine.path("/sys/class/net")
    return sorted(entry.name for entry in directory.iterdir()) if directory.is_dir() else []


def mount_points(mountinfo: Path) -> list[str]:
    """See `Machine.mounts`."""
    try:
        return [mount.point for mount in guard.mounts(mountinfo)]
    except FileNotFoundError:
        return []


def _paths(machine: Machine) -> Iterator[str]:
    for name in (*owned.DIRECTORIES, *owned.SHARED_FILES, owned.HOSTS):
        if machine.path(name).exists():
            yield name
    for name in owned.TREES:
        path = machine.path(name)
        if path.is_dir():
            yield name
            yield from (f"{name}/{entry.name}" for entry in path.iterdir())


def _contents(machine: Machine, names: Iterable[str]) -> dict[str, dict[str, Any]]:
    found = {}
    for name in names:
        path = machine.path(name)
        with contextlib.suppress(FileNotFoundError, NotADirectoryError):
            status = path.stat()
            if stat.S_ISREG(status.st_mode) and status.st_size <= LARGEST_FILE:
                found[name] = {
                    "content": base64.b64encode(path.read_bytes()).decode(),
                    "mode": stat.S_IMODE(status.st_mode),
                    "uid": status.st_uid,
                    "gid": status.st_gid,
                }
    return found


def content(entry: Mapping[str, Any]) -> bytes:
    """The bytes of an entry of `Before.files`."""
    return base64.b64decode(entry["content"])


def _write(record: Path, before: Before) -> None:
    text = json.dumps({"schema": SCHEMA, **asdict(before)}, indent=1, sort_keys=True) + "\n"
    # Configurations of other programs may hold passwords.
    atomic.write_file(record, text.encode(), mode=0o600)
