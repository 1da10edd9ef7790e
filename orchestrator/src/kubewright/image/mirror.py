# SPDX-License-Identifier: Apache-2.0
"""Fills a mirror: all pinned files and images of a release, in upstream's own layout.

The directory can be served by any web server, carried on a disk, or named as it is. Images lie in
it, too, as files; a registry gets them from there.
"""

from __future__ import annotations

import shutil
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from kubewright.image import prerequisites, registry
from kubewright.image.catalogue import Catalogue, RegistryPart, Release, UpstreamPart, unpinned
from kubewright.image.commands import Commands
from kubewright.image.files import Files
from kubewright.image.origin import Origin, image_directory
from kubewright.image.paths import cache_dir, file_lock
from kubewright.image.recipes.upstream import not_pinned
from kubewright.image.report import Report


@dataclass(frozen=True)
class Mirrored:
    """What a mirror has of a release: addresses of files, images by digest, those pushed."""

    files: list[str]
    images: list[str]
    pushed: list[str]


def fill(
    version: str,
    arches: Sequence[str],
    directory: Path,
    origin: Origin,
    progress: Callable[[str, float], None] | None = None,
    *,
    to_registry: str = "",
    cache: Path | None = None,
    catalogue: Catalogue | None = None,
) -> Mirrored:
    """Copy what ``version`` needs for ``arches`` into ``directory``; what is there is kept.

    ``to_registry`` (``host[:port][/prefix]``) gets the images as well, each as
    ``<prefix>/<repository>:<tag>-<arch>``. Raises ImageError.
    """
    known = catalogue or Catalogue.load()
    releases = {arch: known.published(version, arch) for arch in arches}
    for release in releases.values():
        if without := unpinned(release, release.parts):
            raise not_pinned(without, release.kubernetes)
    report = Report(progress)
    run = _Fill(directory, origin, to_registry, (cache or cache_dir()) / "logs", report)
    directory.mkdir(parents=True, exist_ok=True)
    with file_lock(
        directory / ".kubewright.lock",
        lambda holder: report.line(f"process {holder} fills this mirror; waiting for it"),
    ):
        for arch, release in releases.items():
            run.all_of(release, arch)
    return run.done


class _Fill:
    def __init__(
        self, directory: Path, origin: Origin, to_registry: str, logs: Path, report: Report
    ) -> None:
        self._commands = Commands()
        self.done = Mirrored([], [], [])
        self._directory = directory
        self._origin = origin
        self._files = Files(origin)
        self._target = Origin("mirror", str(directory), to_registry)
        self._log = logs / "mirror.log"
        self._report = report

    def all_of(self, release: Release, arch: str) -> None:
        parts = release.parts.values()
        images = [part for part in parts if isinstance(part, RegistryPart)]
        missing = [part for part in images if not self._whole(part)]
        prerequisites.check_copying(
            registry=bool(self._target.registry) or (self._origin.by_registry and bool(missing))
        )
        for part in parts:
            for item in part.downloads if isinstance(part, UpstreamPart) else ():
                started = time.monotonic()
                self._files.fetch(item.address, self._directory / item.address, item.sha256)
                self.done.files.append(item.address)
                self._report.done(f"{item.address} mirrored", time.monotonic() - started)
        for image in images:
            self._image(image, arch, fetch=image in missing)

    def _whole(self, part: RegistryPart) -> bool:
        return registry.is_whole(self._place(part), part.name, str(part.digest))

    def _place(self, part: RegistryPart) -> Path:
        return self._directory / image_directory(part.name, str(part.digest))

    def _image(self, part: RegistryPart, arch: str, *, fetch: bool) -> None:
        started = time.monotonic()
        place, digest = self._place(part), str(part.digest)
        if fetch:
            half = place.with_name(f".{place.name}.part")
            shutil.rmtree(place, ignore_errors=True)
            if self._origin.by_registry:
                shutil.rmtree(half, ignore_errors=True)
                half.parent.mkdir(parents=True, exist_ok=True)
                reference = self._origin.image(part.name, digest)
                self._copy(f"docker://{reference}", f"dir:{half}", f"fetching {reference}")
            else:
                registry.fetch(self._files, part.name, digest, half)
            registry.check(half, part.name, digest, arch)
            half.rename(place)
        else:
            registry.check(place, part.name, digest, arch)
        self.done.images.append(f"{part.name}@{digest}")
        if self._target.registry:
            reference = f"{self._target.image(part.name)}-{arch}"
            self._copy(f"dir:{place}", f"docker://{reference}", f"pushing {reference}")
            self.done.pushed.append(f"{reference}@{digest}")
        self._report.done(f"{part.name} for {arch} mirrored", time.monotonic() - started)

    def _copy(self, source: str, target: str, what: str) -> None:
        registry.copy(source, target, what=what, log=self._log, commands=self._commands)
