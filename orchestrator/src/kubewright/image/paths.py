# SPDX-License-Identifier: Apache-2.0
"""Where things lie in the cache, and the small file operations that everything here shares.

::

    <cache>/go/{toolchain/<version>,mod,build}   Go: toolchain, modules, compiled packages
           /downloads/                           wheels, Debian packages, release files as they came
           /parts/<key>/                         what was made, by the hash of all its inputs
           /locks/<release>-<revision>-<arch>.json   versions that were looked up on the host
           /images/<sha256>.squashfs, index.json the system images
           /logs/                                output of the last attempt at each part

Deleting any of it costs time only.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import platform
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from kubewright.agreed import image_format
from kubewright.image.errors import ImageError


def cache_dir() -> Path:
    """``KUBEWRIGHT_CACHE_DIR``, or ``kubewright`` below ``XDG_CACHE_HOME`` or ``~/.cache``."""
    if own := os.environ.get("KUBEWRIGHT_CACHE_DIR"):
        return Path(own).absolute()
    base = os.environ.get("XDG_CACHE_HOME")
    return (Path(base) if base else Path.home() / ".cache").absolute() / "kubewright"


def pins_dir() -> Path:
    """Where the user's own pins are kept: they are no cache, nothing makes them anew."""
    base = os.environ.get("XDG_CONFIG_HOME")
    return (Path(base) if base else Path.home() / ".config").absolute() / "kubewright" / "pins"


def expanded(path: Path) -> Path:
    """The absolute path of one that a user typed, which may begin with ~. Raises ImageError."""
    try:
        return path.expanduser().absolute()
    except RuntimeError as fault:
        raise ImageError(f"{path} has no home directory.", "Write it from / on.") from fault


def host_arch() -> str:
    """This machine's architecture in Go's and Debian's word. Images are built natively."""
    machine = platform.machine()
    if machine not in image_format.ARCHITECTURES:
        raise ImageError(
            f"System images can't be built on a {machine} machine.",
            f"Use one of: {', '.join(sorted(image_format.ARCHITECTURES))}.",
        )
    return image_format.ARCHITECTURES[machine]


def sha256_file(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def write_atomically(path: Path, data: bytes) -> None:
    """Replace ``path`` whole: after a crash it holds the old bytes or the new ones."""
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        Path(name).chmod(0o644)
        Path(name).replace(path)
        sync_directory(path.parent)
    except BaseException:
        Path(name).unlink(missing_ok=True)
        raise


def sync_directory(path: Path) -> None:
    """Make a rename inside ``path`` durable."""
    handle = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


@contextmanager
def file_lock(path: Path, waiting: Callable[[str], None] | None = None) -> Iterator[None]:
    """Hold ``path`` locked against other processes and threads; it names its holder.

    ``waiting`` is called once with the holder's process id when the lock is taken by another.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("a+") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            if waiting is not None:
                file.seek(0)
                waiting(file.read().strip() or "unknown")
            fcntl.flock(file, fcntl.LOCK_EX)
        file.truncate(0)
        file.write(str(os.getpid()))
        file.flush()
        yield
