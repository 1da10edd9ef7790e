# SPDX-License-Identifier: Apache-2.0
"""System images made from a good one, most of them broken, in an image store of the tests' own."""

from __future__ import annotations

import hashlib
import json
import shutil
import subprocess
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

#: The interpreter of a dynamic program, and one of the same length that no machine has.
LOADER, NO_LOADER = b"/lib64/ld-linux-x86-64.so.2", b"/lib64/ld-nowhere-86.so.2.."
DYNAMIC = "lb/usr/sbin/haproxy"


def _script(tree: Path, program: str, text: str) -> None:
    path = tree / "bin" / program
    path.unlink()
    path.write_text(f"#!/bin/sh\n{text}\n")
    path.chmod(0o755)


def exits(tree: Path) -> None:
    """containerd that ends at once."""
    _script(tree, "containerd", "echo broken on purpose; exit 1")


def hangs(tree: Path) -> None:
    """A kubelet that never answers."""
    _script(tree, "kubelet", "exec sleep infinity")


def wrong_libc(tree: Path) -> None:
    """containerd that was linked for another system's loader."""
    text = (tree / DYNAMIC).read_bytes()
    assert text.count(LOADER) == 1 and len(LOADER) == len(NO_LOADER)
    path = tree / "bin/containerd"
    path.unlink()
    path.write_bytes(text.replace(LOADER, NO_LOADER))
    path.chmod(0o755)


def good(tree: Path) -> None:
    """Nothing but another file: another image all the same."""
    (tree / "another").touch()


@dataclass
class Images:
    """A ``cache`` with images of its own: those of the real one, and what is made of them.

    All else in it is the real one's, or the command would build everything anew.
    """

    real: Path
    cache: Path

    def __post_init__(self) -> None:
        for entry in self.real.iterdir():
            if entry.name != "images":
                (self.cache / entry.name).symlink_to(entry)
        source = self.real / "images"
        self.directory.mkdir()
        self.entries: list[dict[str, Any]] = json.loads((source / "index.json").read_text())
        for image in self.entries:
            shutil.copyfile(source / image["file"], self.directory / image["file"])
        self._write()

    @property
    def directory(self) -> Path:
        """Where the images lie."""
        return self.cache / "images"

    def of(self, role: str) -> dict[str, Any]:
        """The newest image of a role: what the tests' cluster runs from."""
        found = [entry for entry in self.entries if entry["role"] == role]
        return max(found, key=lambda entry: str(entry["built_at"]))

    def make(self, role: str, change: Callable[[Path], None]) -> str:
        """Make an image with a change; give its digest. It is older than all others."""
        origin = self.of(role)
        tree, file = self.directory / "tree", self.directory / "new"
        quiet = ["-quiet", "-no-progress"]
        source = str(self.directory / origin["file"])
        _run("unsquashfs", *quiet, "-dest", str(tree), source)
        change(tree)
        level = ["-comp", "zstd", "-Xcompression-level", "1", "-all-root", "-noappend"]
        _run("mksquashfs", str(tree), str(file), *quiet, *level)
        shutil.rmtree(tree)
        with file.open("rb") as opened:
            digest = hashlib.file_digest(opened, "sha256").hexdigest()
        name = f"{digest}.squashfs"
        file.rename(self.directory / name)
        size = (self.directory / name).stat().st_size
        changed = {"digest": digest, "file": name, "key": digest, "size": size}
        self.entries.append({**origin, **changed, "built_at": "2026-01-01T00:00:00Z"})
        self._write()
        return digest

    def _write(self) -> None:
        (self.directory / "index.json").write_text(json.dumps(self.entries))


def _run(*command: str) -> None:
    subprocess.run(command, check=True, timeout=300, stdout=subprocess.DEVNULL)
