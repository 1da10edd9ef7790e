# Copyright: the Kubewright authors
# Apache License 2.0 (see LICENSE or https://www.apache.org/licenses/LICENSE-2.0)
"""What of ours runs or is attached on a node, found and ended."""

from __future__ import annotations

import contextlib
import json
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ansible_collections.kubewright.cluster.plugins.module_utils._base import commands, owned
from ansible_collections.kubewright.cluster.plugins.module_utils._base.errors import KubewrightError
from ansible_collections.kubewright.cluster.plugins.module_utils._image import containers
from ansible_collections.kubewright.cluster.plugins.module_utils._machine import before
from ansible_collections.kubewright.cluster.plugins.module_utils._machine.before import (
    Before,
    Machine,
)
from ansible_collections.kubewright.cluster.plugins.module_utils._reset import processes
from ansible_collections.kubewright.cluster.plugins.module_utils._services import systemd
from ansible_collections.kubewright.cluster.plugins.module_utils._volume import plan

STOP_SECONDS = 180.0
WAIT_SECONDS = 15.0
POLL = 0.1


def wait(done: Callable[[], bool], seconds: float = WAIT_SECONDS) -> bool:
    """Ask until it is done or *seconds* are over; for what the kernel ends in its own time."""
    end = time.monotonic() + seconds
    while not done():
        if time.monotonic() >= end:
            return False
        time.sleep(POLL)
    return True


