# Copyright: the Kubewright authors
# Apache License 2.0 (see LICENSE or https://www.apache.org/licenses/LICENSE-2.0)
"""A node becomes the machine that it was.

One step after the other: each looks for what is there, ends or removes it, and looks again. A
reset that was killed is finished by the next one, since what a later step needs to know goes last:
the record of what was before, the record of the membership, the epoch. On a machine without them
nothing is touched, whatever its names.
"""

from __future__ import annotations

import contextlib
import shutil
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from ansible_collections.kubewright.cluster.plugins.module_utils._base import (
    atomic,
    commands,
    owned,
)
from ansible_collections.kubewright.cluster.plugins.module_utils._base.errors import KubewrightError
from ansible_collections.kubewright.cluster.plugins.module_utils._cluster import schema
from ansible_collections.kubewright.cluster.plugins.module_utils._machine import before, firewall
from ansible_collections.kubewright.cluster.plugins.module_utils._reset import (
    files,
    processes,
    system,
)

EPOCH = "epoch"
# In the order in which they go: without the record another reset would take away what came back.
BOOKKEEPING = (EPOCH, before.RECORD, schema.FILE)
# Until everything has been looked at again; the second one while it comes or goes.
TOOLS = (commands.KEPT_TOOLS, f"{commands.KEPT_TOOLS}.new")
SHOWN = 12


@dataclass
class Report:
    """What went or would go, in words, and what a person should know besides."""

    removed: list[str] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)


def is_node(state: Path) -> bool:
    """Whether a run of ours has written to the machine; *state*: `_base.owned.STATE` on it."""
    return state.is_dir() and any(entry.name != "lost+found" for entry in state.iterdir())


def remove_locks(machine: before.Machine) -> None:
    """Remove the directory of the locks, whose files may be held: see `_fence.fencing`."""
    with contextlib.suppress(FileNotFoundError):
        shutil.rmtree(machine.path(owned.LOCKS))


