# SPDX-License-Identifier: Apache-2.0
"""Loop devices and mounts for tests: whatever happens in the body, they are gone after it."""

from __future__ import annotations

import contextlib
import ctypes
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

from ansible_collections.kubewright.cluster.plugins.module_utils import _command

ENVIRONMENT = {**os.environ, "PATH": f"{os.environ.get('PATH', '')}:{_command.ADMIN_PATH}"}


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
