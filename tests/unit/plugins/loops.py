# SPDX-License-Identifier: Apache-2.0
"""Loop devices and mounts for tests: whatever happens in the body, they are gone after it."""

from __future__ import annotations

import contextlib
import ctypes
import errno
import os
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

from ansible_collections.kubewright.cluster.plugins.module_utils._base import commands

ENVIRONMENT = {**os.environ, "PATH": f"{os.environ.get('PATH', '')}:{commands.ADMIN_PATH}"}


def run(*argv: object) -> str:
    """A command's output; it has to succeed."""
    command = [str(word) for word in argv]
    done = subprocess.run(command, env=ENVIRONMENT, capture_output=True, text=True)
    assert done.returncode == 0, f"{command}: {done.stderr}"
    return done.stdout


@contextlib.contextmanager
def loop_device(file: Path) -> Iterator[Path]:
    """A loop device of *file*."""
    device = Path(run("losetup", "--find", "--show", file).strip())
    try:
        yield device
    finally:
        run("losetup", "--detach", device)


@contextlib.contextmanager
def mounted(source: Path, point: Path, options: str = "loop,noatime") -> Iterator[Path]:
    """*source* mounted at *point*; its loop device goes with it."""
    point.mkdir(parents=True, exist_ok=True)
    run("mount", "-o", options, source, point)
    try:
        yield point
    finally:
        run("umount", point)
        _released(source)


def _released(source: Path, limit: float = 60.0) -> None:
    """Return when a file is no disk any more, and nothing has a device for itself.

    A mount namespace of another test may have a copy of the mount for a moment.
    """
    deadline = time.monotonic() + limit
    while run("losetup", "--associated", source) or _is_held(source):
        assert time.monotonic() < deadline, f"{source} is still used"
        time.sleep(0.01)


def _is_held(source: Path) -> bool:
    if not source.is_block_device():
        return False
    try:
        os.close(os.open(source, os.O_RDONLY | os.O_EXCL))
    except OSError as error:
        if error.errno == errno.EBUSY:
            return True
        raise
    return False


def bring_to_disk(point: Path) -> None:
    """Let the kernel write all that it has of the file system at *point*, and of no other."""
    fd = os.open(point, os.O_RDONLY)
    try:
        assert ctypes.CDLL(None, use_errno=True).syncfs(fd) == 0, os.strerror(ctypes.get_errno())
    finally:
        os.close(fd)


def is_sound(path: Path) -> bool:
    """Whether a complete check finds nothing to repair."""
    command = ["e2fsck", "-f", "-n", str(path)]
    return subprocess.run(command, env=ENVIRONMENT, capture_output=True).returncode == 0
