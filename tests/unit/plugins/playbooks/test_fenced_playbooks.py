# SPDX-License-Identifier: Apache-2.0
"""Whatever writes to nodes says by what right: its run's epoch and id."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

CHECKOUT = Path(__file__).resolve().parents[4]
# That of AWX reaches no node.
PLAYBOOKS = sorted(set((CHECKOUT / "playbooks").glob("*.yml")) - {CHECKOUT / "playbooks/awx.yml"})
GROUP = "group/kubewright.cluster.node"
CLAIM = {
    "epoch": "{{ hostvars.localhost.kubewright_run.epoch }}",
    "run": "{{ hostvars.localhost.kubewright_run.run }}",
}
FENCED = {
    f"kubewright.cluster.{name}"
    for name in yaml.safe_load((CHECKOUT / "meta/runtime.yml").read_text())["action_groups"]["node"]
}


def tasks(entries: list[dict[str, Any]], directory: Path) -> Iterator[dict[str, Any]]:
    """All tasks, also of blocks, of files and of roles that are included."""
    for entry in entries:
        yield entry
        for part in ("block", "rescue", "always"):
            yield from tasks(entry.get(part) or [], directory)
        for word in ("import_tasks", "include_tasks"):
            if name := entry.get(f"ansible.builtin.{word}"):
                file = directory / name
                yield from tasks(yaml.safe_load(file.read_text()), file.parent)
        role = entry.get("ansible.builtin.include_role") or {}
        # Those of providers write to no node, and have a template for a name.
        place = CHECKOUT / "roles" / str(role.get("name", "")).rpartition(".")[2] / "tasks"
        if place.is_dir():
            name = f"{role.get('tasks_from', 'main')}.yml"
            yield from tasks(yaml.safe_load((place / name).read_text()), place)


@pytest.mark.parametrize("path", PLAYBOOKS, ids=[path.stem for path in PLAYBOOKS])
def test_plays_that_write_to_nodes_say_whose_they_are(path: Path) -> None:
    for play in yaml.safe_load(path.read_text()):
        every = [
            *play.get("pre_tasks", ()),
            *play.get("tasks", ()),
            *play.get("post_tasks", ()),
        ]
        writes = any(FENCED & set(task) for task in tasks(every, path.parent))
        claim = (play.get("module_defaults") or {}).get(GROUP)
        assert claim == (CLAIM if writes else None), play.get("name")


def test_some_do() -> None:
    """What reads the playbooks above reads them."""
    site = yaml.safe_load((CHECKOUT / "playbooks/site.yml").read_text())
    names = {
        word
        for play in site
        for task in tasks(play.get("tasks", []), CHECKOUT / "playbooks")
        for word in FENCED & set(task)
    }
    assert {"kubewright.cluster.node_parts", "kubewright.cluster.cluster_member"} <= names
