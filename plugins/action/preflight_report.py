# Copyright: the Kubewright authors
# Apache License 2.0 (see LICENSE or https://www.apache.org/licenses/LICENSE-2.0)
"""Say all that speaks against the machines of a cluster, in Ansible's process."""

from __future__ import annotations

from typing import Any, ClassVar

from ansible.utils.display import Display
from ansible_collections.kubewright.cluster.plugins.modules import preflight_report
from ansible_collections.kubewright.cluster.plugins.plugin_utils._local import LocalAction, Module

display = Display()


class ActionModule(LocalAction):
    """See the module's documentation."""

    module: ClassVar[Module] = preflight_report

    def work(self, arguments: dict[str, Any]) -> dict[str, Any]:
        """Give the module's result; what does not end the run is shown as Ansible's warnings."""
        result = super().work(arguments)
        if not result.get("failed"):
            for one in result["findings"]:
                display.warning(f"{one['host']}: {one['check']}: {one['text']} {one['remedy']}")
        return result
