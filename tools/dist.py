# SPDX-License-Identifier: Apache-2.0
"""Build what is published, into dist/: the collection's archive and the package's wheel.

Both have one version, since the package brings the collection of its own version along; where the
files name different ones, nothing is built.
"""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from pathlib import Path

import yaml

REPOSITORY = Path(__file__).resolve().parents[1]


def versions(repository: Path) -> dict[str, str]:
    """Return the version that each of the files names which have one, by the file."""
    galaxy = yaml.safe_load((repository / "galaxy.yml").read_text(encoding="utf-8"))
    package = repository / "orchestrator/src/kubewright/__init__.py"
    nodes = repository / "plugins/module_utils/_cluster/release.py"
    found = {"galaxy.yml": str(galaxy["version"])}
    for file in (package, nodes):
        named = re.search(r'^(?:__version__|VERSION) = "(.+)"$', file.read_text("utf-8"), re.M)
        found[str(file.relative_to(repository))] = named[1] if named else "none"
    return found


def main() -> int:
    """Build both; return the exit code."""
    found = versions(REPOSITORY)
    if len(set(found.values())) > 1:
        told = ", ".join(f"{file} has {version}" for file, version in found.items())
        print(f"Collection and package have one version, and {told}.", file=sys.stderr)
        return 1
    dist = REPOSITORY / "dist"
    shutil.rmtree(dist, ignore_errors=True)
    for command in (
        ["ansible-galaxy", "collection", "build", str(REPOSITORY), "--output-path", str(dist)],
        # In this environment: the build's own requirements are installed with it.
        [sys.executable, "-m", "build", "--wheel", "--outdir", str(dist), "orchestrator"],
    ):
        subprocess.run(command, check=True, cwd=REPOSITORY, stdout=subprocess.DEVNULL)
    for path in sorted(dist.iterdir()):
        print(path.relative_to(REPOSITORY))
    return 0


if __name__ == "__main__":
    sys.exit(main())
