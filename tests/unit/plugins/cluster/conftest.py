# SPDX-License-Identifier: Apache-2.0
"""A cluster's place of epochs on this machine, and another run that lives."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from ansible_collections.kubewright.cluster.plugins.module_utils._cluster import epoch as epochs


@pytest.fixture
def place(tmp_path: Path) -> epochs.Place:
    return epochs.Place(tmp_path / "demo" / "store.json", tmp_path / "demo" / "lock")


@pytest.fixture
def other() -> Iterator[int]:
    """The process id of a run that is not this one."""
    process = subprocess.Popen(["sleep", "600"])
    yield process.pid
    process.kill()
    process.wait()
