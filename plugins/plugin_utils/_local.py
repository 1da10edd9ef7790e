# Copyright: the Kubewright authors
# Apache License 2.0 (see LICENSE or https://www.apache.org/licenses/LICENSE-2.0)
"""Work on the controller's own files in Ansible's process.

A module as a process of its own costs most of a second, of which the work is a hundredth: Ansible
packs it, and an interpreter reads all of its sources anew.
"""

from __future__ import annotations

from typing import Any, ClassVar, Protocol

from ansible.plugins.action import ActionBase
from ansible_collections.kubewright.cluster.plugins.module_utils._base.errors import (
    FORESEEN,
    message,
)
from ansible_collections.kubewright.cluster.plugins.module_utils._cluster import refusals
from ansible_collections.kubewright.cluster.plugins.module_utils._cluster.refusals import Refusal


class Module(Protocol):
    """A module of this collection that can be called."""

    argument_spec: dict[str, Any]

    def run(self, params: dict[str, Any], check_mode: bool) -> dict[str, Any]:
        """Give the module's result; raises `KubewrightError` or `OSError`."""


class LocalAction(ActionBase):  # type: ignore[misc]
    """Needs no connection: whatever the host, the files are the controller's.

    A subclass gives its `module`; or, where that does not do the work, the module's
    ``argument_spec`` and `work`.
    """

    module: ClassVar[Module]
    argument_spec: ClassVar[dict[str, Any]]
    _requires_connection = False
    _supports_check_mode = True
    _supports_async = False

    def __init_subclass__(cls) -> None:
        """A module says itself what it takes."""
        if hasattr(cls, "module"):
            cls.argument_spec = cls.module.argument_spec

    def work(self, arguments: dict[str, Any]) -> dict[str, Any]:
        """Give the module's result; raises `KubewrightError` or `OSError`."""
        return self.module.run(arguments, self._task.check_mode)

    def run(
        self, tmp: str | None = None, task_vars: dict[str, Any] | None = None
    ) -> dict[str, Any]:
        """See the module's documentation."""
        super().run(tmp, task_vars)
        _, arguments = self.validate_argument_spec(argument_spec=self.argument_spec)
        try:
            result = self.work(arguments)
        except FORESEEN as error:
            text = message(error)
            host = str((task_vars or {}).get("inventory_hostname") or "")
            refusals.tell(Refusal(text, host, str(self._task._uuid)))
            return {"failed": True, "changed": False, "msg": text}
        if not self._task.diff:
            result.pop("diff", None)
        return result
