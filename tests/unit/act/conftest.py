# SPDX-License-Identifier: Apache-2.0
"""A state directory, an inventory of two names for this machine, and a place for playbooks."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from kubewright.locations import ClusterPaths

INVENTORY = """\
all:
  vars: {ansible_connection: local, ansible_python_interpreter: "{{ ansible_playbook_python }}"}
  hosts: {one: {}, two: {}}
"""


@pytest.fixture
def paths(tmp_path: Path) -> ClusterPaths:
    return ClusterPaths(tmp_path / "demo")


@pytest.fixture(scope="session")
def inventory(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("inventory") / "inventory.yml"
    path.write_text(INVENTORY)
    return path


@pytest.fixture
def playbook(tmp_path: Path) -> Callable[[str], str]:
    def write(text: str) -> str:
        path = tmp_path / "playbook.yml"
        path.write_text(text)
        return str(path)

    return write
