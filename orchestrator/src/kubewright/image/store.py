# SPDX-License-Identifier: Apache-2.0
"""The images that were built: an index beside them, safe against concurrent use and crashes."""

from __future__ import annotations

import json
import os
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from kubewright.image import squashfs
from kubewright.image.catalogue import Catalogue
from kubewright.image.errors import ImageError
from kubewright.image.index import ENTRIES, Image, Images, Index, Role
from kubewright.image.keys import image_key
from kubewright.image.locked import Locked
from kubewright.image.origin import KINDS, Kind
from kubewright.image.paths import (
    file_lock,
    host_arch,
    sha256_file,
    sync_directory,
    write_atomically,
)
from kubewright.image.signing import signature_of


@dataclass(frozen=True)
class Verdict:
    """What verifying an image found: ``problems`` in words, one for each file; none is good."""

    image: Image
    problems: list[str] = field(default_factory=list)

    @property
    def ok(self) -> bool:
        return not self.problems


class Store(Index):
    """System images on this machine: the index, and what changes it."""

    def __init__(self, cache: Path | None = None, catalogue: Catalogue | None = None) -> None:
        super().__init__(cache)
        self._catalogue = catalogue

    def find(
        self, version: str, role: Role, arch: str | None = None, source: Kind | None = None
    ) -> Image | None:
        """The image that a build for these arguments would make today; None when it isn't there.

        ``version`` is a minor or an exact release. An image of older inputs (another runc, another
        recipe) does not count: its key differs. Without a ``source`` either counts, and the later
        one is taken. Raises ImageError for a minor that the catalogue does not know.
        """
        catalogue = self._catalogue or Catalogue.load()
        if catalogue.lacks(version):
            return None
        release = catalogue.release(version)
        arch = arch or host_arch()
        locked = Locked.load(self._cache, release, arch)
        if locked is None:
            return None
        known = [image for image in self._read() if image.kubernetes == release.kubernetes]
        keys = set()
        for kind in KINDS if source is None else (source,):
            if any(image.source == kind for image in known):
                of_kind = catalogue.published(version, arch) if kind == "upstream" else release
                keys.add(image_key(of_kind, role, locked, arch))
        found = [image for image in known if image.key in keys and self.present(image)]
        return max(found, key=lambda image: image.built_at, default=None)

    def kept(self, version: str, role: Role, arch: str) -> Image | None:
        """The newest image of an exact release that is there, whatever it was made of."""
        found = [
            image
            for image in self._read()
            if (image.kubernetes, image.role, image.arch) == (version, role, arch)
            and self.present(image)
        ]
        return max(found, key=lambda image: image.built_at, default=None)

    def prefer(self, images: Images) -> None:
        """Give ``images`` today's date where others of their release and role are newer."""
        with file_lock(self._directory / "index.lock"):
            known = self._read()
            changed = {
                image.key: image.model_copy(update={"built_at": now()})
                for image in images
                if any(
                    (other.kubernetes, other.arch, other.role)
                    == (image.kubernetes, image.arch, image.role)
                    and other.key != image.key
                    and other.built_at >= image.built_at
                    for other in known
                )
            }
            if changed:
                self._write([changed.get(image.key, image) for image in known])

    def add(self, squashfs_file: Path, image: Image) -> None:
        """Move a finished squashfs into the store; replaces an entry of the same key."""
        with squashfs_file.open("rb") as file:
            os.fsync(file.fileno())
        squashfs_file.chmod(0o644)
        squashfs_file.rename(self.path(image))
        sync_directory(self._directory)
        with file_lock(self._directory / "index.lock"):
            others = [known for known in self._read() if known.key != image.key]
            self._write([*others, image])

    def remove(self, image: Image) -> None:
        """Take an image out of the index, then remove its file and the signature beside it."""
        with file_lock(self._directory / "index.lock"):
            self._write([known for known in self._read() if known.digest != image.digest])
        for path in (self.path(image), signature_of(self.path(image))):
            path.unlink(missing_ok=True)
        sync_directory(self._directory)

    def set_aside_broken_index(self) -> Path | None:
        """Rename an index that can't be read, so that a build can start a new one."""
        with file_lock(self._directory / "index.lock"):
            try:
                self._read()
            except ImageError:
                aside = self._index.with_suffix(".json.broken")
                self._index.replace(aside)
                return aside
        return None

    def verify(self, image: Image) -> Verdict:
        """Hash the squashfs, then every file in it against the manifest; reads all of it."""
        path = self.path(image)
        if not path.exists():
            return Verdict(image, [f"{path} is missing"])
        problems = []
        if (found := sha256_file(path)) != image.digest:
            problems.append(f"{path.name} has sha256 {found}, not {image.digest}")
        try:
            problems += compare(path)
        except ImageError as fault:
            problems.append(fault.message)
        return Verdict(image, problems)

    def _write(self, images: Images) -> None:
        data = ENTRIES.dump_python(images, mode="json")
        write_atomically(self._index, f"{json.dumps(data, indent=1)}\n".encode())


def now() -> datetime:
    """The time for ``built_at``, in whole seconds."""
    return datetime.now(UTC).replace(microsecond=0)


def compare(path: Path) -> list[str]:
    """Differences between a squashfs's files and its own manifest, in words."""
    text = squashfs.read(path, "manifest.json")
    try:
        files: list[dict[str, Any]] = json.loads(text or "")["files"]
    except (ValueError, KeyError):
        return ["manifest.json is missing or not readable"]
    present = squashfs.listing(path)
    problems = []
    for file in files:
        name = file["path"]
        mode = present.pop(name, None)
        if mode is None:
            problems.append(f"{name} is missing")
        elif mode != file["mode"]:
            problems.append(f"{name} has mode {mode}, not {file['mode']}")
        elif squashfs.hash_of(path, name) != file["sha256"]:
            problems.append(f"{name} differs from the manifest")
    present.pop("manifest.json", None)
    return problems + [f"{name} is not in the manifest" for name in sorted(present)]
