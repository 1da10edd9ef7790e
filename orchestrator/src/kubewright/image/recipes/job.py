# SPDX-License-Identifier: Apache-2.0
"""What a recipe is given to work with."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Generic, TypeVar

from kubewright.image.catalogue import (
    DebianPart,
    GoPart,
    PausePart,
    RegistryPart,
    Release,
    UpstreamPart,
)
from kubewright.image.commands import Commands
from kubewright.image.origin import MODULES, Origin

PartType = TypeVar(
    "PartType", GoPart, PausePart, DebianPart, UpstreamPart, RegistryPart, covariant=True
)


@dataclass(frozen=True)
class Job(Generic[PartType]):
    """One part to be made.

    A recipe puts the result into ``files`` and returns where each file came from, in words for
    the manifest: ``{"kubelet": "module k8s.io/kubernetes@v1.37.2 cmd/kubelet"}``.
    ``work`` is scratch space that goes away afterwards, ``origin`` where upstream's files are.
    """

    name: str
    part: PartType
    release: Release
    arch: str
    cache: Path
    work: Path
    files: Path
    log: Path
    commands: Commands
    origin: Origin = MODULES
