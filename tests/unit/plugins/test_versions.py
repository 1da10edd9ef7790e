# SPDX-License-Identifier: Apache-2.0
"""The package brings the collection of its own version along."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from ansible_collections.kubewright.cluster.plugins.module_utils._cluster.release import VERSION

from kubewright import __version__

ROOT = Path(__file__).parents[3]


def test_collection_and_package_have_one_version() -> None:
    assert yaml.safe_load((ROOT / "galaxy.yml").read_text())["version"] == __version__ == VERSION


@pytest.mark.parametrize("other", ["galaxy.yml", "package", "release"])
def test_nothing_is_built_of_two_versions(tmp_path: Path, other: str) -> None:
    version = {"galaxy.yml": "0.1.0", "package": "0.1.0", "release": "0.1.0", other: "0.2.0"}
    (tmp_path / "tools").mkdir()
    package = tmp_path / "orchestrator/src/kubewright"
    package.mkdir(parents=True)
    release = tmp_path / "plugins/module_utils/_cluster"
    release.mkdir(parents=True)
    (tmp_path / "tools/dist.py").write_bytes((ROOT / "tools/dist.py").read_bytes())
    (tmp_path / "galaxy.yml").write_text(f"version: {version['galaxy.yml']}\n")
    (package / "__init__.py").write_text(f'__version__ = "{version["package"]}"\n')
    (release / "release.py").write_text(f'VERSION = "{version["release"]}"\n')
    tool = [sys.executable, str(tmp_path / "tools/dist.py")]
    ended = subprocess.run(tool, capture_output=True, text=True, check=False, timeout=60)
    assert ended.returncode == 1
    files = {
        "galaxy.yml": "galaxy.yml",
        "package": "orchestrator/src/kubewright/__init__.py",
        "release": "plugins/module_utils/_cluster/release.py",
    }
    told = ", ".join(f"{file} has {version[name]}" for name, file in files.items())
    assert told in ended.stderr
    assert not (tmp_path / "dist").exists()
