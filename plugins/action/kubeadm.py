# Copyright: the Kubewright authors
# Apache License 2.0 (see LICENSE or https://www.apache.org/licenses/LICENSE-2.0)
"""Run kubeadm on the node, which has a limit there and here. Control planes join one at a time.

etcd takes one new member and refuses the next until that one votes, while kubeadm asks again and
again. Each refused request stays in etcd's log as a member that never was, and after its next
start etcd looks for all of those without end: a third of a core and megabytes of messages.
"""

from __future__ import annotations

import contextlib
import fcntl
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from ansible import constants
from ansible_collections.kubewright.cluster.plugins.plugin_utils._on_node import NodeAction


class ActionModule(NodeAction):
    """One remote call."""

    def run(
        self, tmp: str | None = None, task_vars: dict[str, Any] | None = None
    ) -> dict[str, Any]:
        """See the module's documentation."""
        arguments = self._task.args
        joins = (arguments.get("state"), arguments.get("role")) == ("joined", "control_plane")
        with _turn() if joins else contextlib.nullcontext():
            return super().run(tmp, task_vars)


@contextlib.contextmanager
def _turn() -> Iterator[None]:
    """Wait until no other host of this run joins a control plane.

    ``throttle`` does not do that: to a free strategy, the tasks of a role that is included are
    other tasks on each host.
    """
    # The directory is this run's own, and all of its hosts'.
    with Path(constants.DEFAULT_LOCAL_TMP, "control-plane-joins").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield
