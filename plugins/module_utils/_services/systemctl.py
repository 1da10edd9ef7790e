# Copyright: the Kubewright authors
# Apache License 2.0 (see LICENSE or https://www.apache.org/licenses/LICENSE-2.0)
"""Bring units to their wanted state, through ``systemctl``.

Reading is one ``systemctl show`` for all units. Each change is followed by another one, because a
restart takes dependent units with it and they need no second one.
"""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from ansible_collections.kubewright.cluster.plugins.module_utils._base import commands, owned
from ansible_collections.kubewright.cluster.plugins.module_utils._base.errors import KubewrightError
from ansible_collections.kubewright.cluster.plugins.module_utils._fence import sealed
from ansible_collections.kubewright.cluster.plugins.module_utils._onnode import daemons
from ansible_collections.kubewright.cluster.plugins.module_utils._services import systemd
from ansible_collections.kubewright.cluster.plugins.module_utils._services.systemd import (
    Unit,
    Wanted,
)

JOURNAL_LINES = 15
SYSCTLS = Path("/proc/sys")
#: How to ask services whether they answer: "" where they do.
ANSWERS = {"containerd": daemons.containerd}
DONE_BY = {"start": "started", "stop": "stopped", "restart": "restarted"}


@dataclass
class Report:
    """Names by what was done to them, and the units before and after for the diff."""

    started: list[str] = field(default_factory=list)
    stopped: list[str] = field(default_factory=list)
    restarted: list[str] = field(default_factory=list)
    enabled: list[str] = field(default_factory=list)
    disabled: list[str] = field(default_factory=list)
    masked: list[str] = field(default_factory=list)
    unmasked: list[str] = field(default_factory=list)
    before: dict[str, Unit] = field(default_factory=dict)
    after: dict[str, Unit] = field(default_factory=dict)

    def actions(self) -> dict[str, list[str]]:
        """The lists of names, by what was done."""
        names = ("started", "stopped", "restarted", "enabled", "disabled", "masked", "unmasked")
        return {name: getattr(self, name) for name in names}

    def reasons(self) -> list[str]:
        """What was done to each unit, in words."""
        done = self.actions().items()
        return [f"{name} ({verb})" for verb, names in done for name in names]

    def diffs(self) -> list[dict[str, str]]:
        """One entry a changed unit; what was done stands behind the state after."""
        entries = []
        for name, unit in self.before.items():
            done = [verb for verb, names in self.actions().items() if name in names]
            if done:
                after = self.after.get(name, unit)
                entries.append(
                    {
                        "before_header": name,
                        "after_header": name,
                        "before": f"{systemd.describe(unit)}\n",
                        "after": f"{systemd.describe(after)} ({', '.join(done)})\n",
                    }
                )
        return entries


