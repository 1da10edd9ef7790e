# Copyright: the Kubewright authors
# Apache License 2.0 (see LICENSE or https://www.apache.org/licenses/LICENSE-2.0)
"""What systemd says of units, and what is to be done. Pure.

**When was a unit started?** A file is newer than a unit when its mtime lies after the moment at
which the unit left the inactive state (``InactiveExitTimestamp``). ``ActiveEnterTimestamp`` would
be too late: a service of type notify reads its configuration before it counts as active, and a
file written in between would never be noticed.

Two clocks are at hand. The kernel stamps files with the wall clock, and systemd recorded the wall
clock as well, so both stamps stay comparable across a suspend and across a clock that is set
forward. Only a clock that was set *back* after the start breaks the comparison: files written
since then look older than the unit. It is noticed because the start then seems later by the wall
clock than by the monotonic one, which is never set; so the earlier of the two is taken. (The
monotonic one alone would be wrong: it stands still in a suspend.) A file stamped in the future is
touched before the restart, or it would stay newer than the unit for as long as the future lasts.
"""

from __future__ import annotations

import datetime
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from ansible_collections.kubewright.cluster.plugins.module_utils._base.errors import KubewrightError

PROPERTIES = (
    "Id",
    "LoadState",
    "ActiveState",
    "SubState",
    "UnitFileState",
    "NeedDaemonReload",
    "InactiveExitTimestamp",
    "InactiveExitTimestampMonotonic",
    "NRestarts",
)
SHOW = ("systemctl", "show", "--timestamp=us+utc", f"--property={','.join(PROPERTIES)}", "--")
ENABLED = {"enabled", "alias", "generated", "transient"}
RUNNING = {"active", "reloading", "refreshing"}
STOPPED = {"inactive", "failed"}


@dataclass(frozen=True)
class Wanted:
    """A unit as it should be; None means: as it is.

    `state`: started or stopped; one that does not exist counts as stopped. `masked`: whether its
    start is forbidden. A unit that runs is restarted where a path of `restart_after` has a time of
    modification after its start, where the kernel has another value of one of `sysctls`, and where
    a place of `read_only`, which it has mounted so, can be written to. Links are not followed, so
    that one which was switched counts; a directory counts with those below it, when a name in them
    came or went. What is missing is ignored. `answers`: the service that it has to answer as
    (`systemctl.ANSWERS`); one that runs and does not is restarted.
    """

    name: str
    enabled: bool | None = None
    state: str | None = None
    masked: bool | None = None
    restart_after: tuple[str, ...] = ()
    sysctls: Mapping[str, str] = field(default_factory=dict)
    read_only: tuple[str, ...] = ()
    answers: str = ""


def parse_wanted(item: Mapping[str, Any]) -> Wanted:
    """An entry of the section ``units`` of a role's document; what is not given is as it is.

    Except that a unit which is to run, now or at boot, can't stay masked.
    """
    enabled, state, masked = item.get("enabled"), item.get("state"), item.get("masked")
    if masked is None and (enabled or state == "started"):
        masked = False
    return Wanted(
        name=item["name"],
        enabled=enabled,
        state=state,
        masked=masked,
        restart_after=tuple(item.get("restart_after") or ()),
        sysctls={name: str(value) for name, value in (item.get("sysctls") or {}).items()},
        read_only=tuple(item.get("read_only") or ()),
        answers=item.get("answers") or "",
    )


@dataclass(frozen=True)
class Unit:
    """What ``systemctl show`` says of a unit. Times in microseconds, 0: never started.

    `restarts`: how often systemd has started it again by itself since somebody started it.
    """

    load: str
    active: str
    sub: str
    file_state: str
    needs_reload: bool
    left_inactive: int
    left_inactive_monotonic: int
    restarts: int = 0

    @property
    def known(self) -> bool:
        """Whether systemd has a unit file for it."""
        return self.load != "not-found"

    @property
    def loaded(self) -> bool:
        """Whether systemd has read its unit file; it may stumble over one that has just come."""
        return self.load in ("loaded", "masked")

    def started_at(self, now: int, now_monotonic: int) -> int:
        """Start of the present activation by today's wall clock, see the module's docstring."""
        by_monotonic = now - (now_monotonic - self.left_inactive_monotonic)
        return min(self.left_inactive, by_monotonic)


@dataclass(frozen=True)
class FilePlan:
    """Names for each ``systemctl`` verb that changes unit files, in the order of the verbs.

    `unmask_runtime`: masked until the next boot, which a plain ``unmask`` leaves alone.
    """

    unmask: tuple[str, ...] = ()
    unmask_runtime: tuple[str, ...] = ()
    mask: tuple[str, ...] = ()
    enable: tuple[str, ...] = ()
    disable: tuple[str, ...] = ()


@dataclass
class Clock:
    """Now in microseconds, mtimes of the paths in ``restart_after``, and the kernel's ``sysctls``.

    What is not there is missing in both. ``writable``: those of ``read_only`` that are not.
    ``silent``: why a service does not answer, by its name, for those that don't.
    """

    now: int
    now_monotonic: int
    mtimes: Mapping[str, int] = field(default_factory=dict)
    sysctls: Mapping[str, str] = field(default_factory=dict)
    writable: frozenset[str] = frozenset()
    silent: Mapping[str, str] = field(default_factory=dict)


