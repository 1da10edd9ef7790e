# SPDX-License-Identifier: Apache-2.0
"""The hash of all inputs of a part or of an image. Pure: the same arguments, the same key.

A key changes exactly when what is made from it may change. Whoever changes a recipe or the assembly
so that the same inputs give other bytes raises the number beside it.
"""

from __future__ import annotations

import hashlib
import json
from typing import Any

from kubewright.image import docker_archive, squashfs
from kubewright.image.catalogue import (
    DebianPart,
    GoPart,
    PausePart,
    RegistryPart,
    Release,
    UpstreamPart,
)
from kubewright.image.index import Role
from kubewright.image.locked import Locked
from kubewright.image.recipes import debian, go, pause, registry, upstream

# Counts up when assemble.py or docker_archive.py lays things out in another way.
ASSEMBLY = 2


def part_key(release: Release, name: str, locked: Locked, arch: str) -> str:
    """Key of one part: versions, flags, toolchain, host libraries where they go in."""
    part = release.parts[name]
    inputs: dict[str, Any] = {
        "arch": arch,
        # Where the files go is the image's matter.
        "part": part.model_dump(mode="json", exclude={"install"}),
        "versions": {component: release.versions[component] for component in part.components()},
    }
    if isinstance(part, GoPart):
        inputs["code"] = go.RECIPE
        digests: dict[str, str] = {
            str(key): value for key, value in release.toolchain.sha256.items()
        }
        inputs["toolchain"] = [release.toolchain.version, digests.get(arch)]
        inputs["ldflags"] = release.ldflags(part)
    elif isinstance(part, PausePart):
        inputs["code"] = pause.RECIPE
        inputs["tag"] = release.versions["pause"]
    elif isinstance(part, DebianPart):
        inputs["code"] = debian.RECIPE
        packages = locked.debian.get(name, {})
        inputs["packages"] = {key: pin.model_dump() for key, pin in packages.items()}
    elif isinstance(part, UpstreamPart):
        inputs["code"] = upstream.RECIPE
    elif isinstance(part, RegistryPart):
        inputs["code"] = registry.RECIPE
    if uses_compiler(release, name):
        inputs["compiler"] = locked.compiler
    return _hash(inputs)


def uses_compiler(release: Release, name: str) -> bool:
    """Whether the part takes in something of the host's C toolchain."""
    part = release.parts[name]
    return isinstance(part, PausePart) or (isinstance(part, GoPart) and part.cgo)


def image_key(release: Release, role: Role, locked: Locked, arch: str) -> str:
    """Key of a system image."""
    return _hash(
        {
            "code": ASSEMBLY,
            "kubernetes": release.kubernetes,
            "revision": release.revision,
            "versions": release.versions,
            "role": role,
            "arch": arch,
            "parts": {
                name: [
                    part_key(release, name, locked, arch),
                    [install.model_dump(mode="json") for install in release.parts[name].install],
                ]
                for name in release.parts_of(role)
            },
            "images": {
                name: [release.image_name(name), image.model_dump(mode="json")]
                for name, image in release.images_of(role).items()
            },
            "packing": [locked.packing, docker_archive.ZSTD_LEVEL, *squashfs.OPTIONS],
        }
    )


def _hash(inputs: dict[str, Any]) -> str:
    text = json.dumps(inputs, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()
