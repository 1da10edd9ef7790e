# SPDX-License-Identifier: Apache-2.0
"""Lays finished parts out as an image's tree, with container images and the manifest."""

from __future__ import annotations

import fnmatch
import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from kubewright.agreed import image_format
from kubewright.image import docker_archive
from kubewright.image.catalogue import (
    ContainerImage,
    DebianPart,
    GoPart,
    PausePart,
    Release,
)
from kubewright.image.commands import Commands
from kubewright.image.docker_archive import Config, Entry, Layer
from kubewright.image.index import Role
from kubewright.image.parts import MadePart
from kubewright.image.paths import sha256_file


class Assembly:
    """Builds the trees of one release's images below ``work``; roles share container images."""

    def __init__(
        self,
        release: Release,
        arch: str,
        cache: Path,
        parts: Mapping[str, MadePart],
        work: Path,
        commands: Commands,
    ) -> None:
        self._release = release
        self._arch = arch
        self._cache = cache
        self._parts = parts
        self._work = work
        self._commands = commands
        self._layers: dict[str, Layer] = {}
        self._archives: dict[str, tuple[Path, str]] = {}
        (work / "layers").mkdir(parents=True, exist_ok=True)
        (work / "archives").mkdir(exist_ok=True)

    def tree(self, role: Role) -> Path:
        """Lay out the tree for ``role``; files are hard links into the cache."""
        root = self._work / role
        directories = {root}
        files: list[dict[str, Any]] = []
        for name in self._release.parts_of(role):
            made = self._parts[name]
            for install in self._release.parts[name].install:
                if role in install.roles:
                    files += self._install(root, made, install.files, install.to, directories)
        images = []
        for name, image in self._release.images_of(role).items():
            inside = f"images/{name}.tar"
            full_name = self._release.image_name(name)
            images.append({"name": full_name, "archive": inside})
            if name in self._release.archives:
                made = self._parts[self._release.archives[name]]
                (whole,) = made.files
                archive, digest, source = (
                    made.root(self._cache) / whole.path,
                    whole.sha256,
                    whole.source,
                )
            else:
                archive, digest = self._archive(name, image)
                source = f"image {full_name}"
            _link(archive, root / inside)
            files.append(_file(inside, digest, archive.stat().st_size, 0o644, source))
        manifest = {
            "schema": image_format.SCHEMA,
            "kubernetes": self._release.kubernetes,
            "revision": self._release.revision,
            "arch": self._arch,
            "role": role,
            "components": self._components(role, files),
            "files": sorted(files, key=lambda file: str(file["path"])),
            "images": images,
        }
        path = root / "manifest.json"
        path.write_text(json.dumps(manifest, indent=1) + "\n")
        path.chmod(0o644)
        for directory, _, _ in os.walk(root):
            if Path(directory) not in directories:
                Path(directory).chmod(0o755)
        return root

    def _install(
        self, root: Path, made: MadePart, patterns: list[str], to: str, directories: set[Path]
    ) -> list[dict[str, Any]]:
        files = []
        for item in made.files:
            if not any(fnmatch.fnmatchcase(item.path, pattern) for pattern in patterns):
                continue
            inside = f"{to}/{item.path}"
            path = root / inside
            if item.is_file:
                _link(made.root(self._cache) / item.path, path)
                files.append(_file(inside, item.sha256, item.size, item.mode, item.source))
            elif item.target is not None:
                path.parent.mkdir(parents=True, exist_ok=True)
                path.symlink_to(item.target)
            else:
                path.mkdir(parents=True, exist_ok=True)
                path.chmod(item.mode)
                directories.add(path)
        return files

    def _archive(self, name: str, image: ContainerImage) -> tuple[Path, str]:
        if name not in self._archives:
            layers = [self._base_layer(image.base)] if image.base else []
            entries = [Entry(directory) for directory in image.directories]
            for inside, reference in image.files.items():
                part, _, file = reference.partition("/")
                source = self._parts[part].root(self._cache) / file
                granted = tuple(image.capabilities.get(inside, ()))
                entries.append(Entry(inside, source=source, capabilities=granted))
            own = self._layer(name, entries)
            layers.append(own)
            path = self._work / "archives" / f"{name}.tar"
            config = Config(self._arch, image.entrypoint, image.user)
            docker_archive.write(path, self._release.image_name(name), layers, config)
            path.chmod(0o644)
            own.path.unlink()
            self._archives[name] = path, sha256_file(path)
        return self._archives[name]

    def _base_layer(self, part: str) -> Layer:
        if part not in self._layers:
            made = self._parts[part]
            entries = [
                Entry(
                    item.path,
                    item.mode,
                    made.root(self._cache) / item.path if item.is_file else None,
                    item.target,
                )
                for item in made.files
            ]
            self._layers[part] = self._layer(f"base-{part}", entries)
        return self._layers[part]

    def _layer(self, name: str, entries: list[Entry]) -> Layer:
        layer = docker_archive.write_layer(self._work / "layers" / f"{name}.tar", entries)
        log = self._cache / "logs" / f"pack-{self._release.kubernetes}.log"
        return docker_archive.compress(layer, log=log, commands=self._commands)

    def _components(self, role: Role, files: list[dict[str, Any]]) -> dict[str, str]:
        """Versions of what is in the image, Debian packages included."""
        names = {
            component
            for part in self._release.parts_of(role)
            for component in self._release.parts[part].components()
        }
        names |= {image.component for image in self._release.images_of(role).values()}
        versions = {name: self._release.versions[name] for name in names}
        if any(isinstance(part, GoPart | PausePart) for part in self._release.parts.values()):
            versions["go"] = self._release.toolchain.version
        sources = [file["source"] for file in files]
        sources += [
            item.source
            for part in self._release.parts_of(role)
            if isinstance(self._release.parts[part], DebianPart)
            for item in self._parts[part].files
        ]
        for source in sources:
            if source.startswith("debian "):
                _, package, version = source.split(" ")
                versions[package] = version
        return dict(sorted(versions.items()))


def _file(path: str, sha256: str, size: int, mode: int, source: str) -> dict[str, Any]:
    return {
        "path": path,
        "sha256": sha256,
        "size": size,
        "mode": f"{mode:04o}",
        "source": source,
    }


def _link(source: Path, target: Path) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    target.hardlink_to(source)
