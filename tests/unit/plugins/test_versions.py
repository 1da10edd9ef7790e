# SPDX-License-Identifier: Apache-2.0
"""The package brings the collection of its own version along."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import yaml

from kubewright import __version__

ROOT = Path(__file__).parents[3]


def test_collection_and_package_have_one_version() -> None:
    assert yaml.safe_load((ROOT / "galaxy.yml").read_text())["version"] == __version__


def test_nothing_is_built_of_two_versions(tmp_path: Path) -> None:
    (tmp_path / "tools").mkdir()
    package = tmp_path / "orchestrator/src/kubewright"
    package.mkdir(parents=True)
    (tmp_path / "tools/dist.py").write_bytes((ROOT / "tools/dist.py").read_bytes())
    (tmp_path / "galaxy.yml").write_text("version: 0.2.0\n")
    (package / "__init__.py").write_text('__version__ = "0.1.0"\n')
    tool = [sys.executable, str(tmp_path / "tools/dist.py")]
    ended = subprocess.run(tool, capture_output=True, text=True, check=False, timeout=60)
    assert ended.returncode == 1
    assert "galaxy.yml has 0.2.0, orchestrator/src/kubewright/__init__.py has 0.1.0" in ended.stderr
    assert not (tmp_path / "dist").exists()
