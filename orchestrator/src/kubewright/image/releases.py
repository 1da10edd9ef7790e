# SPDX-License-Identifier: Apache-2.0
"""Which Kubernetes releases there are images for, without what they are made of.

Each start of a command or of Ansible asks for that; to read the whole catalogue takes longer than
all else that they read.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from functools import cache
from pathlib import Path
from typing import Any

import yaml

from kubewright.image.errors import ImageError

#: Where the catalogue is that comes with the package.
PACKAGED = Path(__file__).with_name("catalogue")
MINOR_FILE = re.compile(r"^\d+\.\d+\.yml$")
_Loader: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)


class Releases:
    """Patch releases, such as "1.37.2"."""

    def __init__(self, versions: Iterable[str]) -> None:
        self.versions = sorted(versions, key=_order, reverse=True)

    def resolve(self, version: str) -> str:
        """``"1.37"`` -> its newest known patch ``"1.37.2"``; an exact version -> itself.

        A leading ``v`` is accepted. Raises ImageError that lists what is known.
        """
        wanted = version.strip().removeprefix("v")
        for known in self.versions:
            if known == wanted or (known.startswith(f"{wanted}.") and wanted.count(".") == 1):
                return known
        minors = dict.fromkeys(known.rpartition(".")[0] for known in self.versions)
        raise ImageError(
            f"Kubernetes {version!r} is not in the catalogue.",
            f"Known versions: {', '.join(self.versions)}. A minor version selects its"
            f" newest patch release: {', '.join(minors)}.",
        )


@cache
def packaged() -> Releases:
    """Those of the catalogue that comes with the package. Raises ImageError for a broken file."""
    files = sorted(path for path in PACKAGED.iterdir() if MINOR_FILE.match(path.name))
    return Releases(version for path in files for version in _of_file(path))


def _of_file(path: Path) -> list[str]:
    try:
        return [str(version) for version in load(path)["releases"]]
    except (KeyError, TypeError) as fault:
        raise broken(path, f"it has no releases ({fault})") from fault


def load(path: Path) -> Any:
    """Return what is in a file of the catalogue. Raises ImageError when that is no YAML."""
    try:
        return yaml.load(path.read_bytes(), Loader=_Loader)
    except (OSError, yaml.YAMLError) as fault:
        raise broken(path, str(fault)) from fault


def broken(path: Path, fault: str) -> ImageError:
    """Return what to say of a file of the catalogue."""
    return ImageError(
        f"The catalogue file {path} is not valid: {fault}.",
        "Correct it, or reinstall the kubewright package.",
    )


def _order(version: str) -> tuple[int, ...]:
    return tuple(int(number) for number in version.split("."))
