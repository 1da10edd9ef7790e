# SPDX-License-Identifier: Apache-2.0
"""Inputs that the catalogue does not pin because the host has them: looked up once, then kept.

Debian packages, the C compiler with its libraries, and the packer change when the host is updated.
A release's image must not change its digest for that (every node would see drift), so the versions
are written down at the first build. They are looked up again when something that depends on
them has to be made anew, and for a new revision of the release.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Self

from pydantic import BaseModel, ConfigDict, ValidationError

from kubewright.image.catalogue import DebianPart, Release
from kubewright.image.commands import Commands, output_of
from kubewright.image.paths import write_atomically
from kubewright.image.recipes import packages


class Locked(BaseModel):
    """What was found on the host for one release."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    # part -> package -> (version, sha256 of the .deb)
    debian: dict[str, dict[str, packages.Pinned]] = {}
    # program or library -> version; programs that link C statically depend on these
    compiler: dict[str, str] = {}
    # mksquashfs and zstd -> version: another one may pack the same files into other bytes
    packing: dict[str, str] = {}

    @staticmethod
    def path(cache: Path, release: Release, arch: str) -> Path:
        return cache / "locks" / f"{release.kubernetes}-{release.revision}-{arch}.json"

    @classmethod
    def load(cls, cache: Path, release: Release, arch: str) -> Self | None:
        """What was kept for the release; None before its first build or when it is unreadable."""
        try:
            return cls.model_validate_json(cls.path(cache, release, arch).read_bytes())
        except (FileNotFoundError, ValidationError):
            return None

    def save(self, cache: Path, release: Release, arch: str) -> None:
        text = self.model_dump_json(indent=1)
        write_atomically(self.path(cache, release, arch), f"{text}\n".encode())


def debian_packages(
    cache: Path, release: Release, arch: str, commands: Commands
) -> dict[str, dict[str, packages.Pinned]]:
    """Look up the newest packages for every Debian part of the release."""
    archive = packages.Archive(cache, arch, commands)
    archive.update()
    return {
        name: archive.closure(part.packages)
        for name, part in release.parts.items()
        if isinstance(part, DebianPart)
    }


def compiler() -> dict[str, str]:
    """Versions of the C compiler and of what static programs take in."""
    found = {"gcc": output_of(["gcc", "-dumpfullversion"]) or ""}
    for package in ("libc6-dev", "libseccomp-dev"):
        found[package] = output_of(["dpkg-query", "-W", "-f", "${Version}", package]) or ""
    return {name: version.strip() for name, version in found.items()}


def packing() -> dict[str, str]:
    """Versions of the programs that pack an image."""
    squashfs = (output_of(["mksquashfs", "-version"]) or "").split("\n", 1)[0]
    zstd = output_of(["zstd", "--version"]) or ""
    return {
        "mksquashfs": squashfs.removeprefix("mksquashfs version ").split(" ", 1)[0],
        "zstd": next(iter(re.findall(r"v(\d[\d.]*)", zstd)), ""),
    }
