# SPDX-License-Identifier: Apache-2.0
"""Which images of the store nobody needs any more. Pure."""

from __future__ import annotations

from collections.abc import Collection, Iterable

from kubewright.image.store import Image


def unused(images: Iterable[Image], used: Collection[str]) -> list[Image]:
    """Return those that are neither the newest of their release, role and architecture nor used.

    ``used``: the digests that clusters' nodes were given.
    """
    known = list(images)
    newest: dict[tuple[str, str, str], Image] = {}
    for image in sorted(known, key=lambda image: image.built_at):
        newest[image.kubernetes, image.role, image.arch] = image
    kept = {image.digest for image in newest.values()} | set(used)
    return [image for image in known if image.digest not in kept]
