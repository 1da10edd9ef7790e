# SPDX-License-Identifier: Apache-2.0
"""The system images on this machine that a cluster's nodes are to have."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from kubewright.image import ROLES, Store


@dataclass(frozen=True)
class SystemImage:
    """``digest``: sha256 of the squashfs, in hex. ``path``: the squashfs on this machine."""

    digest: str
    path: Path


def current(version: str, store: Store | None = None) -> Mapping[str, SystemImage]:
    """Return the image of each role (control_plane, worker) for a patch release, if it has one.

    The one that a build would make today; else the newest of that release, so that a newer package
    does not make playbooks unusable until images have been built again.

    :raises kubewright.image.ImageError: the store's index can't be read.
    """
    images = store or Store()
    built = images.list()
    found = {}
    for role in ROLES:
        same = [image for image in built if (image.kubernetes, image.role) == (version, role)]
        newest = max(same, key=lambda image: image.built_at, default=None)
        image = (images.find(version, role) if same else None) or newest
        if image is not None:
            found[str(role)] = SystemImage(image.digest, images.path(image))
    return found
