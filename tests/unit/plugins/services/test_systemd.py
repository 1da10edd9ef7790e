# SPDX-License-Identifier: Apache-2.0
"""What systemd's words mean, and when a file is newer than a unit."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from ansible_collections.kubewright.cluster.plugins.module_utils._base.errors import KubewrightError
from ansible_collections.kubewright.cluster.plugins.module_utils._services import systemd
from ansible_collections.kubewright.cluster.plugins.module_utils._services.systemd import (
    Clock,
    Unit,
    Wanted,
)

# systemd 252, two units asked for, the second one unknown.
SHOW = """\
Id=containerd.service
LoadState=loaded
ActiveState=active
SubState=running
UnitFileState=enabled
NeedDaemonReload=no
InactiveExitTimestamp=Mon 2026-11-23 08:10:29.123456 UTC
InactiveExitTimestampMonotonic=81234567

Id=nothing.service
LoadState=not-found
ActiveState=inactive
SubState=dead
UnitFileState=
NeedDaemonReload=no
InactiveExitTimestamp=
InactiveExitTimestampMonotonic=0
"""
SECOND = 1_000_000
START = 1_795_421_429_123_456
CONFIG = "/etc/containerd/config.toml"
UNIT = Unit("loaded", "active", "running", "enabled", False, START, 100 * SECOND)
WANT = Wanted("containerd.service", state="started", restart_after=(CONFIG,))


def test_show_is_read() -> None:
    units = systemd.parse_show(SHOW, ["containerd.service", "nothing.service"])
    assert units["containerd.service"] == replace(UNIT, left_inactive_monotonic=81234567)
    assert not units["nothing.service"].known
    assert units["nothing.service"].left_inactive == 0


def test_show_with_another_number_of_units_is_refused() -> None:
    with pytest.raises(KubewrightError, match="described 2 units when asked for 1"):
        systemd.parse_show(SHOW, ["containerd.service"])


@pytest.mark.parametrize(
    ("after_start", "set_by", "suspended", "expected"),
    [
        (-1, 0, 0, ""),
        (1, 0, 0, "restart"),
        # The clock was set forward after the write: both stamps are of the old time.
        (60, 3600 * SECOND, 0, "restart"),
        (-60, 3600 * SECOND, 0, ""),
        # A suspend: the monotonic clock stood still, the wall clock did not.
        (60 * SECOND, 0, 3600 * SECOND, "restart"),
        (-60 * SECOND, 0, 3600 * SECOND, ""),
        # The clock was set back between start and write: by its stamp the file is older.
        (-1800 * SECOND, -3600 * SECOND, 0, "restart"),
    ],
)
def test_newer_file_restarts(after_start: int, set_by: int, suspended: int, expected: str) -> None:
    ran = 7200 * SECOND
    clock = Clock(
        now=START + ran + suspended + set_by,
        now_monotonic=UNIT.left_inactive_monotonic + ran,
        mtimes={CONFIG: START + after_start},
    )
    assert systemd.next_action(WANT, UNIT, clock, False) == expected


CLOCK = Clock(now=START + SECOND, now_monotonic=101 * SECOND, mtimes={CONFIG: START + 1})


@pytest.mark.parametrize(
    ("state", "active", "sub", "expected"),
    [
        ("started", "inactive", "dead", "start"),
        ("started", "failed", "failed", "start"),
        ("started", "deactivating", "stop-sigterm", "start"),
        ("started", "activating", "start", "wait"),
        ("started", "activating", "auto-restart", "restart"),
        ("started", "reloading", "reload", "restart"),
        ("stopped", "active", "running", "stop"),
        ("stopped", "activating", "auto-restart", "stop"),
        ("stopped", "inactive", "dead", ""),
        ("stopped", "failed", "failed", ""),
        (None, "active", "running", "restart"),
        (None, "inactive", "dead", ""),
    ],
)
def test_next_action(state: str | None, active: str, sub: str, expected: str) -> None:
    want = replace(WANT, state=state)
    unit = replace(UNIT, active=active, sub=sub)
    assert systemd.next_action(want, unit, CLOCK, False) == expected


def test_unknown_unit() -> None:
    unit = Unit("not-found", "inactive", "dead", "", False, 0, 0)
    with pytest.raises(KubewrightError, match=r"no unit containerd.service. Write its unit file"):
        systemd.next_action(WANT, unit, CLOCK, False)
    assert systemd.next_action(WANT, unit, CLOCK, True) == "start", "its file may come"
    assert systemd.next_action(replace(WANT, state="stopped"), unit, CLOCK, False) == ""


def test_neighbours_with_the_same_action_share_a_call() -> None:
    down = replace(UNIT, active="inactive")
    units = {"a": down, "b": UNIT, "c": down, "d": UNIT, "e": down}
    wanted = [
        Wanted("a", state="started"),
        Wanted("b", state="started"),
        Wanted("c", state="started"),
        Wanted("d", state="stopped"),
        Wanted("e", state="started"),
    ]
    action, names, after = systemd.first_run(wanted, units, CLOCK, False)
    assert (action, names) == ("start", ["a", "c"])
    action, names, after = systemd.first_run(wanted[after:], units, CLOCK, False)
    assert (action, names) == ("stop", ["d"])


@pytest.mark.parametrize(
    ("want", "file_state", "expected"),
    [
        ({"enabled": True}, "disabled", ("enable",)),
        ({"enabled": True}, "enabled", ()),
        ({"enabled": True}, "generated", ()),
        ({"enabled": False}, "enabled", ("disable",)),
        ({"enabled": False}, "static", ()),
        ({"masked": True}, "enabled", ("mask",)),
        ({"masked": True}, "masked", ()),
        ({"masked": False}, "masked", ("unmask",)),
        ({"masked": False, "enabled": True}, "masked", ("unmask", "enable")),
        ({}, "disabled", ()),
    ],
)
def test_unit_files(want: dict[str, Any], file_state: str, expected: tuple[str, ...]) -> None:
    units = {"u": replace(UNIT, file_state=file_state)}
    plan = systemd.plan_files([Wanted("u", **want)], units, False)
    verbs = [verb for verb in ("unmask", "mask", "enable", "disable") if getattr(plan, verb)]
    assert tuple(verbs) == expected


def test_static_unit_cannot_be_enabled() -> None:
    units = {"u": replace(UNIT, file_state="static")}
    with pytest.raises(KubewrightError, match=r"no \[Install\] section"):
        systemd.plan_files([Wanted("u", enabled=True)], units, False)
