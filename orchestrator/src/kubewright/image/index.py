# SPDX-License-Identifier: Apache-2.0
"""Which images are on this machine, as their index says. Each start of Ansible reads it."""

from __future__ import annotations

from datetime import datetime
from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ConfigDict, TypeAdapter, ValidationError

from kubewright.image.errors import ImageError
from kubewright.image.origin import Kind
from kubewright.image.paths import cache_dir

#: Of a node: each has an image of its own.
Role = Literal["control_plane", "worker"]
ROLES: tuple[Role, ...] = ("control_plane", "worker")


class Image(BaseModel):
    """One entry of the index. ``file`` is relative to the index, ``size`` in bytes.

    ``source``: whether it was built from modules or has upstream's own files. Of images of one
    release from both, readers take the one with the later ``built_at``.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    kubernetes: str
    revision: int
    arch: str
    role: Role
    digest: str
    file: str
    size: int
    key: str
    built_at: datetime
    source: Kind = "modules"


# The class below has a method of the name `list`.
Images = list[Image]
#: For the whole file.
ENTRIES = TypeAdapter(Images)


class Index:
    """What is known of the images below ``<cache>/images``, which lie beside it."""

    def __init__(self, cache: Path | None = None) -> None:
        self._cache = cache or cache_dir()
        self._directory = self._cache / "images"
        self._index = self._directory / "index.json"

    def path(self, image: Image) -> Path:
        """The squashfs file of an image."""
        return self._directory / image.file

    def present(self, image: Image) -> bool:
        """Whether an image's file is there, as long as the index says; its bytes may differ."""
        try:
            return self.path(image).stat().st_size == image.size
        except FileNotFoundError:
            return False

    def list(self) -> Images:
        """All images, newest Kubernetes first. Raises ImageError when the index is not readable."""
        images = self._read()
        return sorted(images, key=lambda image: (_order(image), image.built_at), reverse=True)

    def _read(self) -> Images:
        try:
            return ENTRIES.validate_json(self._index.read_bytes())
        except FileNotFoundError:
            return []
        except (OSError, ValidationError) as fault:
            raise ImageError(
                f"The index of system images {self._index} can't be read: {_short(fault)}.",
                "Build the image again: finished parts are kept, so it takes about half a minute.",
            ) from fault


def _order(image: Image) -> tuple[int, ...]:
    return tuple(int(number) for number in image.kubernetes.split("."))


def _short(fault: Exception) -> str:
    return str(fault).split("\n", 1)[0]
