# SPDX-License-Identifier: Apache-2.0
"""Writes pins: which bytes upstream's release files and images have, into a file of the catalogue.

Each file is fetched and hashed, compared with the sha256 that upstream publishes beside it, and
opened, so that nothing is pinned that no image could be made of. A pin that exists is never
changed: it is there to notice that what was published has changed.
"""

from __future__ import annotations

import shutil
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import yaml

from kubewright.image import prerequisites, registry
from kubewright.image.catalogue import (
    Catalogue,
    Download,
    Pins,
    RegistryPart,
    Release,
    UpstreamPart,
    read_pins,
)
from kubewright.image.commands import Commands
from kubewright.image.errors import ImageError
from kubewright.image.files import Files
from kubewright.image.origin import Origin
from kubewright.image.paths import cache_dir, file_lock, pins_dir, write_atomically
from kubewright.image.recipes.upstream import downloads, unpack
from kubewright.image.report import Report

_HEAD = """\
# SPDX-License-Identifier: Apache-2.0
# Written by `kubewright image pin`: sha256 of upstream's release files, digests of its images.
"""


@dataclass(frozen=True)
class Pinned:
    """What :func:`pin` did: the file, and what was added to it."""

    file: Path
    added: list[str]


def pin(
    version: str,
    arches: Sequence[str],
    origin: Origin,
    progress: Callable[[str, float], None] | None = None,
    *,
    into: Path | None = None,
    cache: Path | None = None,
    catalogue: Catalogue | None = None,
) -> Pinned:
    """Pin what ``version`` needs for ``arches`` and has no pin yet.

    ``into`` is a directory with files of pins, by default the user's own; each pin is written as
    soon as it is known. Raises ImageError.
    """
    known = catalogue or Catalogue.load()
    cache = cache or cache_dir()
    directory = into or pins_dir()
    report = Report(progress)
    releases = {arch: known.published(version, arch) for arch in arches}
    minor = next(iter(releases.values())).kubernetes.rpartition(".")[0]
    run = _Pin(origin, cache, directory / f"{minor}.pins.yml", report)
    with file_lock(
        cache / "build.lock",
        lambda holder: report.line(f"a build (process {holder}) is running; waiting for it"),
    ):
        try:
            for arch, release in releases.items():
                run.all_of(release, arch)
        finally:
            shutil.rmtree(run.work, ignore_errors=True)
    return Pinned(run.file, run.added)


class _Pin:
    def __init__(self, origin: Origin, cache: Path, file: Path, report: Report) -> None:
        self._commands = Commands()
        self.file = file
        self.added: list[str] = []
        self.work = cache / "downloads" / ".work-pin"
        self._origin = origin
        self._files = Files(origin, pinning=True)
        self._cache = cache
        self._log = cache / "logs" / "pin.log"
        self._report = report

    def all_of(self, release: Release, arch: str) -> None:
        have = read_pins(self.file)
        images = [part for part in release.parts.values() if isinstance(part, RegistryPart)]
        programs = [part for part in release.parts.values() if isinstance(part, UpstreamPart)]
        missing = [part for part in images if part.digest is None]
        missing = [part for part in missing if arch not in have.images.get(part.name, {})]
        if missing and self._origin.source == "mirror" and not self._origin.registry:
            raise ImageError(
                f"{missing[0].name} has no pin, and no registry was given to look it up by name.",
                "Give the mirror's registry with --registry, or pin from upstream.",
            )
        prerequisites.check_copying(registry=bool(missing))
        for program in programs:
            for item in program.downloads:
                if item.sha256 is None and item.address not in have.files:
                    self._file(item, arch)
        for image in missing:
            self._image(image.name, arch)

    def _file(self, item: Download, arch: str) -> None:
        started = time.monotonic()
        shutil.rmtree(self.work, ignore_errors=True)
        (self.work / "out").mkdir(parents=True)
        path = self.work / item.address.rpartition("/")[2]
        found = self._files.fetch(item.address, path, None)
        if item.checksum is not None:
            says = self._files.published_sha256(item.checksum, item.address)
            if says != found:
                raise ImageError(
                    f"{self._origin.place(item.address)} has sha256 {found},"
                    f" but {self._origin.place(item.checksum)} says {says}.",
                    "Nothing was pinned. Run the command again; if it keeps happening, don't trust "
                    "that server.",
                )
        unpack(item, path, self.work / "out", arch)
        kept = downloads(self._cache) / item.address
        kept.parent.mkdir(parents=True, exist_ok=True)
        path.replace(kept)
        self._add(Pins(schema=1, files={item.address: found}), item.address)
        beside = "" if item.checksum else " (upstream publishes no sha256 to compare)"
        self._report.done(f"{item.address} pinned{beside}", time.monotonic() - started)

    def _image(self, name: str, arch: str) -> None:
        started = time.monotonic()
        shutil.rmtree(self.work, ignore_errors=True)
        self.work.mkdir(parents=True)
        raw = registry.raw_manifest(
            self._origin.image(name),
            scratch=self.work / "manifest.json",
            log=self._log,
            commands=self._commands,
        )
        digest = registry.platform_digest(raw, arch, name)
        # Looks at the platform that the image itself claims; layers are left where they are.
        registry.check_platform(
            self._origin.image(name, digest),
            arch,
            scratch=self.work / "config.json",
            log=self._log,
            commands=self._commands,
        )
        self._add(Pins(schema=1, images={name: {arch: digest}}), f"{name} for {arch}")
        self._report.done(f"{name} for {arch} pinned", time.monotonic() - started)

    def _add(self, pins: Pins, what: str) -> None:
        with file_lock(self.file.with_name(f".{self.file.name}.lock")):
            joined = read_pins(self.file).joined(pins)
            text = yaml.safe_dump(joined.model_dump(mode="json", by_alias=True), width=1000)
            write_atomically(self.file, f"{_HEAD}{text}".encode())
        self.added.append(what)
