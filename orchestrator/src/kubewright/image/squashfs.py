# SPDX-License-Identifier: Apache-2.0
"""Packs a directory into a squashfs whose bytes depend on its contents alone; looks into one."""

from __future__ import annotations

import hashlib
import subprocess
from pathlib import Path

from kubewright.image.commands import Commands, output_of
from kubewright.image.errors import ImageError

# Measured on a worker's 639 MB, processor time; nodes read more often than anybody packs:
#   zstd 1: 230 MB in 1.6 s    zstd 3: 211 MB in 2.8 s    zstd 9: 199 MB in 11 s   zstd 15: 115 s
#   lz4:    309 MB in 1.0 s    none:   668 MB in 0.1 s    (zstd 3, 128K blocks: 219 MB)
# Reading costs 1.4 ms a MB of contents at every level of zstd, 0.8 with lz4, 0.6 without. So level
# 3: a third less to send than with lz4, for a quarter of a second of the node's time at most.
# What lies in images/ is compressed already and is stored as it is.
OPTIONS = (
    *("-comp", "zstd", "-Xcompression-level", "3", "-b", "256K"),
    *("-action", "uncompressed@pathname(images/*)"),
)
_SAME_BYTES = (
    *("-noappend", "-all-root", "-all-time", "0", "-mkfs-time", "0", "-root-mode", "0755"),
    # Inputs may be hard links to one file; how many there are must not show.
    *("-no-xattrs", "-no-hardlinks", "-no-exports"),
)


def pack(tree: Path, target: Path, *, log: Path, commands: Commands) -> None:
    """Write ``tree`` as the squashfs ``target``."""
    commands.run(
        ["mksquashfs", tree, target, *_SAME_BYTES, *OPTIONS, "-no-progress", "-quiet"],
        what=f"packing {target.name}",
        log=log,
    )


def listing(image: Path) -> dict[str, str]:
    """Files (not directories or links) in a squashfs: path -> mode, ``{"bin/runc": "0755"}``."""
    text = output_of(["unsquashfs", "-lls", "-d", "", image])
    if text is None:
        raise ImageError(f"{image} is not a readable squashfs.", "Build the image again.")
    files = {}
    for line in text.splitlines():
        if line.startswith("-"):
            mode, _, _, _, _, path = line.split(None, 5)
            files[path.lstrip("/")] = f"{_octal(mode[1:]):04o}"
    return files


def hash_of(image: Path, inside: str) -> str | None:
    """sha256 of one file in a squashfs; None when it is missing or can't be read whole."""
    with subprocess.Popen(
        ["unsquashfs", "-cat", image, inside],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
    ) as process:
        assert process.stdout is not None
        digest = hashlib.sha256()
        while block := process.stdout.read(1 << 20):
            digest.update(block)
    return digest.hexdigest() if process.returncode == 0 else None


def read(image: Path, inside: str) -> str | None:
    """Text of one file in a squashfs."""
    return output_of(["unsquashfs", "-cat", image, inside])


def _octal(mode: str) -> int:
    """``rwsr-xr-x`` -> 0o4755."""
    bits = sum(1 << (8 - index) for index, letter in enumerate(mode) if letter not in "-ST")
    special = sum(0o1000 << (2 - index) for index in range(3) if mode[index * 3 + 2] in "sStT")
    return bits | special
