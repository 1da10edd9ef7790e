# SPDX-License-Identifier: Apache-2.0
"""The system images on this machine that a cluster's nodes are to have."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from kubewright.image.index import ROLES, Image, Index, Role

if TYPE_CHECKING:
    from kubewright.image.store import Store


@dataclass(frozen=True)
class SystemImage:
    """``digest``: sha256 of the squashfs, in hex. ``path``: the squashfs on this machine."""

    digest: str
    path: Path


def current(version: str, store: Store | None = None) -> Mapping[str, SystemImage]:
    """Return the image of each role (control_plane, worker) for a patch release, if it has one.

    The one that a build would make today; else the newest of that release, so that a newer package
    does not make playbooks unusable until images have been built again.

    :raises kubewright.image.errors.ImageError: the index can't be read.
    """
    images: Index = store or Index()
    built = images.list()
    found = {}
    for role in ROLES:
        same = [image for image in built if (image.kubernetes, image.role) == (version, role)]
        if same:
            image = same[0] if len(same) == 1 else _best(same, version, role, store)
            found[str(role)] = SystemImage(image.digest, images.path(image))
    return found


def _best(same: Sequence[Image], version: str, role: Role, store: Store | None) -> Image:
    # Imported late: each start of Ansible parses the inventory, and mostly there is one alone.
    from kubewright.image import store as whole

    images = store or whole.Store()
    return images.find(version, role) or max(same, key=lambda image: image.built_at)
