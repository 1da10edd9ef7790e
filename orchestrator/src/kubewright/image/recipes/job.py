# SPDX-License-Identifier: Apache-2.0
"""What a recipe is given to work with."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Generic, TypeVar

from kubewright.image.catalogue import DebianPart, GoPart, PausePart, Release
from kubewright.image.commands import Commands

PartType = TypeVar("PartType", GoPart, PausePart, DebianPart, covariant=True)


@dataclass(frozen=True)
class Job(Generic[PartType]):
    """One part to be made.

    A recipe puts the result into ``files`` and returns where each file came from, in words for
    the manifest: ``{"kubelet": "module k8s.io/kubernetes@v1.37.2 cmd/kubelet"}``.
    ``work`` is scratch space that goes away afterwards.
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
