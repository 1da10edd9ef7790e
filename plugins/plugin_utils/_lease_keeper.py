# Copyright: the Kubewright authors
# Apache License 2.0 (see LICENSE or https://www.apache.org/licenses/LICENSE-2.0)
"""Private to kubewright.cluster: what renews the lease of a plain ansible-playbook.

Nothing of a collection lives as long as ansible-playbook itself: an action runs in a worker that
ends with its task. So the lease has a process of its own, which ends with ansible-playbook, and
does not renew it while that one is stopped: then the lease runs out, as it does for the command.
"""

from __future__ import annotations

import contextlib
import os
import select
import signal
from pathlib import Path

from ansible_collections.kubewright.cluster.plugins.module_utils._cluster import lease

#: States of a process that stands still, see proc(5).
STOPPED = "Tt"


def in_background(lock: Path, pid: int) -> None:
    """Renew the lease in *lock* of process *pid* from now on, until one of them is gone.

    It holds none of the caller's files, so nobody who reads ansible-playbook's output waits for it.
    """
    child = os.fork()
    if child == 0:
        status = 1
        try:
            # Its parent is nobody who would have to wait for it.
            if os.fork() == 0:
                _let_go()
                keep(lock, pid)
            status = 0
        finally:
            os._exit(status)
    os.waitpid(child, 0)


def _let_go() -> None:
    """Keep nothing of the process that this one came from."""
    # The interrupt is for ansible-playbook, whose end is seen.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    for number in (signal.SIGTERM, signal.SIGHUP, signal.SIGALRM):
        signal.signal(number, signal.SIG_DFL)
    os.chdir("/")
    nothing = os.open(os.devnull, os.O_RDWR)
    for descriptor in range(3):
        os.dup2(nothing, descriptor)
    os.closerange(3, os.sysconf("SC_OPEN_MAX"))


def keep(lock: Path, pid: int) -> None:
    """Renew it every quarter of its time, until the process is gone or has it no more."""
    _, started = lease.process(pid)
    try:
        process = os.pidfd_open(pid)
    except ProcessLookupError:
        return
    waiting = select.poll()
    waiting.register(process, select.POLLIN)
    while not waiting.poll(lease.TTL_SECONDS / 4 * 1000):
        state, since = lease.process(pid)
        if since != started:
            return
        if state in STOPPED:
            continue
        # Such as a full disk: it is tried again, and runs out where that goes on.
        with contextlib.suppress(OSError):
            if not lease.renew(lock, pid, started):
                return