def parse_show(text: str, names: Sequence[str]) -> dict[str, Unit]:
    """The output of `SHOW` for *names*: one block a name, in their order, empty lines between."""
    blocks = [block for block in text.strip().split("\n\n") if block]
    if len(blocks) != len(names):
        raise KubewrightError(
            f"systemctl described {len(blocks)} units when asked for {len(names)}; "
            "is one of the names not a unit name?"
        )
    return {name: _parse_block(block) for name, block in zip(names, blocks, strict=True)}


def _parse_block(block: str) -> Unit:
    values = dict(line.split("=", 1) for line in block.splitlines() if "=" in line)
    return Unit(
        load=values.get("LoadState", "not-found"),
        active=values.get("ActiveState", "inactive"),
        sub=values.get("SubState", ""),
        file_state=values.get("UnitFileState", ""),
        needs_reload=values.get("NeedDaemonReload") == "yes",
        left_inactive=parse_timestamp(values.get("InactiveExitTimestamp", "")),
        left_inactive_monotonic=int(values.get("InactiveExitTimestampMonotonic") or 0),
        restarts=int(values.get("NRestarts") or 0),
    )


def parse_timestamp(text: str) -> int:
    """``Mon 2026-11-23 08:10:29.123456 UTC`` in microseconds since 1970; 0 for none."""
    if not text or text in ("n/a", "0"):
        return 0
    stamp = datetime.datetime.strptime(" ".join(text.split()[1:3]), "%Y-%m-%d %H:%M:%S.%f")
    return (stamp - datetime.datetime(1970, 1, 1)) // datetime.timedelta(microseconds=1)


def plan_files(wanted: Sequence[Wanted], units: Mapping[str, Unit], predict: bool) -> FilePlan:
    """What to mask, enable and so on. *predict*: check mode, where a unit may not exist yet."""
    unmask: list[str] = []
    unmask_runtime: list[str] = []
    mask: list[str] = []
    enable: list[str] = []
    disable: list[str] = []
    for want in wanted:
        unit = units[want.name]
        masked = unit.file_state.startswith("masked") or unit.load == "masked"
        if want.masked and not masked:
            mask.append(want.name)
        if want.masked is False and masked:
            until_boot = unit.file_state == "masked-runtime"
            (unmask_runtime if until_boot else unmask).append(want.name)
        if want.enabled and unit.file_state == "static":
            raise KubewrightError(
                f"{want.name} cannot be enabled: its unit file has no [Install] section. Add "
                "one, or omit enabled."
            )
        if want.enabled and unit.file_state not in ENABLED:
            if not unit.known and not predict:
                raise KubewrightError(_unknown(want.name))
            enable.append(want.name)
        if want.enabled is False and unit.file_state in (*ENABLED, "enabled-runtime"):
            disable.append(want.name)
    return FilePlan(*map(tuple, (unmask, unmask_runtime, mask, enable, disable)))


def next_action(want: Wanted, unit: Unit, clock: Clock, predict: bool) -> str:
    """``start``, ``wait`` (it is starting already), ``stop``, ``restart`` or nothing ("")."""
    if want.state == "stopped":
        return "" if unit.active in STOPPED else "stop"
    if want.state is None and unit.active not in RUNNING:
        return ""  # restart_after alone never starts a unit
    if not unit.known and not predict:
        raise KubewrightError(_unknown(want.name))
    if unit.active in RUNNING:
        started = unit.started_at(clock.now, clock.now_monotonic)
        newer = [path for path in want.restart_after if clock.mtimes.get(path, 0) > started]
        undone = foreign_sysctls(want, clock) or clock.writable.intersection(want.read_only)
        return "restart" if newer or undone or want.answers in clock.silent else ""
    if unit.active == "activating":
        return "restart" if unit.sub.startswith("auto-restart") else "wait"
    return "start"


def foreign_sysctls(want: Wanted, clock: Clock) -> list[str]:
    """Names of kernel settings that have another value than the unit gives them."""
    return [
        name
        for name, value in sorted(want.sysctls.items())
        if name in clock.sysctls and clock.sysctls[name].split() != value.split()
    ]


def first_run(
    wanted: Sequence[Wanted], units: Mapping[str, Unit], clock: Clock, predict: bool
) -> tuple[str, list[str], int]:
    """The first units in a row with the same action: action, names, index after the last one.

    One ``systemctl`` call does a whole run; within it the units' own ``After=`` decides. Units
    that need nothing do not break a run. ("", [], len) when nothing is left to do.
    """
    action = ""
    names: list[str] = []
    for index, want in enumerate(wanted):
        here = next_action(want, units[want.name], clock, predict)
        if not here:
            continue
        if action and here != action:
            return action, names, index
        action = here
        names.append(want.name)
    return action, names, len(wanted)


def failed(want: Wanted, unit: Unit) -> bool:
    """Whether a unit that was asked to run is down or going up and down."""
    return want.state == "started" and (
        unit.active == "failed" or unit.sub.startswith("auto-restart")
    )


def describe(unit: Unit) -> str:
    """One line for a diff: ``enabled, active``."""
    return f"{unit.file_state or unit.load}, {unit.active}"


def _unknown(name: str) -> str:
    return (
        f"This node has no unit {name}. Write its unit file (or install the package that "
        "contains it) before enabling or starting it."
    )
