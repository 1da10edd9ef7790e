# SPDX-License-Identifier: Apache-2.0
"""Small real system images: a squashfs with a manifest, which the kernel mounts."""

from __future__ import annotations

import hashlib
import json
import os
import platform
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import Any

HERE = {"x86_64": "amd64", "aarch64": "arm64"}.get(platform.machine(), platform.machine())


@dataclass(frozen=True)
class Made:
    """An image in a file."""

    path: Path
    digest: str

    @property
    def content(self) -> bytes:
        return self.path.read_bytes()


def make(directory: Path, name: str, *, filling: int = 0, **manifest: Any) -> Made:
    """A squashfs with a manifest, a program, and *filling* bytes that can't be compressed."""
    tree = directory / f"{name}.tree"
    (tree / "bin").mkdir(parents=True)
    (tree / "bin/nap").write_bytes(Path("/bin/sleep").read_bytes())
    (tree / "bin/nap").chmod(0o755)
    (tree / "filling").write_bytes(os.urandom(filling))
    said = {"schema": 1, "kubernetes": "1.37.2", "revision": 1, "arch": HERE, "role": "worker"}
    (tree / "manifest.json").write_text(json.dumps({**said, "note": name, **manifest}))
    path = directory / f"{name}.squashfs"
    subprocess.run(["mksquashfs", tree, path, "-quiet", "-no-progress"], check=True)
    return Made(path, hashlib.sha256(path.read_bytes()).hexdigest())
