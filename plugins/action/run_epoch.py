# Copyright: the Kubewright authors
# Apache License 2.0 (see LICENSE or https://www.apache.org/licenses/LICENSE-2.0)
"""Take or confirm the run's epoch, on the controller, for the process of ansible-playbook."""

from __future__ import annotations

import multiprocessing
import os
from pathlib import Path
from typing import Any

from ansible.plugins.action import ActionBase
from ansible_collections.kubewright.cluster.plugins.module_utils import _lease
from ansible_collections.kubewright.cluster.plugins.module_utils._errors import FORESEEN, message
from ansible_collections.kubewright.cluster.plugins.modules import run_epoch


class ActionModule(ActionBase):  # type: ignore[misc]
    """No connection and no module: two files of this machine."""

    _requires_connection = False
    _supports_check_mode = True
    _supports_async = False

    def run(
        self, tmp: str | None = None, task_vars: dict[str, Any] | None = None
    ) -> dict[str, Any]:
        """See the module's documentation."""
        super().run(tmp, task_vars)
        _, arguments = self.validate_argument_spec(argument_spec=run_epoch.argument_spec)
        try:
            epoch = self._epoch(arguments)
        except FORESEEN as error:
            return {"failed": True, "changed": False, "msg": message(error)}
        # The number is the run's own affair: a run that changes no node has changed nothing.
        return {"changed": False, "epoch": epoch}

    def _epoch(self, arguments: dict[str, Any]) -> int:
        store = self._local(arguments["path"])
        lock = self._local(arguments["lock"]) if arguments["lock"] else store.with_name("lock")
        place = _lease.Place(store, lock)
        given, seen, check_mode = arguments["epoch"], arguments["seen"], self._task.check_mode
        if given is None:
            return _lease.take_epoch(place, _main_process(), seen, check_mode=check_mode)
        return _lease.check_epoch(place, given, seen, check_mode=check_mode)

    def _local(self, path: str) -> Path:
        """A path on the controller, as it is or beside the playbook."""
        found = Path(path).expanduser()
        return found if found.is_absolute() else Path(self._loader.path_dwim(path))


def _main_process() -> int:
    """The process id of ansible-playbook, which forks a worker for each task of a host."""
    parent = multiprocessing.parent_process()
    return os.getpid() if parent is None or parent.pid is None else parent.pid
