# Copyright: the Kubewright authors
# Apache License 2.0 (see LICENSE or https://www.apache.org/licenses/LICENSE-2.0)
"""Take or confirm the run's epoch and id, on the controller, for ansible-playbook's process."""

from __future__ import annotations

import multiprocessing
import os
from pathlib import Path
from typing import Any

from ansible_collections.kubewright.cluster.plugins.module_utils._cluster import epoch, state
from ansible_collections.kubewright.cluster.plugins.module_utils._cluster.claims import Claim
from ansible_collections.kubewright.cluster.plugins.modules import run_epoch
from ansible_collections.kubewright.cluster.plugins.plugin_utils import _lease_keeper
from ansible_collections.kubewright.cluster.plugins.plugin_utils._local import LocalAction


class ActionModule(LocalAction):
    """No connection and no module: two files of this machine."""

    argument_spec = run_epoch.argument_spec

    def run(
        self, tmp: str | None = None, task_vars: dict[str, Any] | None = None
    ) -> dict[str, Any]:
        """Keep the number of AWX's job, for `work`."""
        self._job = int((task_vars or {}).get("awx_job_id", 0))
        result: dict[str, Any] = super().run(tmp, task_vars)
        return result

    def work(self, arguments: dict[str, Any]) -> dict[str, Any]:
        """Give the run's number, which is its own affair: this alone has changed nothing."""
        return {"changed": False, **self._claim(arguments).as_dict()}

    def _claim(self, arguments: dict[str, Any]) -> Claim:
        store = self._local(arguments["path"])
        lock = self._local(arguments["lock"]) if arguments["lock"] else store.with_name(state.LOCK)
        place = epoch.Place(store, lock)
        # AWX keeps no store, and its jobs have growing numbers: the epoch is at least the job's.
        seen = [*Claim.all_of(arguments["seen"]), Claim(max(0, self._job - 1))]
        check_mode = self._task.check_mode
        if own := Claim.of(arguments):
            return epoch.check(place, own, seen, check_mode=check_mode)
        pid = _main_process()
        claim = epoch.take(place, pid, seen, check_mode=check_mode, job=self._job)
        if not check_mode:
            _lease_keeper.in_background(lock, pid)
        return claim

    def _local(self, path: str) -> Path:
        """A path on the controller, as it is or beside the playbook."""
        found = Path(path).expanduser()
        return found if found.is_absolute() else Path(self._loader.path_dwim(path))


def _main_process() -> int:
    """The process id of ansible-playbook, which forks a worker for each task of a host."""
    parent = multiprocessing.parent_process()
    return os.getpid() if parent is None or parent.pid is None else parent.pid