@dataclass
class Services:
    """*run* reaches systemd; *timeout*: seconds that one ``systemctl`` call may take.

    *predict*: nothing is done, only reported. *changed_paths*: what would have been written before;
    a prediction counts it as newer than every unit.
    """

    run: commands.Runner
    timeout: float
    predict: bool = False
    changed_paths: frozenset[str] = frozenset()

    def converge(self, wanted: Sequence[Wanted]) -> Report:
        """Reload, mask, enable, start, stop and restart what differs. Raises `KubewrightError`."""
        names = [want.name for want in wanted]
        report = Report()
        units = self.show(names)
        if not self.predict and any(
            unit.needs_reload or not unit.loaded for unit in units.values()
        ):
            self._systemctl("Loading changed unit files", ["daemon-reload"])
            units = self.show(names)
        report.before = units
        plan = systemd.plan_files(wanted, units, self.predict)
        self._change_files(plan, report)
        if not self.predict and plan != systemd.FilePlan():
            units = self.show(names)
        self._change_states(list(wanted), units, report)
        return report

    def show(self, names: Sequence[str]) -> dict[str, Unit]:
        """All units in one call."""
        result = self.run([*systemd.SHOW, *names], timeout=self.timeout)
        commands.check(result, "Asking systemd about the units failed")
        return systemd.parse_show(result.stdout, names)

    def restart(self, name: str) -> None:
        """Restart a unit, whatever its files say. Raises `KubewrightError`."""
        self._systemctl(f"{name} could not be restarted", ["restart", "--", name])

    def reset_restarts(self, name: str) -> None:
        """Have systemd count anew how often it has started a unit by itself; a restart may not."""
        self._systemctl(f"{name} could not be reset", ["reset-failed", "--", name])

    def _change_files(self, plan: systemd.FilePlan, report: Report) -> None:
        for names, words, done in (
            (plan.unmask, ["unmask"], report.unmasked),
            (plan.unmask_runtime, ["unmask", "--runtime"], report.unmasked),
            (plan.mask, ["mask"], report.masked),
            (plan.enable, ["enable"], report.enabled),
            (plan.disable, ["disable"], report.disabled),
        ):
            if names and not self.predict:
                doing = f"Unit files could not be changed ({words[0]})"
                self._systemctl(doing, [*words, "--", *names])
            done.extend(names)

    def _change_states(
        self, wanted: list[Wanted], units: Mapping[str, Unit], report: Report
    ) -> None:
        left, acted = wanted, False
        while left:
            clock = clock_for(left, self.changed_paths if self.predict else frozenset())
            action, names, after = systemd.first_run(left, units, clock, self.predict)
            if names and not self.predict:
                acted = True
                self._act(action, [want for want in left if want.name in names], units, clock)
            if action in DONE_BY:
                getattr(report, DONE_BY[action]).extend(names)
            left = left[after:]
            if acted and names:
                units = self.show([want.name for want in wanted])
        report.after = dict(units)
        if acted:
            clock = clock_for(wanted)
            for want in wanted:
                if kept := systemd.foreign_sysctls(want, clock):
                    raise KubewrightError(
                        f"{want.name} was started, but the kernel has another "
                        f"value of {', '.join(kept)}. Does something "
                        f"else set it? See `journalctl -u {want.name}`."
                    )
                if open_places := sorted(clock.writable.intersection(want.read_only)):
                    raise KubewrightError(
                        f"{want.name} was started, but {', '.join(open_places)} is still "
                        f"writable. See `journalctl -u {want.name}`."
                    )
                if want.answers in clock.silent and units[want.name].active in systemd.RUNNING:
                    raise KubewrightError(
                        self._why(
                            want.name,
                            f"{want.name} was started, but {clock.silent[want.answers]}",
                        )
                    )
                if systemd.failed(want, units[want.name]):
                    raise KubewrightError(
                        self._why(want.name, f"{want.name} exits right after its start")
                    )

    def _act(
        self,
        action: str,
        wanted: Sequence[Wanted],
        units: Mapping[str, Unit],
        clock: systemd.Clock,
    ) -> None:
        names = [want.name for want in wanted]
        failed = [name for name in names if units[name].active == "failed"]
        if failed and action == "start":  # or a start limit that was hit refuses the start
            self._systemctl("Clearing the failed state", ["reset-failed", "--", *failed])
        if action == "restart":
            touch_future([path for want in wanted for path in want.restart_after], clock)
        verb = "start" if action == "wait" else action
        try:
            result = self.run(["systemctl", verb, "--", *names], timeout=self.timeout)
        except KubewrightError as error:
            raise KubewrightError(f"{error}\n{self._why(names[0], 'Its journal')}") from error
        if result.rc != 0:
            now = self.show(names)
            up = [name for name in names if now[name].active in systemd.RUNNING]
            bad = up if action == "stop" else [name for name in names if name not in up]
            name = (bad or names)[0]
            done = DONE_BY.get(action, "started")
            raise KubewrightError(
                self._why(name, f"{name} could not be {done}: {result.stderr.strip()}")
            )

    def _systemctl(self, doing: str, arguments: Sequence[str]) -> None:
        commands.check(self.run(["systemctl", *arguments], timeout=self.timeout), doing)

    def _why(self, name: str, happened: str) -> str:
        journal = ["journalctl", f"--unit={name}", "--no-pager", "--output=cat"]
        lines = ""
        with contextlib.suppress(KubewrightError):
            lines = self.run([*journal, f"--lines={JOURNAL_LINES}"], timeout=30).stdout.strip()
        return (
            f"{happened}\nLast lines of its journal:\n{lines or '(none)'}\n"
            f"To see more: journalctl -u {name}; systemctl status {name}"
        )


def clock_for(
    wanted: Sequence[Wanted], changed_paths: frozenset[str] = frozenset()
) -> systemd.Clock:
    """Now, and the mtime of each path that a unit has to be younger than (links not followed).

    A directory is as new as the newest one below it: names that came and went count, contents not.
    """
    # Both at once: one is told by the other.
    now, now_monotonic = time.time_ns() // 1000, time.monotonic_ns() // 1000
    asked = {want.answers for want in wanted if want.answers}
    mtimes = {}
    for path in {path for want in wanted for path in want.restart_after}:
        with contextlib.suppress(FileNotFoundError, NotADirectoryError):
            mtimes[path] = max(_mtime(place) for place in _places(path)) // 1000
        if any(owned.is_below(changed, path) for changed in changed_paths):
            mtimes[path] = now
    return systemd.Clock(
        now=now,
        now_monotonic=now_monotonic,
        mtimes=mtimes,
        sysctls=read_sysctls({name for want in wanted for name in want.sysctls}),
        writable=frozenset(sealed.writable([path for want in wanted for path in want.read_only])),
        silent={name: why for name in asked if (why := ANSWERS[name]())},
    )


def _places(path: str) -> list[str]:
    """*path*, and of a directory those below it."""
    below = () if Path(path).is_symlink() else os.walk(path)
    return [path, *(place for place, _, _ in below if place != path)]


def _mtime(path: str) -> int:
    return Path(path).lstat().st_mtime_ns


def read_sysctls(names: Iterable[str]) -> dict[str, str]:
    """The kernel's settings by name, without those that this kernel does not have."""
    values = {}
    for name in names:
        with contextlib.suppress(OSError):
            values[name] = (SYSCTLS / name.replace(".", "/")).read_text("ascii").strip()
    return values


def touch_future(paths: Sequence[str], clock: systemd.Clock) -> None:
    """Give paths that are stamped in the future the present time; see `systemd`."""
    for path in paths:
        if clock.mtimes.get(path, 0) > clock.now:
            now = clock.now * 1000
            for place in _places(path):
                with contextlib.suppress(OSError):
                    if _mtime(place) > now:
                        os.utime(place, ns=(now, now), follow_symlinks=False)
