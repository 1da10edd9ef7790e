# SPDX-License-Identifier: Apache-2.0
"""What was tested, as a hash, and where its recording and results are kept."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path

#: What decides how an apply goes.
PARTS = ("roles", "plugins", "playbooks", "orchestrator/src")


def content_hash(repository: Path) -> str:
    """Return a hash of all files that decide how an apply goes: their names and their bytes."""
    digest = hashlib.sha256()
    for part in PARTS:
        for path in sorted((repository / part).rglob("*")):
            if path.is_file() and "__pycache__" not in path.parts:
                name = str(path.relative_to(repository)).encode()
                digest.update(len(name).to_bytes(4) + name)
                digest.update(hashlib.sha256(path.read_bytes()).digest())
    return digest.hexdigest()


@dataclass(frozen=True)
class Place:
    """The files of one content and one size of cluster, below ``cache``."""

    cache: Path
    content: str
    control_planes: int
    workers: int

    @property
    def size(self) -> str:
        """Control planes x workers."""
        return f"{self.control_planes}x{self.workers}"

    @property
    def directory(self) -> Path:
        """All files of this size."""
        return self.cache / "chaos" / self.content[:16] / self.size

    @property
    def recording(self) -> Path:
        """What a whole apply changed."""
        return self.directory / "recording.jsonl"

    def results(self, seed: str) -> Path:
        """The outcomes, as JSON lines."""
        return self.directory / f"{seed}.jsonl"

    def evidence(self, seed: str, point: str) -> Path:
        """Directory for what helps to understand a failure."""
        plain = "".join(letter if letter.isalnum() else "-" for letter in point)
        return self.directory / f"{seed}-failed" / plain
