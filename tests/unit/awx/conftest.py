# SPDX-License-Identifier: Apache-2.0
"""The checkout as the installed collection, for runs of ansible-playbook and for imports."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

import ansible_collections
import pytest

CHECKOUT = Path(__file__).resolve().parents[3]
sys.path += [str(CHECKOUT / "tools"), str(CHECKOUT / "tests" / "integration")]

# Goes with the interpreter; a link is removed, not what it points to.
TEMPORARY = tempfile.TemporaryDirectory(prefix="kubewright-collections-")
PLACE = Path(TEMPORARY.name, "ansible_collections", "kubewright")
PLACE.mkdir(parents=True)
(PLACE / "cluster").symlink_to(CHECKOUT)
ansible_collections.__path__ = [str(PLACE.parent), *ansible_collections.__path__]


@pytest.fixture
def collections_path() -> Path:
    """For ``ANSIBLE_COLLECTIONS_PATH``."""
    return Path(TEMPORARY.name)


Play = Callable[..., "subprocess.CompletedProcess[str]"]


@pytest.fixture
def play(tmp_path: Path, collections_path: Path) -> Play:
    """Run ansible-playbook with words and an environment."""

    def run(*words: str, **environment: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [Path(sys.executable).with_name("ansible-playbook"), *words],
            cwd=tmp_path,
            env={
                **os.environ,
                "ANSIBLE_COLLECTIONS_PATH": str(collections_path),
                "ANSIBLE_LOCAL_TEMP": str(tmp_path / "local"),
                "ANSIBLE_LOCALHOST_WARNING": "false",
                "ANSIBLE_STDOUT_CALLBACK": "ansible.posix.json",
                "no_proxy": "*",
                **environment,
            },
            capture_output=True,
            text=True,
            timeout=150,
            check=False,
        )

    return run
