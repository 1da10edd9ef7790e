# Copyright: the Kubewright authors
# Apache License 2.0 (see LICENSE or https://www.apache.org/licenses/LICENSE-2.0)
"""Private to kubewright.cluster: which processes hold a lock."""

from __future__ import annotations

import contextlib
from pathlib import Path


def of_lock(path: Path) -> list[int]:
    """The process ids of those that hold a ``flock`` on *path*; who only waits for it does not.

    The kernel marks the descriptors that hold a lock in ``fdinfo``, also those that were inherited.
    """
    pids = []
    for process in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            for fd in (process / "fd").iterdir():
                if str(fd.readlink()) == str(path):
                    if "FLOCK" in (process / "fdinfo" / fd.name).read_text("ascii", "replace"):
                        pids.append(int(process.name))
                    break
    return pids
