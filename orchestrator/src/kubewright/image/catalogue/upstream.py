# SPDX-License-Identifier: Apache-2.0
"""A release as upstream publishes it: release files and container images instead of Go modules.

``upstream.yml`` says where the files are, ``<minor>.pins.yml`` which bytes they have. Pure.
"""

from __future__ import annotations

import fnmatch
from collections.abc import Iterable
from typing import Annotated, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, StringConstraints

from kubewright.image.catalogue.model import (
    DebianPart,
    Download,
    ImageDigest,
    Install,
    PausePart,
    RegistryPart,
    Release,
    ReleasePart,
    Sha256,
    UpstreamPart,
)


class _Data(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


_Template = Annotated[str, StringConstraints(pattern=r"^[a-z0-9.-]+/[^\s?#]+$")]


class Published(_Data):
    """One release file, as a template: see ``upstream.yml``."""

    url: _Template
    files: list[str] = Field(min_length=1)
    inside: str | None = None
    checksum: str | None = None

    def download(self, version: str, arch: str, pins: Pins) -> Download:
        """The file of one version and architecture, with its pin if there is one."""
        words = {"version": version, "number": version.removeprefix("v"), "arch": arch}
        address = self.url.format(**words)
        inside, checksum = (
            None if text is None else text.format(url=address, **words)
            for text in (self.inside, self.checksum)
        )
        return Download(
            address=address,
            sha256=pins.files.get(address),
            files=self.files,
            inside=inside,
            checksum=checksum,
        )


class Upstream(_Data):
    """``upstream.yml``."""

    schema_: Literal[1] = Field(1, alias="schema")
    parts: dict[str, list[Published]] = {}


class Pins(_Data):
    """``<minor>.pins.yml``: sha256 by address, digests by image name and architecture."""

    schema_: Literal[1] = Field(1, alias="schema")
    files: dict[str, Sha256] = {}
    images: dict[str, dict[str, ImageDigest]] = {}

    def joined(self, other: Self) -> Self:
        """Both. Raises ValueError when they pin one thing to two contents."""
        for address, digest in other.files.items():
            if self.files.get(address, digest) != digest:
                raise ValueError(f"{address} is pinned to a different sha256 elsewhere")
        images = {name: dict(pins) for name, pins in self.images.items()}
        for name, pins in other.images.items():
            for arch, digest in pins.items():
                if images.setdefault(name, {}).setdefault(arch, digest) != digest:
                    raise ValueError(f"{name} for {arch} is pinned to a different digest elsewhere")
        return self.model_copy(update={"files": {**self.files, **other.files}, "images": images})


def as_published(release: Release, upstream: Upstream, pins: Pins, arch: str) -> Release:
    """``release`` with upstream's files and images in place of what is built from modules.

    Debian parts stay. What has no pin yet has None in its place: see :func:`unpinned`.
    Raises ValueError when ``upstream`` lacks a program that the release installs.
    """
    versions = {**release.versions, **release.upstream_versions}
    parts: dict[str, ReleasePart] = {}
    for name, part in release.parts.items():
        if not part.install:
            continue  # goes into container images alone
        if isinstance(part, DebianPart):
            parts[name] = part
            continue
        assert not isinstance(part, PausePart | UpstreamPart | RegistryPart), name
        component = next(iter(part.modules.values()))
        published = upstream.parts.get(name, [])
        downloads = [item.download(versions[component], arch, pins) for item in published]
        if missing := _missing(part.install, part.binaries, downloads):
            raise ValueError(f"upstream.yml has no {', '.join(missing)} for {name}")
        parts[name] = UpstreamPart(
            recipe="upstream", install=part.install, component=component, downloads=downloads
        )
    archives = {}
    for name, image in release.images.items():
        full_name = release.image_name(name)
        archives[name] = f"image-{name}"
        parts[archives[name]] = RegistryPart(
            recipe="registry",
            component=image.component,
            name=full_name,
            digest=pins.images.get(full_name, {}).get(arch),
        )
    changes = {"versions": versions, "parts": parts, "archives": archives}
    return release.model_copy(update=changes)


def unpinned(release: Release, names: Iterable[str]) -> list[str]:
    """Addresses and image names of these parts that have no pin."""
    found = []
    for name in names:
        part = release.parts[name]
        if isinstance(part, UpstreamPart):
            found += [item.address for item in part.downloads if item.sha256 is None]
        elif isinstance(part, RegistryPart) and part.digest is None:
            found.append(part.name)
    return found


def _missing(installs: list[Install], known: Iterable[str], downloads: list[Download]) -> list[str]:
    given = {file for item in downloads for file in item.files}
    patterns = [pattern for install in installs for pattern in install.files]
    wanted = [name for name in known if any(fnmatch.fnmatchcase(name, one) for one in patterns)]
    return sorted(set(wanted) - given)
