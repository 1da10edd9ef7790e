# SPDX-License-Identifier: Apache-2.0
"""What system images are made of: data, one file a minor, checked when it is loaded.

``parts.yml`` says how each part and container image is made, ``<minor>.yml`` which versions a
release takes. A :class:`Release` joins both and is all that the rest of the package reads.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from functools import cache
from importlib import resources
from pathlib import Path
from typing import Any, Self, TypeVar

import yaml
from pydantic import ValidationError

from kubewright.image.catalogue.model import (
    ContainerImage,
    DebianPart,
    GoPart,
    Install,
    Minor,
    Part,
    Parts,
    PausePart,
    Release,
    Role,
    Toolchain,
)
from kubewright.image.errors import ImageError

__all__ = [
    "Catalogue",
    "ContainerImage",
    "DebianPart",
    "GoPart",
    "Install",
    "Part",
    "PausePart",
    "Release",
    "Role",
    "Toolchain",
]

_Loader: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
_File = TypeVar("_File", Parts, Minor)
_MINOR_FILE = re.compile(r"^\d+\.\d+\.yml$")


def _order(version: str) -> tuple[int, ...]:
    return tuple(int(number) for number in version.split("."))


class Catalogue:
    """All releases that an image can be built for."""

    def __init__(self, releases: Iterable[Release]) -> None:
        self._releases = {release.kubernetes: release for release in releases}

    @classmethod
    def load(cls, directory: Path | None = None) -> Self:
        """Read the catalogue that comes with the package, or the one in ``directory``.

        Raises ImageError that names the file and every fault in it.
        """
        if directory is None:
            return cls(_packaged())
        return cls(_read(directory))

    def versions(self) -> list[str]:
        """Known Kubernetes releases, newest first: ``["1.37.2", "1.36.4"]``."""
        return sorted(self._releases, key=_order, reverse=True)

    def resolve(self, version: str) -> str:
        """``"1.37"`` -> its newest known patch ``"1.37.2"``; an exact version -> itself.

        A leading ``v`` is accepted. Raises ImageError that lists what is known.
        """
        wanted = version.strip().removeprefix("v")
        for known in self.versions():
            if known == wanted or (known.startswith(f"{wanted}.") and wanted.count(".") == 1):
                return known
        raise ImageError(
            f"Kubernetes {version!r} is not in the catalogue.",
            f"Known: {', '.join(self.versions())}; or a minor, for its newest patch:"
            f" {', '.join(self._minors())}.",
        )

    def release(self, version: str) -> Release:
        """Everything about one release; ``version`` as in :meth:`resolve`."""
        return self._releases[self.resolve(version)]

    def _minors(self) -> list[str]:
        return list(dict.fromkeys(version.rpartition(".")[0] for version in self.versions()))


@cache
def _packaged() -> tuple[Release, ...]:
    with resources.as_file(resources.files(__name__)) as directory:
        return _read(directory)


def _read(directory: Path) -> tuple[Release, ...]:
    parts = _parse(directory / "parts.yml", Parts)
    releases: list[Release] = []
    for path in sorted(directory.iterdir()):
        if _MINOR_FILE.match(path.name):
            minor = _parse(path, Minor)
            if path.stem != minor.minor:
                raise _broken(path, f"minor is {minor.minor!r}, the file's name says {path.stem!r}")
            try:
                releases += [Release.join(minor, version, parts) for version in minor.releases]
            except (ValidationError, ValueError) as fault:
                raise _broken(path, str(fault)) from fault
    return tuple(releases)


def _parse(path: Path, model: type[_File]) -> _File:
    try:
        return model.model_validate(yaml.load(path.read_bytes(), Loader=_Loader))
    except (OSError, yaml.YAMLError, ValidationError) as fault:
        raise _broken(path, str(fault)) from fault


def _broken(path: Path, fault: str) -> ImageError:
    return ImageError(
        f"The catalogue file {path} is not valid: {fault}.",
        "Correct it, or reinstall the kubewright package.",
    )
