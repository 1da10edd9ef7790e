# SPDX-License-Identifier: Apache-2.0
"""System images: what they are made of, how they are built, where they are kept.

::

    from kubewright.image.builder import build
    from kubewright.image.store import Store
    images = build("1.37", ["control_plane", "worker"], lambda line, seconds: print(line))
    Store().find("1.37", "worker")

Nothing is imported here: most of what starts asks the index alone.
"""
