# Copyright: the Kubewright authors
# Apache License 2.0 (see LICENSE or https://www.apache.org/licenses/LICENSE-2.0)
"""Record the machines that the providers list, in Ansible's process."""

from __future__ import annotations

from typing import ClassVar

from ansible_collections.kubewright.cluster.plugins.modules import machines_file
from ansible_collections.kubewright.cluster.plugins.plugin_utils._local import LocalAction, Module


class ActionModule(LocalAction):
    """See the module's documentation."""

    module: ClassVar[Module] = machines_file
