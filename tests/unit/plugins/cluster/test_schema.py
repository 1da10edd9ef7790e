# SPDX-License-Identifier: Apache-2.0
"""Kept states: older ones are brought up, newer ones refused, and a kill in between is repaired."""

from __future__ import annotations

import dataclasses
import json
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from ansible_collections.kubewright.cluster.plugins.module_utils._base import atomic
from ansible_collections.kubewright.cluster.plugins.module_utils._base.errors import KubewrightError
from ansible_collections.kubewright.cluster.plugins.module_utils._cluster import (
    epoch,
    identity_making,
    schema,
    state,
)
from ansible_collections.kubewright.cluster.plugins.module_utils._cluster.claims import Claim
from ansible_collections.kubewright.cluster.plugins.module_utils._cluster.release import VERSION
from ansible_collections.kubewright.cluster.plugins.module_utils._fence import fencing
from ansible_collections.kubewright.cluster.plugins.plugin_utils import _inventory

from kubewright.act import Session
from kubewright.locations import ClusterPaths
from kubewright.store import StoreError
from kubewright.store.ownership import require_own

EveryKill = Callable[[Callable[[], object]], Iterator[int]]
NEWER = {"schema": 7, "kubewright": "0.9.3"}


def split(directory: Path) -> None:
    """As a later version might: what was one file is two."""
    old = directory / "both"
    if old.exists():
        one, other = old.read_text().split()
        for name, text in (("one", one), ("other", other)):
            atomic.write_file(directory / name, text.encode(), mode=0o600)
        atomic.remove_if_there(old)


def rename(directory: Path) -> None:
    if (directory / "one").exists():
        (directory / "one").rename(directory / "first")


LATER = dataclasses.replace(schema.CLUSTER, migrations=(*schema.CLUSTER.migrations, split, rename))


