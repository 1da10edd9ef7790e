# SPDX-License-Identifier: Apache-2.0
"""Finished parts in the cache: ``parts/<key>/{part.json,files/}``, there whole or not at all."""

from __future__ import annotations

import shutil
import stat
from collections.abc import Mapping
from pathlib import Path
from typing import Self

from pydantic import BaseModel, ConfigDict, ValidationError

from kubewright.image.paths import sha256_file, sync_directory


class File(BaseModel):
    """One thing in a part: a file with its hash and source, a link, or a directory."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    path: str
    mode: int
    sha256: str = ""
    size: int = 0
    source: str = ""
    target: str | None = None

    @property
    def is_file(self) -> bool:
        return bool(self.sha256)


class MadePart(BaseModel):
    """What ``part.json`` says."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    name: str
    key: str
    seconds: float
    files: list[File]

    @classmethod
    def find(cls, cache: Path, key: str) -> Self | None:
        """The part with this key; None when it has not been made (or its record is broken)."""
        try:
            return cls.model_validate_json((cache / "parts" / key / "part.json").read_bytes())
        except (FileNotFoundError, ValidationError):
            return None

    @classmethod
    def record(
        cls, name: str, key: str, seconds: float, files: Path, sources: Mapping[str, str]
    ) -> Self:
        """Describe what a recipe put into ``files``."""
        found = []
        for path in sorted(files.rglob("*")):
            inside = str(path.relative_to(files))
            mode = stat.S_IMODE(path.lstat().st_mode)
            if path.is_symlink():
                found.append(File(path=inside, mode=0o777, target=str(path.readlink())))
            elif path.is_dir():
                found.append(File(path=inside, mode=mode))
            else:
                found.append(
                    File(
                        path=inside,
                        mode=mode,
                        sha256=sha256_file(path),
                        size=path.stat().st_size,
                        source=sources[inside],
                    )
                )
        return cls(name=name, key=key, seconds=round(seconds, 1), files=found)

    def commit(self, cache: Path, directory: Path) -> None:
        """Turn ``directory`` (with ``files/`` in it) into the finished part by one rename.

        The data is not waited for: what a power cut spoils is found when an image is read back.
        """
        (directory / "part.json").write_text(self.model_dump_json(indent=1) + "\n")
        target = cache / "parts" / self.key
        shutil.rmtree(target, ignore_errors=True)
        directory.rename(target)
        sync_directory(target.parent)

    def root(self, cache: Path) -> Path:
        return cache / "parts" / self.key / "files"

    def discard_if_damaged(self, cache: Path) -> bool:
        """Hash the files again; remove the part when one differs. True when it was removed."""
        for file in self.files:
            path = self.root(cache) / file.path
            if file.is_file and (not path.is_file() or sha256_file(path) != file.sha256):
                shutil.rmtree(self.root(cache).parent)
                return True
        return False
