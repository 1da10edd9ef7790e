# SPDX-License-Identifier: Apache-2.0
"""What system images are made of: data, one file a minor, checked when it is loaded.

``parts.yml`` says how each part and container image is made, ``<minor>.yml`` which versions a
release takes. A :class:`Release` joins both and is all that the rest of the package reads.
``upstream.yml`` and ``<minor>.pins.yml`` say where upstream publishes the same, and its hashes.
"""

from __future__ import annotations

from collections.abc import Iterable
from functools import cache
from pathlib import Path
from typing import Self, TypeVar

from pydantic import ValidationError

from kubewright.image.catalogue.model import (
    ContainerImage,
    DebianPart,
    Download,
    GoPart,
    Install,
    Minor,
    Part,
    Parts,
    PausePart,
    RegistryPart,
    Release,
    Toolchain,
    UpstreamPart,
)
from kubewright.image.catalogue.upstream import Pins, Upstream, as_published, unpinned
from kubewright.image.errors import ImageError
from kubewright.image.paths import pins_dir
from kubewright.image.releases import MINOR_FILE, PACKAGED, Releases, broken, load

__all__ = [
    "Catalogue",
    "ContainerImage",
    "DebianPart",
    "Download",
    "GoPart",
    "Install",
    "Part",
    "PausePart",
    "Pins",
    "RegistryPart",
    "Release",
    "Toolchain",
    "Upstream",
    "UpstreamPart",
    "read_pins",
    "unpinned",
]

_File = TypeVar("_File", Parts, Minor, Upstream, Pins)
_PINS_FILES = "*.pins.yml"


class Catalogue:
    """All releases that an image can be built for."""

    def __init__(
        self,
        releases: Iterable[Release],
        upstream: Upstream | None = None,
        pins: Pins | None = None,
    ) -> None:
        self._releases = {release.kubernetes: release for release in releases}
        self._known = Releases(self._releases)
        self._upstream = upstream or Upstream()
        self._pins = pins or Pins()

    @classmethod
    def load(cls, directory: Path | None = None) -> Self:
        """Read the catalogue that comes with the package, or the one in ``directory``.

        The user's own pins (``kubewright image pin``) are added to the package's.
        Raises ImageError that names the file and every fault in it.
        """
        if directory is not None:
            return cls(*_read(directory))
        releases, upstream, pins = _packaged()
        return cls(releases, upstream, _add_pins(pins, pins_dir()))

    def versions(self) -> list[str]:
        """Known Kubernetes releases, newest first: ``["1.37.2", "1.36.4"]``."""
        return self._known.versions

    def lacks(self, version: str) -> bool:
        """Whether it is an exact release, and none that is known."""
        return version.count(".") > 1 and version not in self._releases

    def resolve(self, version: str) -> str:
        """See :meth:`kubewright.image.releases.Releases.resolve`."""
        return self._known.resolve(version)

    def release(self, version: str) -> Release:
        """Everything about one release; ``version`` as in :meth:`resolve`."""
        return self._releases[self.resolve(version)]

    def published(self, version: str, arch: str) -> Release:
        """The same as upstream publishes it for ``arch``: release files and container images."""
        release = self.release(version)
        try:
            return as_published(release, self._upstream, self._pins, arch)
        except ValueError as fault:
            raise ImageError(
                f"Kubernetes {release.kubernetes} can't be built from upstream: {fault}.",
                "Build it from Go modules.",
            ) from fault


def read_pins(path: Path) -> Pins:
    """One file of pins; none when it does not exist. Raises ImageError for a broken one."""
    return _parse(path, Pins) if path.exists() else Pins()


@cache
def _packaged() -> tuple[tuple[Release, ...], Upstream, Pins]:
    return _read(PACKAGED)


def _read(directory: Path) -> tuple[tuple[Release, ...], Upstream, Pins]:
    parts = _parse(directory / "parts.yml", Parts)
    releases: list[Release] = []
    for path in sorted(directory.iterdir()):
        if MINOR_FILE.match(path.name):
            minor = _parse(path, Minor)
            if path.stem != minor.minor:
                raise broken(path, f"minor is {minor.minor!r}, the file's name says {path.stem!r}")
            try:
                releases += [Release.join(minor, version, parts) for version in minor.releases]
            except (ValidationError, ValueError) as fault:
                raise broken(path, str(fault)) from fault
    upstream = _parse(directory / "upstream.yml", Upstream)
    return tuple(releases), upstream, _add_pins(Pins(), directory)


def _add_pins(pins: Pins, directory: Path) -> Pins:
    for path in sorted(directory.glob(_PINS_FILES)):
        try:
            pins = pins.joined(read_pins(path))
        except ValueError as fault:
            raise ImageError(
                f"{path} contradicts another pin file: {fault}.",
                "Find out which one is right, and remove the other: the published"
                " file was changed, or one of the pins was made from a different file.",
            ) from fault
    return pins


def _parse(path: Path, model: type[_File]) -> _File:
    data = load(path)
    try:
        return model.model_validate(data)
    except ValidationError as fault:
        raise broken(path, str(fault)) from fault