def stamp(directory: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((directory / schema.FILE).read_text())
    return found


def files(directory: Path) -> dict[str, str]:
    names = sorted(entry.name for entry in directory.iterdir() if entry.name != schema.FILE)
    return {name: (directory / name).read_text() for name in names}


@pytest.mark.parametrize("begin", [None, 0, 1])
def test_what_was_kept_before_is_brought_up(tmp_path: Path, begin: int | None) -> None:
    (tmp_path / "both").write_text("a b")
    if begin is not None:
        (tmp_path / schema.FILE).write_text(json.dumps({"schema": begin, "kubewright": "0.0.1"}))
    LATER.bring_up(tmp_path)
    assert files(tmp_path) == {"first": "a", "other": "b"}
    assert stamp(tmp_path) == {"schema": 3, "kubewright": VERSION}
    assert (tmp_path / schema.FILE).stat().st_mode & 0o777 == 0o600
    before = (tmp_path / schema.FILE).stat().st_ino
    LATER.bring_up(tmp_path)
    assert (tmp_path / schema.FILE).stat().st_ino == before, "there was nothing to do"


def test_a_migration_that_was_killed_is_finished_by_the_next_run(
    tmp_path: Path, every_kill: EveryKill
) -> None:
    directory = tmp_path / "state"

    def begun() -> None:
        directory.mkdir(exist_ok=True)
        for entry in directory.iterdir():
            entry.unlink()
        (directory / "both").write_text("a b")

    begun()
    for _ in every_kill(lambda: LATER.bring_up(directory)):
        LATER.bring_up(directory)
        assert files(directory) == {"first": "a", "other": "b"}
        assert stamp(directory)["schema"] == 3
        begun()


def test_a_newer_one_is_refused_and_what_to_use_is_told(tmp_path: Path) -> None:
    (tmp_path / schema.FILE).write_text(json.dumps(NEWER))
    for use in (schema.CLUSTER.require, schema.CLUSTER.bring_up):
        with pytest.raises(KubewrightError) as refused:
            use(tmp_path)
        assert str(refused.value) == (
            f"{tmp_path}, the state of a cluster, has schema 7, but this Kubewright {VERSION} "
            f"only supports schema {schema.CLUSTER.newest}. Nothing was changed. Use Kubewright "
            "0.9.3 or newer."
        )


@pytest.mark.parametrize(
    "text", ["", "[]", "{}", '{"schema": true, "kubewright": ""}', '{"schema": 1']
)
def test_a_damaged_number_is_refused_and_what_to_write_is_told(tmp_path: Path, text: str) -> None:
    (tmp_path / schema.FILE).write_text(text)
    with pytest.raises(KubewrightError) as refused:
        schema.NODE.bring_up(tmp_path)
    said = str(refused.value)
    assert f"{tmp_path}/schema.json is damaged" in said and "Nothing was changed." in said
    mine = f'{{"schema": {schema.NODE.newest}, "kubewright": "{VERSION}"}}'
    assert f"write {mine} into it" in said
    assert (tmp_path / schema.FILE).read_text() == text


# The state of a cluster


@pytest.fixture
def paths(tmp_path: Path) -> ClusterPaths:
    found = ClusterPaths(tmp_path / "demo")
    found.state.mkdir(mode=0o700)
    return found


def test_whoever_writes_a_state_says_of_which_make_it_is(paths: ClusterPaths) -> None:
    newest = {"schema": schema.CLUSTER.newest, "kubewright": VERSION}
    uses: list[Callable[[], object]] = [
        lambda: Session(paths, "apply").__enter__().__exit__(),
        lambda: identity_making.ensure(paths.identity, "demo", "", check_mode=False),
        lambda: epoch.take(epoch.Place(paths.store, paths.lock), os.getpid(), [], check_mode=False),
    ]
    for use in uses:
        (paths.state / schema.FILE).unlink(missing_ok=True)
        use()
        assert stamp(paths.state) == newest


def test_a_newer_state_is_refused_before_anything_is_touched(
    paths: ClusterPaths, tmp_path: Path
) -> None:
    (paths.state / schema.FILE).write_text(json.dumps(NEWER))
    place = epoch.Place(paths.store, paths.lock)
    told = "Use Kubewright 0.9.3 or newer"
    with pytest.raises(StoreError, match=told):
        require_own(paths, "demo", tmp_path / "cluster.yml")
    with pytest.raises(StoreError, match=told), Session(paths, "plan"):
        pytest.fail("the body must not be entered")
    for check in (True, False):
        with pytest.raises(KubewrightError, match=told):
            identity_making.ensure(paths.identity, "demo", "", check_mode=check)
        with pytest.raises(KubewrightError, match=told):
            epoch.take(place, os.getpid(), [], check_mode=check)
        with pytest.raises(KubewrightError, match=told):
            epoch.check(place, Claim(1), [], check_mode=check)
    assert [entry.name for entry in paths.state.iterdir()] == [schema.FILE]


def test_a_plain_inventory_is_told_so_at_its_start(paths: ClusterPaths) -> None:
    (paths.state / schema.FILE).write_text(json.dumps(NEWER))
    variables = {"kubewright_state_dir": str(paths.state), "kubewright_cluster_name": "demo"}
    host = {**variables, "ansible_host": "192.0.2.1"}
    groups, hosts = {"control_plane": ["one"]}, {"localhost": variables, "one": host}
    (barred,) = _inventory.read(groups, hosts, lambda _: "").barred
    assert "Use Kubewright 0.9.3 or newer" in barred
    with state.locked(paths.state.with_name("other"), check_mode=True):
        pass


# A node


def test_whoever_writes_on_a_node_says_of_which_make_it_is(node: Path) -> None:
    for _ in range(2):
        with fencing.node_lock(Claim(1, "a"), 0, opens=False):
            newest = {"schema": schema.NODE.newest, "kubewright": VERSION}
            assert stamp(node / "var") == newest


@pytest.mark.parametrize("how", [{"check_mode": True}, {"writes": False}, {}])
def test_a_newer_node_is_refused_before_anything_is_touched(
    node: Path, how: dict[str, bool]
) -> None:
    (node / "var").mkdir(parents=True)
    (node / "var" / schema.FILE).write_text(json.dumps(NEWER))
    with (
        pytest.raises(KubewrightError, match=r"Use Kubewright 0\.9\.3 or newer"),
        fencing.node_lock(Claim(1, "a"), 0, opens=False, **how),
    ):
        pytest.fail("the body must not be entered")
    assert [entry.name for entry in (node / "var").iterdir()] == [schema.FILE]
    assert not (node / "run").exists()