@dataclass(frozen=True)
class System:
    """A machine that is reset; *before*: empty where there is no record."""

    machine: Machine
    before: Before

    def run(self, *argv: str, timeout: float = STOP_SECONDS, stdin: str = "") -> commands.Result:
        """A command on the machine."""
        return self.machine.run(list(argv), timeout=timeout, stdin=stdin)

    # Units

    def is_ours(self, unit: str) -> bool:
        """Whether the unit's file is ours: a distribution may have one of the same name."""
        try:
            text = self.machine.path(f"{owned.UNIT_DIRECTORY}/{unit}").read_bytes()
        except (FileNotFoundError, IsADirectoryError):
            return False
        return owned.MARK in text

    def show(self, names: Sequence[str]) -> dict[str, systemd.Unit]:
        """What systemd says of units."""
        if not names:
            return {}
        result = self.run(*systemd.SHOW, *names, timeout=60)
        commands.check(result, "Asking systemd about the units failed")
        return systemd.parse_show(result.stdout, names)

    def units(self, names: Sequence[str]) -> list[str]:
        """Those of *names* that are ours and run, or start at boot."""
        shown = self.show([name for name in names if self.is_ours(name)])
        return [
            name
            for name, unit in shown.items()
            if unit.active not in systemd.STOPPED or unit.file_state in systemd.ENABLED
        ]

    def stop(self, names: Sequence[str]) -> None:
        """Stop units, now and at boot."""
        stopped = self.run("systemctl", "disable", "--now", "--", *names)
        commands.check(stopped, f"{', '.join(names)} could not be stopped")

    def forgotten(self) -> tuple[list[str], list[str]]:
        """Units without their file: those that systemd has in mind, and those it calls failed."""
        gone = [name for name in owned.UNITS if not self.is_ours(name)]
        shown = self.show(gone)
        stale = [name for name, unit in shown.items() if unit.known and unit.needs_reload]
        failed = [
            name for name, unit in shown.items() if not unit.known and unit.active == "failed"
        ]
        return stale, failed

    def forget_units(self) -> None:
        """Let systemd read its unit files anew, and forget what failed."""
        stale, _ = self.forgotten()
        if stale:
            commands.check(self.run("systemctl", "daemon-reload"), "systemd did not reload")
        _, failed = self.forgotten()
        if failed:
            forgotten = self.run("systemctl", "reset-failed", "--", *failed)
            commands.check(forgotten, "Clearing the failed state failed")

    def targets(self) -> list[str]:
        """Targets of the system's that only our units wanted, as far as is recorded."""
        return [name for name in before.targets(self.machine) if name not in self.before.targets]

    def leave_targets(self) -> None:
        """Stop them; they hold nothing, and are reached again by whoever wants them."""
        stopped = self.run("systemctl", "stop", "--", *self.targets())
        commands.check(stopped, "A target could not be stopped")

    # Containers and processes

    def _crictl(self, *words: str, timeout: float = 60) -> commands.Result:
        socket = self.machine.path(owned.CONTAINERD_SOCKET)
        tool = self.machine.path(f"{owned.IMAGE}/bin/crictl")
        return self.run(str(tool), f"--runtime-endpoint=unix://{socket}", *words, timeout=timeout)

    def pods(self) -> list[str]:
        """Sandboxes that containerd knows, as namespace/name; none where it does not answer."""
        tool = self.machine.path(f"{owned.IMAGE}/bin/crictl")
        socket = self.machine.path(owned.CONTAINERD_SOCKET)
        containerd = containers.Containerd(tool, str(socket), self.machine.run, 60)
        if not (self.is_ours("containerd.service") and tool.exists() and containerd.listens()):
            return []
        listed = self._crictl("pods", "--output=json")
        if listed.rc != 0:
            return []  # its processes are found without it
        items: list[dict[str, Any]] = json.loads(listed.stdout).get("items") or []
        names = [item.get("metadata") or {} for item in items]
        return sorted(f"{name.get('namespace')}/{name.get('name')}" for name in names)

    def remove_pods(self) -> str:
        """Let the runtime remove all sandboxes with their networks; gives what went wrong."""
        try:
            result = self._crictl("rmp", "--force", "--all", timeout=STOP_SECONDS)
        except KubewrightError as error:
            return str(error)
        return (
            "" if result.rc == 0 else str(commands.CommandFailed("Cutting off pods failed", result))
        )

    def processes(self) -> dict[int, str]:
        """Name by id, of what is left of pods and of our services."""
        services = [name for name in owned.SERVICE_GROUPS if self.is_ours(name)]
        return processes.ours(self.machine.path("/proc"), services)

    def remove_groups(self) -> None:
        """Remove the pods' control groups; the kernel empties them in its own time."""
        cgroups = self.machine.path("/sys/fs/cgroup")
        slices = [path.name for path in self.groups() if path.name.endswith(".slice")]
        if slices:
            stopped = self.run("systemctl", "stop", "--", *sorted(set(slices)))
            commands.check(stopped, "The pods' slice could not be stopped")

        def removed() -> bool:
            with contextlib.suppress(OSError):
                for path in self.groups():
                    processes.remove_group(path)
            return not processes.groups(cgroups)

        wait(removed)

    def groups(self) -> list[Path]:
        """Directories of pods' control groups."""
        return processes.groups(self.machine.path("/sys/fs/cgroup"))

    def profiles(self) -> list[str]:
        """containerd's AppArmor profile where it is loaded and confines no process any more."""
        try:
            loaded = self.machine.path(f"{owned.APPARMOR}/profiles").read_text("utf-8")
        except OSError:
            return []  # a kernel or a container without it
        name = owned.APPARMOR_PROFILE
        if name not in (line.partition(" (")[0] for line in loaded.splitlines()):
            return []
        return [] if processes.confined(self.machine.path("/proc"), name) else [name]

    def unload_profiles(self) -> None:
        """Remove it as aa-remove-unknown does, which not every machine has."""
        for name in self.profiles():
            place = str(self.machine.path(f"{owned.APPARMOR}/.remove"))
            removed = self.run("tee", "--", place, stdin=name)
            commands.check(removed, f"AppArmor's profile {name} could not be unloaded")

    # Mounts and loop devices

    def mounted(self, *directories: str, below: bool = True) -> list[str]:
        """Mount points at, or also *below*, one of *directories* that were not there before."""
        return [
            point
            for point in self.machine.mounts()
            if point not in self.before.mounts
            and any(
                point == directory or (below and owned.is_below(point, directory))
                for directory in directories
            )
        ]

    def unmount(self, *directories: str, below: bool = True) -> None:
        """Unmount all of `mounted`, the last one first; what is in use ends with its last user."""
        for point in reversed(self.mounted(*directories, below=below)):
            if self.run("umount", "--", point).rc != 0:
                self.run("umount", "--lazy", "--", point)

    def loops(self, files: Sequence[Path]) -> list[str]:
        """Loop devices of *files*, known by device and inode: names may be those of another one."""
        found = []
        for file in files:
            if file.exists():
                command = ["losetup", "--associated", str(file), "--noheadings", "--output", "NAME"]
                listed = commands.check(self.run(*command), "Asking for loop devices failed")
                found += listed.stdout.split()
        return found

    def detach(self, files: Sequence[Path]) -> None:
        """Free the loop devices of *files*."""
        for device in self.loops(files):
            self.run("losetup", "--detach", device)
        wait(lambda: not self.loops(files))

    def volume_devices(self) -> list[str]:
        """The device with our system volume, which was blank before; the mount's unit names it."""
        unit = self.machine.path(f"{owned.UNIT_DIRECTORY}/{owned.VOLUME_MOUNT}")
        if not self.is_ours(owned.VOLUME_MOUNT):
            return []
        lines = unit.read_text("utf-8").splitlines()
        what = next((line[5:] for line in lines if line.startswith("What=")), owned.VOLUME_FILE)
        device = self.machine.path(what)
        if what == owned.VOLUME_FILE or not device.exists():
            return []
        found = plan.read_superblock(device)
        labels = (owned.VOLUME_LABEL, owned.VOLUME_LABEL + plan.UNFINISHED)
        return [what] if found and found.label in labels else []

    def wipe_volume(self) -> None:
        """Make the device blank again, as it was before."""
        for name in self.volume_devices():
            wiped = self.run("wipefs", "--all", "--", str(self.machine.path(name)))
            commands.check(wiped, f"{name} could not be wiped")

    def images(self) -> list[Path]:
        """System images on the volume."""
        return sorted(self.machine.path(f"{owned.VOLUME}/images").glob("*.squashfs"))

    # Network

    def namespaces(self) -> list[Path]:
        """Pods' network namespaces, without those that a process of somebody else's is in."""
        directory = self.machine.path(owned.NETWORK_NAMESPACES)
        pods = self.processes()
        used = set()
        for process in self.machine.path("/proc").glob("[0-9]*"):
            if int(process.name) not in pods:
                with contextlib.suppress(OSError):
                    used.add((process / "ns/net").stat().st_ino)
        found = sorted(directory.glob(owned.NETWORK_NAMESPACE))
        return [path for path in found if path.stat().st_ino not in used]

    def remove_namespaces(self) -> None:
        """Unmount and remove them: with the last reference their interfaces go."""
        for path in self.namespaces():
            if self.machine.name(path) in self.machine.mounts():
                unmounted = self.run("umount", "--lazy", "--", str(path))
                commands.check(unmounted, f"{path} could not be unmounted")
            path.unlink(missing_ok=True)

    def links(self) -> list[str]:
        """Interfaces of the pod network that were not there before; the bridge after its ports."""
        present = [name for name in before.links(self.machine) if name not in self.before.links]
        ports = []
        for name in present:
            with contextlib.suppress(OSError):
                master = self.machine.path(f"/sys/class/net/{name}/master").readlink().name
                if name.startswith("veth") and master == owned.BRIDGE and master in present:
                    ports.append(name)
        return [*ports, *(name for name in owned.LINKS if name in present)]

    def remove_links(self) -> None:
        """Delete them; one that ends by itself meanwhile is no error."""
        for name in self.links():
            deleted = self.run("ip", "link", "delete", "dev", name)
            if deleted.rc != 0 and name in before.links(self.machine):
                raise commands.CommandFailed(f"Interface {name} could not be deleted", deleted)
