# SPDX-License-Identifier: Apache-2.0
"""The rooms of ``plugins/module_utils``: who may import whom, read from the source."""

from __future__ import annotations

import ast
import re
import sys
from collections.abc import Iterator
from functools import cache
from graphlib import TopologicalSorter
from pathlib import Path

import pytest
import yaml

CHECKOUT = Path(__file__).resolve().parents[3]
UTILS = CHECKOUT / "plugins/module_utils"
PACKAGE = "ansible_collections.kubewright.cluster.plugins.module_utils"

#: Each room, and the rooms that it imports. They stand above it: so there is no circle.
ROOMS = {
    "_onnode": "",
    "_base": "",
    "_cluster": "_base",
    "_machine": "_base _onnode",
    "_fence": "_base _cluster _machine _onnode",
    "_files": "_base",
    "_services": "_base _fence _onnode",
    "_kube": "_base _cluster _files _onnode _services",
    "_volume": "_base _cluster _kube _onnode",
    "_image": "_base _cluster _kube _onnode",
    "_check": "_base _cluster _machine _volume",
    "_decide": "_base _check _cluster",
    "_drift": "_base _files _image _kube _machine _onnode _services _volume",
    "_parts": "_base _cluster _fence _files _image _kube _machine _services _volume",
    "_reset": "_base _cluster _files _image _machine _services _volume",
}
#: What runs on the controller imports no room that works on a node, but for what is pure there.
CONTROLLER = {
    "action": "_cluster",
    "filter": "_cluster _kube",
    "inventory": "",
    "plugin_utils": "_base _cluster _image",
}


@cache
def tree(path: Path) -> ast.Module:
    return ast.parse(path.read_text())


def imported(path: Path) -> Iterator[str]:
    """The full names of all that a file imports: modules, or names in them."""
    for node in ast.walk(tree(path)):
        if isinstance(node, ast.Import):
            yield from (one.name for one in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert not node.level, f"{path}: a relative import"
            yield from (f"{node.module}.{one.name}" for one in node.names)


def files_used(path: Path) -> set[str]:
    """The files of rooms that a file imports, as ROOM/NAME."""
    names = [name.split(".") for name in imported(path) if name.startswith(f"{PACKAGE}.")]
    depth = len(PACKAGE.split("."))
    return {"/".join(name[depth : depth + 2]) for name in names}


def rooms_used(place: Path) -> set[str]:
    return {used.split("/")[0] for path in place.glob("*.py") for used in files_used(path)}


def test_every_file_is_in_a_room_of_the_table() -> None:
    assert [path.name for path in UTILS.glob("*.py")] == ["__init__.py"]
    found = {path.parent.name for path in UTILS.glob("*/*.py")}
    assert found == set(ROOMS)
    private = [path.name for path in UTILS.glob("*/_*.py") if path.name != "__init__.py"]
    assert private == [], "the room is private, so its files need not say so"


@pytest.mark.parametrize("room", ROOMS)
def test_a_room_imports_what_stands_above_it(room: str) -> None:
    """What the table says, and no less: what a room may do without it need not know."""
    assert rooms_used(UTILS / room) - {room} == set(ROOMS[room].split())
    above = list(ROOMS)[: list(ROOMS).index(room)]
    assert set(ROOMS[room].split()) <= set(above)


@pytest.mark.parametrize("kind", CONTROLLER)
def test_the_controller_imports_few_rooms(kind: str) -> None:
    assert rooms_used(CHECKOUT / "plugins" / kind) == set(CONTROLLER[kind].split())


def test_no_file_needs_itself() -> None:
    """Also within a room, where Python would only say so for some orders of imports."""
    graph = {
        f"{path.parent.name}/{path.stem}": files_used(path)
        for path in UTILS.glob("*/*.py")
        if path.stem != "__init__"
    }
    list(TopologicalSorter(graph).static_order())
    missing = {used for uses in graph.values() for used in uses} - set(graph)
    assert missing == set()


@pytest.mark.parametrize("room", ROOMS)
def test_a_room_says_what_it_is_for_and_for_whom(room: str) -> None:
    source = UTILS / room / "__init__.py"
    said = (ast.get_docstring(tree(source)) or "").split("\n")
    assert re.fullmatch(r"[A-Z].+\. For .+\.", said[0]), said
    assert len(tree(source).body) == 1, "each module that is sent to a node brings it along"


@pytest.mark.parametrize("room", ROOMS)
def test_the_table_of_the_documentation_says_the_same(room: str) -> None:
    what, _, _ = (ast.get_docstring(tree(UTILS / room / "__init__.py")) or "").rpartition(". For ")
    others = ", ".join(f"`{one}`" for one in ROOMS[room].split()) or "nothing"
    lines = (CHECKOUT / "docs/architecture.md").read_text().splitlines()
    assert f"| `{room}` | {what} | {others} |" in lines


def test_what_lies_on_nodes_needs_nothing_but_python() -> None:
    """It is the room's files that lie there, and each of them runs without a collection."""
    room = UTILS / "_onnode"
    variables = (CHECKOUT / "roles/system_volume/vars/main.yml").read_text()
    laid = set(re.findall(r"'(\w+)' \| kubewright\.cluster\.node_script", variables))
    assert yaml.safe_load(variables)
    assert laid == {path.stem for path in room.glob("*.py")} - {"__init__"}
    for path in room.glob("*.py"):
        others = {name.split(".")[0] for name in imported(path)} - {"ansible_collections", *laid}
        assert others <= sys.stdlib_module_names, path


def test_what_both_halves_agree_on_needs_no_ansible() -> None:
    """So that the command can import it as well."""
    for path in (UTILS / "_cluster").glob("*.py"):
        assert not [name for name in imported(path) if name.split(".")[0] == "ansible"], path
