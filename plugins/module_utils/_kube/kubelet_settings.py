# Copyright: the Kubewright authors
# Apache License 2.0 (see LICENSE or https://www.apache.org/licenses/LICENSE-2.0)
"""The kubelet gets other settings, and has to live with them.

What is written over is recorded first (`Record`). Where the kubelet is well with the new settings
the record goes, else the old ones are put back from it. Whoever is killed in between leaves the
record: `node_state` names it, and the next run ends what this one began.
"""

from __future__ import annotations

import base64
import contextlib
import json
import stat
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from ansible_collections.kubewright.cluster.plugins.module_utils._base import atomic
from ansible_collections.kubewright.cluster.plugins.module_utils._base.errors import KubewrightError
from ansible_collections.kubewright.cluster.plugins.module_utils._files import differences, options
from ansible_collections.kubewright.cluster.plugins.module_utils._kube import kubelet
from ansible_collections.kubewright.cluster.plugins.module_utils._onnode import kubelet_died
from ansible_collections.kubewright.cluster.plugins.module_utils._services import systemctl, systemd

RECORD = Path("/var/lib/kubewright/kubelet.json")
UNPROVEN = "an interrupted run changed its kubelet's settings, and did not see it healthy again"


@dataclass(frozen=True)
class Record:
    """The settings before, on disk, in *path*."""

    path: Path = field(default_factory=lambda: RECORD)

    def exists(self) -> bool:
        """Whether settings are in place with which the kubelet was not seen to live."""
        return self.path.exists()

    def was_ready(self) -> bool:
        """Whether the Node was Ready with the old ones."""
        return bool(self._read()["ready"])

    def remember(self, changes: Sequence[differences.Change], ready: bool) -> None:
        """Record what *changes* write over, on disk when this returns.

        What a run that was cut has recorded stays: with what it wrote, no kubelet was seen to live.
        """
        known: dict[str, Any] = {"ready": ready, "files": {}}
        if self.exists():
            known = self._read()
        for change in changes:
            path = change.desired.path
            if change.desired.state != "directory" and str(path) not in known["files"]:
                known["files"][str(path)] = _as_it_is(path)
        atomic.make_directories(self.path.parent)
        atomic.write_file(self.path, json.dumps(known).encode(), mode=0o600)

    def put_back(self) -> None:
        """Write the old settings; a directory that was made for new ones stays."""
        for name, old in self._read()["files"].items():
            path = Path(name)
            if old is None:
                atomic.remove_if_there(path)
                continue
            atomic.write_file(
                path,
                base64.b64decode(old["content"]),
                mode=old["mode"],
                uid=old["uid"],
                gid=old["gid"],
                sync_directory=False,
            )
        atomic.fsync_directories(Path(name).parent for name in self._read()["files"])

    def forget(self) -> None:
        """Remove it, on disk when this returns."""
        if atomic.remove_if_there(self.path):
            atomic.fsync_directory(self.path.parent)

    def _read(self) -> dict[str, Any]:
        read: dict[str, Any] = json.loads(self.path.read_bytes())
        return read


def _as_it_is(path: Path) -> dict[str, Any] | None:
    try:
        status = path.lstat()
    except FileNotFoundError:
        return None
    if not stat.S_ISREG(status.st_mode):
        return None  # a link of somebody's in a directory that is ours
    return {
        "content": base64.b64encode(path.read_bytes()).decode(),
        "mode": stat.S_IMODE(status.st_mode),
        "uid": status.st_uid,
        "gid": status.st_gid,
    }


def entries(files: Sequence[Mapping[str, Any]], flags: Mapping[str, str]) -> list[options.Desired]:
    """*files* as a document has them, and kubeadm's file of flags with these values, if any."""
    found = options.parse(files, {})
    if flags and kubelet.FLAGS.exists():
        text = kubelet.FLAGS.read_text("utf-8")
        for name, value in flags.items():
            if kubelet.flag_in(text, name) != value:
                text = kubelet.with_flag(text, name, value)
        mode = stat.S_IMODE(kubelet.FLAGS.stat().st_mode)
        found.append(options.Desired(kubelet.FLAGS, "file", text.encode(), mode=mode))
    return found


def paths(found: Sequence[options.Desired]) -> list[str]:
    """Those that would be written now, other than their mode and owner."""
    changes = differences.find(found)
    return list(dict.fromkeys(str(one.desired.path) for one in changes if one.rewrites))


