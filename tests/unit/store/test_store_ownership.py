# SPDX-License-Identifier: Apache-2.0
"""A state is of one cluster.yml, whatever others are called."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from kubewright.locations import ClusterPaths
from kubewright.store import StoreError
from kubewright.store.ownership import ForeignState, require_own

CLUSTER = "name: prod\nversion: '1.37'\n"


@pytest.fixture
def paths(tmp_path: Path) -> ClusterPaths:
    made = ClusterPaths(tmp_path / "state" / "prod")
    made.state.mkdir(parents=True)
    return made


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return write(tmp_path / "a" / "cluster.yml")


def write(file: Path, text: str = CLUSTER) -> Path:
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(text)
    return file


def belongs_to(paths: ClusterPaths, file: Path | str) -> None:
    record = {"schema": 1, "file": str(file), "ids": ["id"], "providers": ["local"]}
    paths.record.write_text(json.dumps(record))


def test_a_new_state_is_nobodys_and_an_old_one_is_taken_over(
    paths: ClusterPaths, file: Path
) -> None:
    assert require_own(paths, "prod", file) == ""
    paths.identity.mkdir()
    assert f"apply records {file}" in require_own(paths, "prod", file)


@pytest.mark.parametrize("how", ["itself", "link", "hard link", "relative"])
def test_the_same_file_by_any_name(
    paths: ClusterPaths, file: Path, how: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    belongs_to(paths, file)
    other = file.with_name("other.yml")
    if how == "link":
        other.symlink_to(file)
    elif how == "hard link":
        other.hardlink_to(file)
    elif how == "relative":
        monkeypatch.chdir(file.parent)
        other = Path("cluster.yml")
    assert require_own(paths, "prod", file if how == "itself" else other) == ""


@pytest.mark.parametrize("text", [CLUSTER, "a: ["])
def test_another_file_of_the_name_is_refused(
    paths: ClusterPaths, file: Path, tmp_path: Path, text: str
) -> None:
    """A file that can't be read now may be its owner's all the same."""
    belongs_to(paths, write(tmp_path / "b" / "cluster.yml", text))
    with pytest.raises(ForeignState) as refused:
        require_own(paths, "prod", file)
    said = str(refused.value)
    assert f"that of {tmp_path / 'b' / 'cluster.yml'}" in said and str(file) in said
    assert "Give this cluster another name" in said and "KUBEWRIGHT_STATE_DIR" in said


@pytest.mark.parametrize("now", ["", "name: other\n", "[]"])
def test_a_file_that_was_moved_takes_its_state_along(
    paths: ClusterPaths, file: Path, tmp_path: Path, now: str
) -> None:
    old = tmp_path / "b" / "cluster.yml"
    belongs_to(paths, old)
    if now:
        write(old, now)
    told = require_own(paths, "prod", file)
    assert (
        told == f"the state in {paths.state} belonged to {old}, which is gone: {file} takes it over"
    )


def test_a_plain_inventorys_state_is_anybodys(paths: ClusterPaths, file: Path) -> None:
    belongs_to(paths, "")
    assert require_own(paths, "prod", file) == ""


def test_a_damaged_record_is_told(paths: ClusterPaths, file: Path) -> None:
    paths.record.write_text("{")
    with pytest.raises(StoreError, match=r"record\.json is damaged"):
        require_own(paths, "prod", file)
