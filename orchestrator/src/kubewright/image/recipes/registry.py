# SPDX-License-Identifier: Apache-2.0
"""A container image as upstream publishes it, as an archive that containerd imports by its name.

The archive is an OCI layout in a tar: manifest, configuration and layers stay byte for byte what
the pin says. Source of the format: OCI Image Format Specification v1.1, image-layout.md.
"""

from __future__ import annotations

import io
import json
import tarfile
from pathlib import Path

from kubewright.image import registry
from kubewright.image.catalogue import RegistryPart
from kubewright.image.files import Files
from kubewright.image.recipes.job import Job
from kubewright.image.recipes.upstream import not_pinned

RECIPE = 1
ARCHIVE = "image.tar"


def make(job: Job[RegistryPart]) -> dict[str, str]:
    """Fetch the image by its digest, out of a registry or of a mirror's files."""
    part = job.part
    if part.digest is None:
        raise not_pinned([part.name], job.release.kubernetes)
    directory = job.work / "image"
    if job.origin.by_registry:
        reference = job.origin.image(part.name, part.digest)
        registry.copy(
            f"docker://{reference}",
            f"dir:{directory}",
            what=f"fetching {reference}",
            log=job.log,
            commands=job.commands,
        )
    else:
        registry.fetch(Files(job.origin), part.name, part.digest, directory)
    manifest = registry.check(directory, part.name, part.digest, job.arch)
    write(job.files / ARCHIVE, part.name, part.digest, directory, manifest)
    return {ARCHIVE: f"image {part.name}@{part.digest}"}


def write(path: Path, name: str, digest: str, directory: Path, manifest: registry.Manifest) -> None:
    """Write the archive; the same image gives the same bytes."""
    descriptor = {
        "mediaType": manifest.media_type,
        "digest": digest,
        "size": len(manifest.data),
        "annotations": {
            # containerd takes the whole name from its own annotation, others the tag.
            "io.containerd.image.name": name,
            "org.opencontainers.image.ref.name": name.rpartition(":")[2],
        },
    }
    index = {"schemaVersion": 2, "manifests": [descriptor]}
    with tarfile.open(path, "w", format=tarfile.PAX_FORMAT) as tar:
        _add(tar, "oci-layout", json.dumps({"imageLayoutVersion": "1.0.0"}).encode())
        _add(tar, "index.json", json.dumps(index, sort_keys=True).encode())
        _add(tar, f"blobs/sha256/{digest.removeprefix('sha256:')}", manifest.data)
        for blob in manifest.blobs:
            item = tarfile.TarInfo(f"blobs/sha256/{blob}")
            item.size = (directory / blob).stat().st_size
            with (directory / blob).open("rb") as file:
                tar.addfile(item, file)
    path.chmod(0o644)


def _add(tar: tarfile.TarFile, name: str, data: bytes) -> None:
    item = tarfile.TarInfo(name)
    item.size = len(data)
    tar.addfile(item, io.BytesIO(data))
