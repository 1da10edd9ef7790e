# SPDX-License-Identifier: Apache-2.0
"""Builds system images: finds what is missing, makes it, packs it. Nothing is done twice."""

from __future__ import annotations

import shutil
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from kubewright.image import locked as lookup
from kubewright.image import prerequisites, squashfs
from kubewright.image.assemble import Assembly
from kubewright.image.catalogue import (
    Catalogue,
    DebianPart,
    GoPart,
    RegistryPart,
    Release,
    unpinned,
)
from kubewright.image.commands import Commands
from kubewright.image.errors import ImageError
from kubewright.image.index import ROLES, Image, Role
from kubewright.image.keys import image_key, part_key, uses_compiler
from kubewright.image.locked import Locked
from kubewright.image.make import make_parts
from kubewright.image.origin import KINDS, MODULES, Kind, Origin
from kubewright.image.parts import MadePart
from kubewright.image.paths import cache_dir, file_lock, host_arch, sha256_file
from kubewright.image.recipes.upstream import not_pinned
from kubewright.image.report import Report
from kubewright.image.store import Store, compare, now


def build(
    version: str,
    roles: Sequence[Role] = ROLES,
    progress: Callable[[str, float], None] | None = None,
    *,
    cache: Path | None = None,
    catalogue: Catalogue | None = None,
    origin: Origin | None = None,
) -> list[Image]:
    """Make sure that there is an image of ``version`` for each of ``roles``; return them in order.

    ``version`` is a minor ("1.37") or an exact release. ``progress`` is called with a line for the
    user and the seconds since the call began; from one thread at a time. A second call finds
    everything there and returns in well under a second; a concurrent one waits for the first.
    ``origin`` is where from, by default what the environment says; when it says nothing either,
    images that are there count wherever they came from, and new ones are built from modules.
    Of a release that the catalogue has no more, images that are there are the ones.
    Raises ImageError.
    """
    report = Report(progress)
    cache = cache or cache_dir()
    known = catalogue or Catalogue.load()
    arch = host_arch()
    asked = origin or Origin.from_environment()
    origin = asked or MODULES
    if known.lacks(version) and (kept := _kept(Store(cache, known), version, roles, arch)):
        return kept
    published = origin.kind == "upstream"
    release = known.published(version, arch) if published else known.release(version)
    unknown = [role for role in roles if role not in ROLES]
    if unknown or not roles:
        raise ImageError(f"Unknown node role: {', '.join(unknown)}.", f"Roles: {', '.join(ROLES)}.")
    run = _Build(release, arch, cache, catalogue, report, origin)
    try:
        if found := run.present(roles) if asked else run.present_from_any(roles):
            return found
    except ImageError:
        pass  # a broken index is repaired below, under the lock
    with file_lock(
        cache / "build.lock",
        lambda holder: report.line(f"another build (process {holder}) is running; waiting for it"),
    ):
        return run.make(roles)


def _kept(store: Store, version: str, roles: Sequence[Role], arch: str) -> list[Image]:
    """The images of an exact release, when there is one for every role."""
    found = [store.kept(version, role, arch) for role in roles]
    images = [image for image in found if image is not None]
    return images if len(images) == len(roles) else []


