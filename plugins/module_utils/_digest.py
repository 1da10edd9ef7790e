# Copyright: the Kubewright authors
# Apache License 2.0 (see LICENSE or https://www.apache.org/licenses/LICENSE-2.0)
"""Private to kubewright.cluster: SHA-256 of files, as they lie on the disk."""

from __future__ import annotations

import hashlib
import os
import re
from pathlib import Path

from ansible_collections.kubewright.cluster.plugins.module_utils._errors import KubewrightError

CHUNK_BYTES = 1 << 20
_HEX = re.compile(r"[0-9a-f]{64}")


def parse(text: str) -> str:
    """*text* when it is a SHA-256 in lower-case hex, else `KubewrightError`."""
    if not _HEX.fullmatch(text):
        raise KubewrightError(f"digest {text[:80]!r} is not a SHA-256 in 64 lower-case hex digits.")
    return text


def of_stored_file(path: Path) -> str:
    """Bring *path* to disk, forget what memory holds of it, and hash what comes back."""
    digest = hashlib.sha256()
    buffer = bytearray(CHUNK_BYTES)
    view = memoryview(buffer)
    fd = os.open(path, os.O_RDONLY | os.O_NOFOLLOW)
    try:
        os.fsync(fd)
        os.posix_fadvise(fd, 0, 0, os.POSIX_FADV_DONTNEED)
        os.posix_fadvise(fd, 0, 0, os.POSIX_FADV_SEQUENTIAL)
        while count := os.readv(fd, [buffer]):
            digest.update(view[:count])
    finally:
        os.close(fd)
    return digest.hexdigest()
