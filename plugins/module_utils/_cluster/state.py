# Copyright: the Kubewright authors
# Apache License 2.0 (see LICENSE or https://www.apache.org/licenses/LICENSE-2.0)
"""Where a cluster's state is kept on the controller, and one writer of it at a time."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator, Mapping
from pathlib import Path

from ansible_collections.kubewright.cluster.plugins.module_utils._base import atomic, flock
from ansible_collections.kubewright.cluster.plugins.module_utils._base.errors import KubewrightError
from ansible_collections.kubewright.cluster.plugins.module_utils._cluster import schema

# Overrides the directory that has one of each cluster.
VARIABLE = "KUBEWRIGHT_STATE_DIR"

# In a cluster's directory: what is made once, what the providers said, which runs have written.
IDENTITY = "identity"
MACHINES = "machines.json"
KNOWN_HOSTS = "known_hosts"
RECORD = "record.json"
ROSTER = "roster.json"
STORE = "store.json"
LOCK = "lock"

LOCK_SECONDS = 60.0


def root(environ: Mapping[str, str] | None = None) -> Path:
    """The absolute directory that has one of each cluster.

    E(KUBEWRIGHT_STATE_DIR), else ``$XDG_STATE_HOME/kubewright``, else
    ``~/.local/state/kubewright``. A relative E(XDG_STATE_HOME) does not count, as its
    specification (XDG Base Directory) says.
    """
    env = os.environ if environ is None else environ
    if own := env.get(VARIABLE):
        return Path(own).expanduser().absolute()
    xdg = env.get("XDG_STATE_HOME", "")
    base = Path(xdg) if xdg.startswith("/") else Path("~/.local/state").expanduser()
    return base / "kubewright"


@contextlib.contextmanager
def locked(directory: Path, check_mode: bool) -> Iterator[None]:
    """Let one process at a time write what the state *directory* knows of its cluster.

    It is made where it is missing, and brought to the newest schema.
    """
    if check_mode:
        schema.CLUSTER.require(directory)
        yield
        return
    atomic.make_directories(directory, 0o700)
    fd = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        if not flock.take(fd, LOCK_SECONDS):
            raise KubewrightError(
                f"{directory} was locked by another process for more than {LOCK_SECONDS:g} "
                "s. Another run is writing this cluster's state: run it again when that run has "
                "finished."
            )
        schema.CLUSTER.bring_up(directory)
        yield
    finally:
        os.close(fd)
