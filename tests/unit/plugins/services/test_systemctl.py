# SPDX-License-Identifier: Apache-2.0
"""Units are brought to their state with few calls, in order, and failures explain themselves."""

from __future__ import annotations

import os
import time
from pathlib import Path
from typing import Any

import pytest
from ansible_collections.kubewright.cluster.plugins.module_utils._base import commands
from ansible_collections.kubewright.cluster.plugins.module_utils._base.errors import KubewrightError
from ansible_collections.kubewright.cluster.plugins.module_utils._fence import sealed
from ansible_collections.kubewright.cluster.plugins.module_utils._services import systemctl
from ansible_collections.kubewright.cluster.plugins.module_utils._services.systemd import Wanted
from making import RunModule, make


class Systemd:
    """A systemd that keeps states in memory: a `Runner` for ``systemctl`` and ``journalctl``."""

    def __init__(self, **units: str) -> None:
        self.active = {name.replace("_", "."): state for name, state in units.items()}
        self.files = dict.fromkeys(self.active, "disabled")
        self.started = dict.fromkeys(self.active, time.time_ns() // 1000)
        self.stale: set[str] = set()
        self.unread: set[str] = set()
        self.broken: set[str] = set()
        self.crashing: set[str] = set()
        self.dependants: dict[str, list[str]] = {}
        self.calls: list[str] = []

    def __call__(self, argv: Any, *, timeout: float = 0, stdin: str = "") -> commands.Result:
        words = [word for word in argv[1:] if not word.startswith("--")]
        if argv[0] == "journalctl":
            return commands.Result(tuple(argv), 0, "line one\ncannot bind port\n", "")
        verb, names = words[0], words[1:]
        self.calls.append(" ".join(words))
        text, status = "", 0
        if verb == "show":
            text = "\n".join(self._describe(name) for name in names)
        elif verb == "daemon-reload":
            self.stale.clear()
            self.unread.clear()
        elif verb in ("enable", "disable", "mask"):
            self.files.update(dict.fromkeys(names, f"{verb}ed".replace("eed", "ed")))
        elif verb == "unmask":
            self.files.update(dict.fromkeys(names, "disabled"))
        elif verb in ("start", "restart"):
            status = self._start(names)
        elif verb == "stop":
            self.active.update(dict.fromkeys(names, "inactive"))
        return commands.Result(tuple(argv), status, text, "Job failed." if status else "")

    def _start(self, names: list[str]) -> int:
        taken_along = [late for name in names for late in self.dependants.get(name, [])]
        for name in [*names, *taken_along]:
            self.active[name] = "failed" if name in self.broken | self.crashing else "active"
            self.started[name] = time.time_ns() // 1000
        return 1 if self.broken.intersection(names) else 0

    def _describe(self, name: str) -> str:
        load = "loaded" if name in self.active else "not-found"
        load = "error" if name in self.unread else load
        stamp = time.strftime(
            "%a %Y-%m-%d %H:%M:%S", time.gmtime(self.started.get(name, 0) // 10**6)
        )
        micro = self.started.get(name, 0) % 10**6
        ago = time.time_ns() // 1000 - self.started.get(name, 0)
        return (
            f"Id={name}\nLoadState={load}\n"
            f"ActiveState={self.active.get(name, 'inactive')}\nSubState=x\n"
            f"UnitFileState={self.files.get(name, '')}\n"
            f"NeedDaemonReload={'yes' if name in self.stale else 'no'}\n"
            f"InactiveExitTimestamp={stamp}.{micro:06d} UTC\n"
            f"InactiveExitTimestampMonotonic={time.monotonic_ns() // 1000 - ago}\n"
        )

    def changes(self) -> list[str]:
        return [call for call in self.calls if not call.startswith("show")]


def converge(systemd: Systemd, *wanted: Wanted, predict: bool = False) -> systemctl.Report:
    return systemctl.Services(systemd, 10, predict).converge(wanted)


def on(name: str, *paths: Path, **more: Any) -> Wanted:
    return Wanted(name, state="started", restart_after=tuple(map(str, paths)), **more)


def future(path: Path, seconds: float) -> Path:
    """*path* with a time stamp some seconds from now."""
    path.touch()
    stamp = time.time_ns() + int(seconds * 10**9)
    os.utime(path, ns=(stamp, stamp))
    return path


def test_unchanged_units_cost_one_call() -> None:
    systemd = Systemd(a_service="active", b_mount="active")
    report = converge(systemd, on("a.service"), on("b.mount"))
    assert len(systemd.calls) == 1
    assert not any(report.actions().values())


def test_enable_and_start_together() -> None:
    systemd = Systemd(a_service="inactive", b_service="inactive", c_service="active")
    report = converge(
        systemd,
        on("a.service", enabled=True),
        on("b.service", enabled=True),
        Wanted("c.service", enabled=False, state="stopped"),
    )
    assert systemd.changes() == [
        "enable a.service b.service",
        "start a.service b.service",
        "stop c.service",
    ]
    assert report.started == ["a.service", "b.service"]
    assert report.enabled == ["a.service", "b.service"]
    assert report.stopped == ["c.service"]


def test_changed_unit_file_is_loaded_first() -> None:
    systemd = Systemd(a_service="active")
    systemd.stale.add("a.service")
    converge(systemd, on("a.service"))
    assert systemd.changes() == ["daemon-reload"]


def test_failed_unit_is_reset_before_its_start() -> None:
    systemd = Systemd(a_service="failed")
    converge(systemd, on("a.service"))
    assert systemd.changes() == ["reset-failed a.service", "start a.service"]


def test_restart_when_a_file_is_newer_and_never_twice(tmp_path: Path) -> None:
    systemd = Systemd(a_service="active")
    path = future(tmp_path / "config", 0)
    report = converge(systemd, on("a.service", path, tmp_path / "missing"))
    assert report.restarted == ["a.service"]
    report = converge(systemd, on("a.service", path))
    assert report.restarted == []


def test_file_from_the_future_restarts_once(tmp_path: Path) -> None:
    systemd = Systemd(a_service="active")
    path = future(tmp_path / "config", 3600)
    assert converge(systemd, on("a.service", path)).restarted == ["a.service"]
    assert converge(systemd, on("a.service", path)).restarted == []


@pytest.mark.parametrize("name", ["foreign", "below/foreign"])
def test_a_directory_counts_with_what_came_and_went_below(tmp_path: Path, name: str) -> None:
    (tmp_path / "below").mkdir()
    (tmp_path / name).touch()
    for place in (tmp_path, tmp_path / "below"):
        os.utime(place, (1, 1))
    systemd = Systemd(a_service="active")
    systemd.started["a.service"] -= 10**6
    assert converge(systemd, on("a.service", tmp_path)).restarted == []
    (tmp_path / name).unlink()
    assert converge(systemd, on("a.service", tmp_path)).restarted == ["a.service"]
    future((tmp_path / name).parent, 3600)
    assert converge(systemd, on("a.service", tmp_path)).restarted == ["a.service"]
    assert converge(systemd, on("a.service", tmp_path)).restarted == []


def test_switched_link_counts_not_its_target(tmp_path: Path) -> None:
    target = future(tmp_path / "target", 3600)
    link = tmp_path / "active"
    link.symlink_to(target)
    os.utime(link, ns=(0, 0), follow_symlinks=False)
    systemd = Systemd(a_mount="active")
    # The kernel stamps files with a coarser clock than ours: by milliseconds in the past.
    systemd.started["a.mount"] -= 10**6
    assert converge(systemd, on("a.mount", link)).restarted == []
    os.utime(link, follow_symlinks=False)
    assert converge(systemd, on("a.mount", link)).restarted == ["a.mount"]
    assert target.stat().st_mtime > time.time() + 60, "the target was not touched"


def test_dependant_that_was_taken_along_is_not_restarted_again(tmp_path: Path) -> None:
    systemd = Systemd(a_mount="active", x_service="inactive", b_service="active")
    systemd.dependants = {"a.mount": ["b.service"]}
    path = future(tmp_path / "active", 0)
    report = converge(systemd, on("a.mount", path), on("x.service"), on("b.service", path))
    assert systemd.changes() == ["restart a.mount", "start x.service"]
    assert report.restarted == ["a.mount"]


def test_failed_start_carries_the_journal() -> None:
    systemd = Systemd(a_service="inactive")
    systemd.broken.add("a.service")
    with pytest.raises(KubewrightError) as caught:
        converge(systemd, on("a.service"))
    assert "a.service could not be started: Job failed." in str(caught.value)
    assert "cannot bind port" in str(caught.value)
    assert "journalctl -u a.service" in str(caught.value)


def test_unit_that_dies_after_its_start_is_a_failure() -> None:
    systemd = Systemd(a_service="inactive")
    systemd.crashing.add("a.service")
    with pytest.raises(KubewrightError, match=r"a\.service exits right after its start"):
        converge(systemd, on("a.service"))


def test_unknown_unit_is_looked_up_after_a_reload() -> None:
    systemd = Systemd()
    with pytest.raises(KubewrightError, match=r"no unit a\.service"):
        converge(systemd, on("a.service"))
    assert systemd.changes() == ["daemon-reload"]


def test_a_unit_file_that_came_back_is_read_again() -> None:
    """systemd 252 stumbles over the file of a unit that runs and had lost it: EBUSY."""
    systemd = Systemd(a_service="active")
    systemd.unread.add("a.service")
    converge(systemd, on("a.service"))
    assert systemd.changes() == ["daemon-reload"]


def test_a_place_that_was_made_writable_is_closed_by_a_restart(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    systemd = Systemd(seal_service="active")
    places = {"/a": True, "/b": False}
    monkeypatch.setattr(sealed, "writable", lambda names: [name for name in names if places[name]])
    want = on("seal.service", read_only=("/a", "/b"))
    assert converge(systemd, want, predict=True).restarted == ["seal.service"]
    assert systemd.changes() == []
    with pytest.raises(KubewrightError, match="/a is still writable"):
        converge(systemd, want)
    places["/a"] = False
    assert converge(systemd, want).restarted == []


def test_a_service_that_does_not_answer_is_restarted(monkeypatch: pytest.MonkeyPatch) -> None:
    """A containerd that stands still: systemd calls it active, and no pod starts."""
    systemd = Systemd(a_service="active", b_service="inactive")
    said = {"why": "it does not answer within 2 s"}
    monkeypatch.setitem(systemctl.ANSWERS, "thing", lambda: said["why"])
    want = on("a.service", answers="thing")
    assert converge(systemd, want, predict=True).restarted == ["a.service"]
    assert systemd.changes() == []
    with pytest.raises(KubewrightError, match="was started, but it does not answer"):
        converge(systemd, want)
    assert systemd.changes() == ["restart a.service"]
    said["why"] = ""
    assert converge(systemd, want).restarted == []
    said["why"] = "there is no socket"
    assert converge(systemd, on("b.service", answers="thing"), predict=True).started == [
        "b.service"
    ]


def test_prediction_changes_nothing() -> None:
    systemd = Systemd(a_service="inactive")
    report = converge(systemd, on("a.service", enabled=True), on("new.service"), predict=True)
    assert report.started == ["a.service", "new.service"]
    assert report.enabled == ["a.service"]
    assert systemd.changes() == []


def test_by_the_module(run_module: RunModule, monkeypatch: pytest.MonkeyPatch) -> None:
    systemd = Systemd(a_service="inactive")
    monkeypatch.setattr(commands, "SystemRunner", lambda _fds=(): systemd)
    units = [{"name": "a.service", "state": "started", "enabled": True}]
    predicted = make(run_module, "units", units, check=True)
    assert (predicted["changed"], systemd.changes()) == (True, [])
    result = make(run_module, "units", units)
    assert result["done"] == predicted["done"] == ["a.service (started)", "a.service (enabled)"]
    assert result["diff"] == [
        {
            "before_header": "a.service",
            "after_header": "a.service",
            "before": "disabled, inactive\n",
            "after": "enabled, active (started, enabled)\n",
        }
    ]
    assert make(run_module, "units", units)["changed"] is False
    assert make(run_module, "units", [])["changed"] is False
    systemd.broken.add("a.service")
    systemd.active["a.service"] = "inactive"
    told = make(run_module, "units", units)["msg"]
    assert told.startswith("role: a.service could not be started") and "cannot bind port" in told
