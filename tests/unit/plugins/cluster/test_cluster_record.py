# SPDX-License-Identifier: Apache-2.0
"""What a state keeps of its cluster: nothing that was ever used is forgotten."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
from ansible_collections.kubewright.cluster.plugins.module_utils._base.errors import KubewrightError
from ansible_collections.kubewright.cluster.plugins.modules import cluster_record

FIRST, SECOND = "id-1", "id-2"


def record(directory: Path, check: bool = False, **given: Any) -> dict[str, Any]:
    params = {"directory": str(directory), "cluster_id": None, "cluster_file": None}
    result = cluster_record.run({**params, "providers": [], **given}, check)
    return {key: result[key] for key in ("changed", "file", "ids", "providers")}


def test_what_is_new_is_added_and_nothing_goes(tmp_path: Path) -> None:
    state = tmp_path / "state"
    now = {"cluster_id": FIRST, "cluster_file": "/a/cluster.yml", "providers": ["static", "local"]}
    made = record(state, **now)
    assert made == {
        "changed": True,
        "file": "/a/cluster.yml",
        "ids": [FIRST],
        "providers": ["static", "local"],
    }
    assert (state / "record.json").stat().st_mode & 0o777 == 0o600
    assert record(state, **now) == {**made, "changed": False}
    # A pool went, the nodes were reset, and the file was moved.
    later = record(state, cluster_id=SECOND, cluster_file="/b/cluster.yml", providers=["static"])
    assert later == {**made, "file": "/b/cluster.yml", "ids": [FIRST, SECOND]}
    # An inventory without a cluster.yml may go on.
    assert record(state, cluster_id=SECOND, providers=["static"]) == {**later, "changed": False}


def test_check_mode_and_a_look_write_nothing(tmp_path: Path) -> None:
    predicted = record(tmp_path / "state", check=True, cluster_id=FIRST, providers=["local"])
    assert (predicted["changed"], predicted["providers"]) == (True, ["local"])
    looked = record(tmp_path / "state")
    assert looked == {"changed": False, "file": "", "ids": [], "providers": []}
    assert not (tmp_path / "state").exists()


def test_a_state_from_before_there_were_records(tmp_path: Path) -> None:
    (tmp_path / "identity").mkdir()
    (tmp_path / "identity/cluster.json").write_text(json.dumps({"cluster_id": FIRST}))
    machines = [{"name": "a", "provider": "local"}, {"name": "b", "provider": "local"}]
    (tmp_path / "machines.json").write_text(json.dumps({"machines": machines}))
    known = {"changed": False, "file": "", "ids": [FIRST], "providers": ["local"]}
    assert record(tmp_path) == known, "destroy asks the provider of a pool that has gone since"
    assert record(tmp_path, cluster_id=FIRST, providers=["static"]) == {
        **known,
        "changed": True,
        "providers": ["local", "static"],
    }
    shutil.rmtree(tmp_path / "identity")
    assert record(tmp_path)["ids"] == [FIRST], "machines outlive a reset"
    (tmp_path / "record.json").unlink()
    (tmp_path / "machines.json").write_text("{")
    assert record(tmp_path)["providers"] == [], "a cluster that is damaged can still be removed"


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"schema": 2}', '{"schema": 1, "file": "a"}'])
def test_a_damaged_record_is_not_replaced(tmp_path: Path, text: str) -> None:
    (tmp_path / "record.json").write_text(text)
    with pytest.raises(KubewrightError, match=r"record\.json is damaged"):
        record(tmp_path, cluster_id=FIRST, providers=["local"])
    assert (tmp_path / "record.json").read_text() == text
