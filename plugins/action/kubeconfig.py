# Copyright: the Kubewright authors
# Apache License 2.0 (see LICENSE or https://www.apache.org/licenses/LICENSE-2.0)
"""Write an administrator's kubeconfig, in Ansible's process."""

from __future__ import annotations

from typing import Any

from ansible_collections.kubewright.cluster.plugins.modules import kubeconfig
from ansible_collections.kubewright.cluster.plugins.plugin_utils._local import LocalAction


class ActionModule(LocalAction):
    """See the module's documentation."""

    argument_spec = kubeconfig.argument_spec

    def work(self, arguments: dict[str, Any]) -> dict[str, Any]:
        """Give the module's result."""
        return kubeconfig.run(arguments, self._task.check_mode)
