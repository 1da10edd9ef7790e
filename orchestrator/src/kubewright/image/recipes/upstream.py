# SPDX-License-Identifier: Apache-2.0
"""Programs out of upstream's release files, which come whole and as pinned (files.py)."""

from __future__ import annotations

import posixpath
import shutil
import tarfile
from pathlib import Path

from kubewright.image.catalogue import Download, UpstreamPart
from kubewright.image.errors import ImageError
from kubewright.image.files import Files
from kubewright.image.recipes import elf
from kubewright.image.recipes.job import Job

RECIPE = 1


def make(job: Job[UpstreamPart]) -> dict[str, str]:
    """Fetch the files of the part and take its programs out."""
    files = Files(job.origin)
    sources: dict[str, str] = {}
    for item in job.part.downloads:
        if item.sha256 is None:
            raise not_pinned([item.address], job.release.kubernetes)
        path = downloads(job.cache) / item.address
        files.fetch(item.address, path, item.sha256)
        sources |= unpack(item, path, job.files, job.arch)
    return sources


def downloads(cache: Path) -> Path:
    """Where release files lie in the cache, as in a mirror."""
    return cache / "downloads" / "upstream"


def unpack(item: Download, path: Path, target: Path, arch: str) -> dict[str, str]:
    """Write the programs of a downloaded file into ``target``; return the source of each.

    Raises ImageError for what is no archive, lacks a program, or has one of another architecture.
    """
    sources: dict[str, str] = {}
    if item.inside is None:
        (name,) = item.files
        shutil.copyfile(path, target / name)
        sources[name] = f"file {item.address}"
    else:
        sources = _extract(item, path, target)
    for name in item.files:
        program = target / name
        with program.open("rb") as file:
            found = elf.architecture(file.read(64))
        if found != arch:
            raise ImageError(
                f"{name} of {item.address} is {_described(found)}, not a program for {arch}.",
                "The upstream file is not what its name says: remove its pin, and don't use it.",
            )
        program.chmod(0o755)
    return sources


def not_pinned(names: list[str], version: str) -> ImageError:
    """Return the refusal of anything whose bytes nobody has pinned."""
    some = ", ".join(names[:3]) + (f" and {len(names) - 3} more" if len(names) > 3 else "")
    return ImageError(
        f"The catalogue has no pin for {some}, so nothing was downloaded.",
        f"Pin Kubernetes {version} on a machine that can reach upstream or your mirror:"
        f" kubewright image pin {version}.",
    )


def _extract(item: Download, path: Path, target: Path) -> dict[str, str]:
    wanted = {posixpath.join(item.inside or "", name): name for name in item.files}
    sources: dict[str, str] = {}
    try:
        with tarfile.open(path) as archive:
            for member in archive:
                inside = posixpath.normpath(member.name)
                if not (member.isfile() and inside in wanted):
                    continue
                data = archive.extractfile(member)
                assert data is not None  # it is a file
                name = wanted[inside]
                with data, (target / name).open("wb") as file:
                    shutil.copyfileobj(data, file)
                sources[name] = f"file {item.address} {inside}"
    except (tarfile.TarError, EOFError, OSError) as fault:
        raise ImageError(
            f"{item.address} can't be unpacked: {fault}.",
            f"The upstream file is not an archive: remove its pin. The file is {path}.",
        ) from fault
    if missing := sorted(set(item.files) - sources.keys()):
        raise ImageError(
            f"{item.address} has no {', '.join(missing)} in {item.inside or 'its top directory'}.",
            "Upstream has changed its archive: update the catalogue (upstream.yml).",
        )
    return sources


def _described(found: str | None) -> str:
    return "no program" if found is None else f"a program for {found}"