def wanted(found: Sequence[options.Desired], started: bool) -> systemd.Wanted:
    """The kubelet's unit, which reads these at its start. *started*: also where it was stopped."""
    return systemd.Wanted(
        name=kubelet.UNIT,
        enabled=True,
        masked=False,
        state="started" if started else None,
        restart_after=tuple(str(entry.path) for entry in found),
    )


@dataclass
class Settings:
    """The kubelet's settings on this node. *joined*: whether it is, so that the kubelet has to run.

    *predict*: nothing is written or restarted, only reported.
    """

    services: systemctl.Services
    watch: kubelet.Watch
    joined: bool
    record: Record = field(default_factory=Record)

    @property
    def predict(self) -> bool:
        """Whether only to report."""
        return self.services.predict

    def converge(
        self, entries: Sequence[options.Desired], want: systemd.Wanted, again: str = ""
    ) -> tuple[list[differences.Change], systemctl.Report, list[str]]:
        """Give the kubelet what differs, and see it live with it.

        *again*: why it has to be restarted in any case. Gives what was written, what was done to
        the unit, and why. Raises `KubewrightError` when it does not live with its settings; then
        it has the ones back that it had before.
        """
        changes = differences.find(entries)
        if not self.joined:
            if not self.predict:
                differences.apply(changes)
            return changes, self.services.converge([want]), []
        unit = self.services.show([want.name])[want.name]
        looping = kubelet.loop(self.watch.run, unit, time.time(), time.monotonic_ns() // 1000)
        if want.state is None and (looping or unit.active != "inactive"):
            want = replace(want, state="started")
        unproven = UNPROVEN if self.record.exists() else ""
        reasons = [reason for reason in (unproven, looping, again) if reason]
        if self.predict:
            report = self.services.converge([want])
            if reasons and want.name not in (*report.started, *report.restarted):
                report.restarted.append(want.name)
            return changes, report, reasons
        ready = bool(self.watch.see().ready)
        if changes:
            self.record.remember(changes, ready)
            differences.apply(changes)
        report, trouble = self._run(want, ready, force=bool(reasons), stopped=unit)
        if trouble:
            raise KubewrightError(self._undone(want, trouble, unit))
        return changes, report, reasons

    def _run(
        self, want: systemd.Wanted, ready: bool, *, force: bool, stopped: systemd.Unit
    ) -> tuple[systemctl.Report, str]:
        """Start or restart it where that is needed; then why it is not well, "" when it is."""
        report = systemctl.Report(before={want.name: stopped}, after={want.name: stopped})
        if want.state is None:
            # Somebody has stopped it. Who starts it sees whether it lives.
            return self.services.converge([want]), ""
        began = time.time()
        try:
            if stopped.restarts:
                self.services.reset_restarts(want.name)
            report = self._start(want, force=force)
        except KubewrightError as error:
            return report, kubelet_died.reason(kubelet.journal(self.watch.run, began)) or str(error)
        if want.name not in (*report.started, *report.restarted):
            return report, ""
        if self.record.exists():
            ready = self.record.was_ready()
        trouble = self.watch.trouble(ready)
        if not trouble:
            self.record.forget()
        return report, trouble

    def _start(self, want: systemd.Wanted, *, force: bool) -> systemctl.Report:
        """Start or restart it where its files say so; *force*: in any case."""
        report = self.services.converge([want])
        if force and want.name not in (*report.started, *report.restarted):
            self.services.restart(want.name)
            report.restarted.append(want.name)
        return report

    def _undone(self, want: systemd.Wanted, trouble: str, unit: systemd.Unit) -> str:
        """Put the old settings back; what to tell."""
        if not self.record.exists():
            return (
                f"The kubelet does not run: {trouble}. There is no change on this "
                f"node to roll back. See `journalctl -u {want.name}`, fix the "
                "cause, and run it again."
            )
        ready = self.record.was_ready()
        self.record.put_back()
        with contextlib.suppress(KubewrightError):
            self.services.reset_restarts(want.name)
            self._start(want, force=True)
        left = self.watch.trouble(ready)
        self.record.forget()
        told = f"The kubelet does not run with its new settings: {trouble}."
        if left:
            # The settings of the run are not what it dies of, or not alone.
            return (
                f"{told} The old ones were restored, but it does not run with "
                f"them either: {left}. See `journalctl -u {want.name}` on the node, "
                "fix the cause, then run it again."
            )
        return (
            f"{told} The old ones were restored, and it is healthy with them. Correct "
            "the settings (kubelet_args in cluster.yml), then run "
            f"it again. See `journalctl -u {want.name}` on the node."
        )