class _Build:
    def __init__(
        self,
        release: Release,
        arch: str,
        cache: Path,
        catalogue: Catalogue | None,
        report: Report,
        origin: Origin,
    ) -> None:
        self._commands = Commands()
        self._release = release
        self._arch = arch
        self._cache = cache
        self._store = Store(cache, catalogue)
        self._report = report
        self._origin = origin

    def present(self, roles: Sequence[Role]) -> list[Image] | None:
        """The images of this origin, when every one is there; from here on they are preferred."""
        found = self._found(roles, self._origin.kind)
        if found:
            self._store.prefer(found)
        return found

    def present_from_any(self, roles: Sequence[Role]) -> list[Image] | None:
        """The images of one source, the later one, when every one is there."""
        found = [images for kind in KINDS if (images := self._found(roles, kind))]
        return max(found, key=lambda images: images[0].built_at, default=None)

    def _found(self, roles: Sequence[Role], kind: Kind) -> list[Image] | None:
        version = self._release.kubernetes
        found = [self._store.find(version, role, self._arch, kind) for role in roles]
        images = [image for image in found if image is not None]
        return images if len(images) == len(roles) else None

    def make(self, roles: Sequence[Role]) -> list[Image]:
        """Build what is missing; the build lock is held."""
        if aside := self._store.set_aside_broken_index():
            self._report.line(f"the index of images was not readable and is now {aside.name}")
        if found := self.present(roles):
            return found
        self._clean()
        names = [
            name
            for name in self._release.parts
            if any(name in self._release.parts_of(role) for role in roles)
        ]
        if without := unpinned(self._release, names):
            raise not_pinned(without, self._release.kubernetes)
        locked = Locked.load(self._cache, self._release, self._arch)
        missing = self._missing(names, locked or Locked())
        self._check(missing)
        locked = self._look_up(missing, locked)
        locked.save(self._cache, self._release, self._arch)
        # What was looked up may have changed keys, either way.
        missing = self._missing(names, locked)
        make_parts(
            self._release,
            {name: part_key(self._release, name, locked, self._arch) for name in missing},
            locked,
            self._arch,
            self._cache,
            self._commands,
            self._report,
            self._origin,
        )
        return self._pack(roles, names, locked)

    def _missing(self, names: Sequence[str], locked: Locked) -> list[str]:
        keys = {name: part_key(self._release, name, locked, self._arch) for name in names}
        return [name for name in names if MadePart.find(self._cache, keys[name]) is None]

    def _check(self, missing: Sequence[str]) -> None:
        parts = [self._release.parts[name] for name in missing]
        prerequisites.check(
            self._cache,
            compiling=isinstance(self._release.parts.get("kubernetes"), GoPart)
            and "kubernetes" in missing,
            linking_c=any(uses_compiler(self._release, name) for name in missing),
            debian=any(isinstance(part, DebianPart) for part in parts),
            registry=self._origin.by_registry
            and any(isinstance(part, RegistryPart) for part in parts),
        )

    def _look_up(self, missing: Sequence[str], locked: Locked | None) -> Locked:
        """Look up again whatever something missing depends on."""
        known = locked or Locked()
        found: dict[str, object] = {"packing": lookup.packing()}
        parts = self._release.parts
        if any(isinstance(parts[name], DebianPart) for name in missing):
            self._report.line("reading Debian's package lists")
            looked_up = lookup.debian_packages(
                self._cache, self._release, self._arch, self._commands
            )
            # Of the other source's parts, what was found when they were made still holds.
            found["debian"] = {**known.debian, **looked_up}
        if any(uses_compiler(self._release, name) for name in missing):
            found["compiler"] = lookup.compiler()
        return known.model_copy(update=found)

    def _pack(self, roles: Sequence[Role], names: Sequence[str], locked: Locked) -> list[Image]:
        parts = {}
        for name in names:
            made = MadePart.find(self._cache, part_key(self._release, name, locked, self._arch))
            assert made is not None, name
            parts[name] = made
        images_dir = self._cache / "images"
        work = images_dir / f".work-{self._release.kubernetes}"
        images = []
        try:
            assembly = Assembly(self._release, self._arch, self._cache, parts, work, self._commands)
            for role in roles:
                if (found := self._one(role)) is None:
                    found = self._pack_role(assembly, role, work, locked, parts)
                images.append(found)
        finally:
            shutil.rmtree(work, ignore_errors=True)
        return images

    def _one(self, role: Role) -> Image | None:
        found = self._found([role], self._origin.kind)
        return found[0] if found else None

    def _pack_role(
        self,
        assembly: Assembly,
        role: Role,
        work: Path,
        locked: Locked,
        parts: Mapping[str, MadePart],
    ) -> Image:
        started = time.monotonic()
        tree = assembly.tree(role)
        target = work / f"{role}.squashfs"
        log = self._cache / "logs" / f"pack-{self._release.kubernetes}.log"
        squashfs.pack(tree, target, log=log, commands=self._commands)
        # Read back: what a bad disk or a damaged cache spoils must not reach a node.
        if problems := compare(target):
            raise self._damaged(problems, parts)
        digest = sha256_file(target)
        image = Image(
            kubernetes=self._release.kubernetes,
            revision=self._release.revision,
            arch=self._arch,
            role=role,
            digest=digest,
            file=f"{digest}.squashfs",
            size=target.stat().st_size,
            key=image_key(self._release, role, locked, self._arch),
            built_at=now(),
            source=self._origin.kind,
        )
        self._store.add(target, image)
        self._report.done(
            f"{role.replace('_', ' ')} image {digest[:12]} ({image.size / 1e6:.0f} MB) packed",
            time.monotonic() - started,
        )
        return image

    def _damaged(self, problems: Sequence[str], parts: Mapping[str, MadePart]) -> ImageError:
        bad = [name for name, part in parts.items() if part.discard_if_damaged(self._cache)]
        return ImageError(
            f"The packed image differs from what was built: {'; '.join(problems)}.",
            f"Damaged in the cache and removed: {', '.join(bad)}. Run the command again."
            if bad
            else "The cache is intact: check this machine's memory and disk.",
        )

    def _clean(self) -> None:
        """Remove what a build that was killed left; the lock says that none is running."""
        for leftover in (self._cache / "parts").glob(".work-*"):
            shutil.rmtree(leftover, ignore_errors=True)
        for leftover in (self._cache / "images").glob(".work-*"):
            shutil.rmtree(leftover, ignore_errors=True)