class Reset:
    """Takes off a machine what it has because it is a node. *keep*: see `files.Files`."""

    def __init__(self, machine: before.Machine, keep: frozenset[str] = frozenset()) -> None:
        self.machine = machine
        self.state = machine.path(owned.STATE)
        record = before.read(self.state)
        self.before = record or before.Before()
        self.recorded = record is not None
        self.system = system.System(machine, self.before)
        self.files = files.Files(machine, self.before, keep, self.recorded)
        self.report = Report()

    def converge(self, predict: bool) -> Report:
        """Do all steps, or only say what they would do. Raises `KubewrightError`, `OSError`."""
        system = self.system
        if not predict:
            self._keep_tools()
        volume = [self.machine.path(owned.VOLUME_FILE)]
        self._step(self._units(*owned.TRIAL), self._stopper(*owned.TRIAL), predict)
        self._step(self._units(owned.KUBELET), lambda: system.stop([owned.KUBELET]), predict)
        self._pods(predict)
        self._step(self._units(*owned.RUNTIME), self._stopper(*owned.RUNTIME), predict)
        self._step(self._processes, self._kill, predict)
        self._step(
            lambda: [f"control group {self.machine.name(path)}" for path in system.groups()],
            system.remove_groups,
            predict,
        )
        self._step(
            lambda: [f"AppArmor profile {name}" for name in system.profiles()],
            system.unload_profiles,
            predict,
        )
        self._mounts(owned.MOUNTS, predict)
        self._step(
            lambda: [
                f"network namespace {self.machine.name(path)}" for path in system.namespaces()
            ],
            system.remove_namespaces,
            predict,
        )
        self._step(
            lambda: [f"interface {name}" for name in system.links()], system.remove_links, predict
        )
        for find, act in self._firewall():
            self._step(find, act, predict)
        self._step(self._units(*owned.GUARDS), self._stopper(*owned.GUARDS), predict)
        self._step(self._units(*owned.MOUNT_UNITS), self._stopper(*owned.MOUNT_UNITS), predict)
        self._mounts(owned.MOUNTED, predict, below=False)
        self._mounts((owned.IMAGE,), predict)
        self._loops(system.images, predict)
        self._step(self._units(*owned.VOLUME_UNITS), self._stopper(*owned.VOLUME_UNITS), predict)
        self._mounts(owned.VOLUME_MOUNTED, predict)
        self._loops(lambda: volume, predict)
        self._step(
            lambda: [f"file system on {name}" for name in system.volume_devices()],
            system.wipe_volume,
            predict,
        )
        self._step(self._file_words, self._change_files, predict)
        self._step(self._forgotten, system.forget_units, predict)
        if self.recorded:
            self._step(
                lambda: [f"target {name}" for name in system.targets()],
                system.leave_targets,
                predict,
            )
        self._sysctls(predict)
        self._step(self._state_words, self._remove_state, predict)
        return self.report

    def forget(self) -> None:
        """Remove tools, records and locks: from now on this machine is no node."""
        kept, beside = map(self.machine.path, TOOLS)
        files.remove(self.machine, beside)
        # At once, or the next reset would find half of them.
        if kept.is_dir():
            kept.rename(beside)
        files.remove(self.machine, beside)
        for name in BOOKKEEPING:
            path = self.state / name
            atomic.remove_if_there(atomic.temporary_for(path))
            atomic.remove_if_there(path)
        if self.state.is_dir():
            atomic.fsync_directory(self.state)
            if not any(self.state.iterdir()):
                self.state.rmdir()
                atomic.fsync_directory(self.state.parent)
        remove_locks(self.machine)

    def _keep_tools(self) -> None:
        """Have the image's tools at hand when the image has gone."""
        tools = self.machine.path(commands.IMAGE_TOOLS)
        kept, beside = map(self.machine.path, TOOLS)
        if tools.is_dir() and not kept.is_dir():
            files.remove(self.machine, beside)
            shutil.copytree(tools, beside, symlinks=True)
            beside.rename(kept)

    def _step(
        self, find: Callable[[], list[str]], act: Callable[[], object], predict: bool
    ) -> None:
        words = find()
        self.report.removed += words
        if not words or predict:
            return
        act()
        if left := find():
            more = f" and {len(left) - SHOWN} more" if len(left) > SHOWN else ""
            raise KubewrightError(
                f"Still there after removal: {', '.join(left[:SHOWN])}{more}. "
                "Something uses or recreates it: find out what (`systemctl`, `findmnt`, "
                "`fuser -vm`), then reset again."
            )

    def _units(self, *names: str) -> Callable[[], list[str]]:
        return lambda: [f"unit {name}" for name in self.system.units(names)]

    def _stopper(self, *names: str) -> Callable[[], None]:
        return lambda: self.system.stop(self.system.units(names))

    def _pods(self, predict: bool) -> None:
        """The runtime also takes the pods' networks down; what it can't do is done without it."""
        pods = self.system.pods()
        self.report.removed += [f"pod {name}" for name in pods]
        if pods and not predict and (trouble := self.system.remove_pods()):
            self.report.warnings.append(trouble)

    def _processes(self) -> list[str]:
        return [f"process {pid} ({name})" for pid, name in self.system.processes().items()]

    def _kill(self) -> None:
        # What a dying one has started meanwhile is found when it is asked again.
        system.wait(lambda: not processes.kill(self.system.processes()))
        system.wait(lambda: not self.system.processes())

    def _mounts(self, directories: Sequence[str], predict: bool, below: bool = True) -> None:
        self._step(
            lambda: [f"mount {point}" for point in self.system.mounted(*directories, below=below)],
            lambda: self.system.unmount(*directories, below=below),
            predict,
        )

    def _loops(self, files: Callable[[], list[Path]], predict: bool) -> None:
        self._step(
            lambda: [f"loop device {name}" for name in self.system.loops(files())],
            lambda: self.system.detach(files()),
            predict,
        )

    def _firewall(self) -> list[tuple[Callable[[], list[str]], Callable[[], object]]]:
        run, proc = self.machine.run, self.machine.path("/proc")
        chains = self.before.chains

        def nft() -> firewall.Removal:
            return firewall.nft_removal(firewall.ruleset(run), chains)

        def legacy(family: str) -> firewall.Removal:
            text = firewall.legacy_rules(run, proc, family)
            return firewall.legacy_removal(text, family, chains)

        def restore(family: str) -> commands.Result:
            command = [f"{firewall.LEGACY[family]}-restore", "--noflush"]
            result = run(command, stdin=legacy(family).script)
            return commands.check(result, "Rules could not be removed")

        steps: list[tuple[Callable[[], list[str]], Callable[[], object]]] = []
        if self.machine.has("nft"):
            steps.append(
                (
                    lambda: list(nft().words),
                    lambda: commands.check(
                        run(["nft", "--file", "-"], stdin=nft().script),
                        "Rules could not be removed",
                    ),
                )
            )
        for family, tool in firewall.LEGACY.items():
            if self.machine.has(f"{tool}-save"):
                steps.append(
                    (
                        lambda family=family: list(legacy(family).words),  # type: ignore[misc]
                        lambda family=family: restore(family),  # type: ignore[misc]
                    )
                )
        return steps

    def _file_words(self) -> list[str]:
        return [words for words, _ in self.files.changes()]

    def _change_files(self) -> None:
        # A directory is empty, and found, when what was in it has gone.
        seen = set(self.report.removed)
        while changes := list(self.files.changes()):
            for words, change in changes:
                change()
                if words not in seen:
                    seen.add(words)
                    self.report.removed.append(words)
            if [words for words, _ in self.files.changes()] == [words for words, _ in changes]:
                return

    def _forgotten(self) -> list[str]:
        stale, failed = self.system.forgotten()
        return [f"systemd's state of {name}" for name in (*stale, *failed)]

    def _sysctls(self, predict: bool) -> None:
        """Settings have their old values again; one may take others along, so look twice."""
        directory = self.machine.path("/proc/sys")
        if not self.recorded:
            self.report.warnings.append(
                f"{self.state / before.RECORD} is missing, so kernel settings stay as they are."
            )
        self.report.removed += [f"sysctl {name}" for name in self._changed_sysctls(directory)]
        if predict:
            return
        trouble: dict[str, str] = {}
        for _ in range(2):
            for name, value in self._changed_sysctls(directory).items():
                try:
                    (directory / name).write_text(value)
                except OSError as error:
                    trouble[name] = error.strerror or str(error)
        for name, value in self._changed_sysctls(directory).items():
            why = f" ({trouble[name]})" if name in trouble else ""
            self.report.warnings.append(f"sysctl {name} could not be set back to {value}{why}.")

    def _changed_sysctls(self, directory: Path) -> dict[str, str]:
        """Old values of what has another one now; what takes others along comes first."""
        now = before.sysctls(self.before.sysctls, directory)

        def breadth(name: str) -> tuple[bool, bool, bool, str]:
            parts = name.split("/")
            return name != "net/ipv4/ip_forward", "all" not in parts, "default" not in parts, name

        return {
            name: self.before.sysctls[name]
            for name in sorted(now, key=breadth)
            if now[name].split() != self.before.sysctls[name].split()
        }

    def _state_entries(self) -> list[Path]:
        temporaries = {atomic.temporary_for(self.state / name).name for name in BOOKKEEPING}
        kept = {*BOOKKEEPING, *temporaries, *(Path(name).name for name in TOOLS), "lost+found"}
        entries = sorted(self.state.iterdir()) if self.state.is_dir() else []
        return [entry for entry in entries if entry.name not in kept]

    def _state_words(self) -> list[str]:
        return [self.machine.name(path) for path in self._state_entries()]

    def _remove_state(self) -> None:
        for path in self._state_entries():
            files.remove(self.machine, path)
        atomic.fsync_directory(self.state)
