# Copyright: the Kubewright authors
# Apache License 2.0 (see LICENSE or https://www.apache.org/licenses/LICENSE-2.0)
"""Private to kubewright.cluster: what filters and the inventory refuse (`_cluster.refusals`)."""

from __future__ import annotations

from ansible.errors import AnsibleFilterError
from ansible_collections.kubewright.cluster.plugins.module_utils._cluster import refusals
from ansible_collections.kubewright.cluster.plugins.module_utils._cluster.refusals import Refusal

# Of the files that Ansible could not take as an inventory, in this process and in its workers,
# which are forks of it: Ansible goes on without them, and its plays meet an empty inventory.
_INVENTORIES: dict[str, str] = {}


class FilterRefusal(AnsibleFilterError):  # type: ignore[misc]
    """A filter says what a user has to change."""

    def __init__(self, text: str) -> None:
        super().__init__(text)
        refusals.tell(Refusal(text))


def refuse_inventory(path: str, text: str) -> None:
    """Remember why a file is no inventory."""
    _INVENTORIES[path] = text
    refusals.tell(Refusal(text))


def accept_inventory(path: str) -> None:
    """Forget what was wrong with a file that has been read again."""
    _INVENTORIES.pop(path, None)


def refused_inventories() -> list[str]:
    """Why files that were named as inventories are none."""
    return list(_INVENTORIES.values())
