# Copyright: the Kubewright authors
# Apache License 2.0 (see LICENSE or https://www.apache.org/licenses/LICENSE-2.0)
"""List machines of one's own, in Ansible's process."""

from __future__ import annotations

from typing import Any

from ansible_collections.kubewright.cluster.plugins.modules import static_machines
from ansible_collections.kubewright.cluster.plugins.plugin_utils._local import LocalAction


class ActionModule(LocalAction):
    """See the module's documentation."""

    argument_spec = static_machines.argument_spec

    def work(self, arguments: dict[str, Any]) -> dict[str, Any]:
        """Give the module's result."""
        return static_machines.run(arguments, self._task.check_mode)
