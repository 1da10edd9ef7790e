# SPDX-License-Identifier: Apache-2.0
"""System images: what they are made of, how they are built, where they are kept.

::

    from kubewright.image import Store, build
    images = build("1.37", ["control_plane", "worker"], lambda line, seconds: print(line))
    Store().find("1.37", "worker")
"""

from __future__ import annotations

from kubewright.image.builder import ROLES, build
from kubewright.image.catalogue import Catalogue, Role
from kubewright.image.errors import ImageError
from kubewright.image.mirror import fill
from kubewright.image.origin import UPSTREAM, Origin, SourceName
from kubewright.image.paths import cache_dir, host_arch
from kubewright.image.pin import pin
from kubewright.image.store import Image, Store, Verdict
from kubewright.image.unused import unused

__all__ = [
    "ROLES",
    "UPSTREAM",
    "Catalogue",
    "Image",
    "ImageError",
    "Origin",
    "Role",
    "SourceName",
    "Store",
    "Verdict",
    "build",
    "cache_dir",
    "fill",
    "host_arch",
    "pin",
    "unused",
]
