# SPDX-License-Identifier: Apache-2.0
"""The package takes its rules from the collection of its own version, cheaply or not at all."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import kubewright

PACKAGE = Path(kubewright.__file__).parent
ROOM = "ansible_collections/kubewright/cluster/plugins/module_utils/_cluster"


def python(code: str, *path: Path) -> subprocess.CompletedProcess[str]:
    """Run code where the package came without a collection, and *path* has what else there is."""
    places = [*map(str, path), str(PACKAGE.parent), *sys.path]
    lines = ["import sys", f"sys.prefix = '/nowhere'; sys.path[:0] = {places!r}", code]
    return subprocess.run(
        [sys.executable, "-c", "\n".join(lines)], capture_output=True, text=True, check=False
    )


def test_the_command_says_that_its_collection_is_missing() -> None:
    ended = python("from kubewright.cli import main; main()")
    assert (ended.returncode, ended.stdout) == (1, "")
    told = f"kubewright: the collection kubewright.cluster {kubewright.__version__}, which the "
    assert ended.stderr.startswith(told)
    assert "is not in /nowhere/share/kubewright/" in ended.stderr
    assert f"pip install --force-reinstall --no-deps kubewright=={kubewright.__version__}" in (
        ended.stderr
    )


def test_a_collection_of_another_version_is_refused(tmp_path: Path) -> None:
    room = tmp_path / ROOM
    room.mkdir(parents=True)
    (room / "release.py").write_text('VERSION = "0.0.9"\n')
    # As Ansible does it, which has loaded the collection that it runs.
    loaded = (
        "from types import ModuleType\n"
        "for name in ('ansible_collections', 'ansible_collections.kubewright'):\n"
        "    sys.modules[name] = ModuleType(name)\n"
        f"    sys.modules[name].__path__ = [{str(tmp_path)!r} + '/' + name.replace('.', '/')]\n"
        "from kubewright.cli import main; main()"
    )
    ended = python(loaded)
    assert ended.returncode == 1
    place = tmp_path / "ansible_collections/kubewright/cluster"
    assert f"kubewright.cluster is 0.0.9 ({place})" in ended.stderr
    assert f"is {kubewright.__version__} ({PACKAGE})" in ended.stderr


def test_the_rules_bring_no_ansible_along() -> None:
    """Each command and each start of Ansible pays for what they import."""
    code = "import json, sys, kubewright.agreed; print(json.dumps(sorted(sys.modules)))"
    ended = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    loaded = {name.split(".")[0] for name in json.loads(ended.stdout)}
    foreign = {"ansible", "cryptography", "kubernetes", "pydantic", "yaml"}
    assert loaded & foreign == set()
