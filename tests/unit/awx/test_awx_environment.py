# SPDX-License-Identifier: Apache-2.0
"""The execution environment has what the collection's code on the controller imports."""

from __future__ import annotations

import ast
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml
from ansible_builder._target_scripts.introspect import process_collection
from ansible_builder.ee_schema import validate_schema
from ansible_collections.kubewright.cluster.plugins.module_utils._cluster import pki
from packaging.requirements import Requirement

# ansible-builder hides tracebacks, of whoever imports it.
del sys.tracebacklimit

CHECKOUT = Path(__file__).resolve().parents[3]
PREFIX = "ansible_collections.kubewright.cluster."
#: What comes with ansible-core; its own requirements.
CORE = {"ansible", "jinja2", "yaml", "packaging"}


@pytest.mark.parametrize(
    "file", ["meta/execution-environment.yml", "awx/execution-environment.yml"]
)
def test_definitions_are_those_of_ansible_builder(file: str) -> None:
    definition = yaml.safe_load((CHECKOUT / file).read_text())
    assert definition["version"] == 3
    validate_schema(definition)


def test_ansible_builder_finds_what_the_collection_needs() -> None:
    python, system = process_collection(str(CHECKOUT))
    assert [Requirement(line).name for line in python] == ["cryptography"]
    assert {line.split()[0] for line in system} == {"openssh-client", "openssh-clients"}
    (needed,) = Requirement(python[0]).specifier
    assert needed.version == pki.MINIMUM_CRYPTOGRAPHY


def test_every_import_on_the_controller_is_provided() -> None:
    definition = yaml.safe_load((CHECKOUT / "awx/execution-environment.yml").read_text())
    python, _system = process_collection(str(CHECKOUT))
    lines = [*python, *definition["dependencies"]["python"]]
    provided = CORE | {Requirement(line).name for line in lines}
    kinds = ("action", "filter", "inventory", "callback", "plugin_utils")
    waiting = [file for kind in kinds for file in (CHECKOUT / "plugins" / kind).glob("*.py")]
    seen: set[Path] = set()
    third: dict[str, Path] = {}
    while waiting:
        file = waiting.pop()
        if file in seen:
            continue
        seen.add(file)
        for name in imports(file):
            if name.startswith(PREFIX):
                path = CHECKOUT / (name.removeprefix(PREFIX).replace(".", "/") + ".py")
                waiting += [path] if path.is_file() else []
            elif name.split(".")[0] not in sys.stdlib_module_names:
                third.setdefault(name.split(".")[0], file)
    third.pop("ansible_collections", None)
    assert {"ansible", "cryptography", "kubewright"} <= set(third), "the walk finds what is there"
    assert set(third) <= provided, third


def imports(file: Path) -> Iterator[str]:
    """The names of modules that a file imports, also of those that may be modules."""
    for node in ast.walk(ast.parse(file.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            yield node.module
            if node.module.startswith(PREFIX):
                yield from (f"{node.module}.{alias.name}" for alias in node.names)
