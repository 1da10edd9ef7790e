# SPDX-License-Identifier: Apache-2.0
"""Which images of the store nobody needs any more. Pure."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable

from kubewright.image.index import Image


def unused(
    images: Iterable[Image], used: Collection[str], present: Callable[[Image], bool]
) -> list[Image]:
    """Return those that are neither the newest of their release, role and architecture nor used.

    ``used``: the digests that clusters' nodes were given. ``present``: whether an image's file is
    there; one without its file is of no use to anybody, and keeps no other from being the newest.
    """
    known = list(images)
    whole = [image for image in known if present(image)]
    newest: dict[tuple[str, str, str], Image] = {}
    for image in sorted(whole, key=lambda image: image.built_at):
        newest[image.kubernetes, image.role, image.arch] = image
    kept = {image.digest for image in newest.values()}
    kept |= {image.digest for image in whole} & set(used)
    return [image for image in known if image.digest not in kept]
