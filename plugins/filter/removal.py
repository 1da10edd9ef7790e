# Copyright: the Kubewright authors
# Apache License 2.0 (see LICENSE or https://www.apache.org/licenses/LICENSE-2.0)
"""Filters: whether nodes may be removed from their cluster."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from ansible_collections.kubewright.cluster.plugins.module_utils._cluster import inventory


def refusal(
    hostvars: Mapping[str, Mapping[str, Any]],
    targets: Sequence[str],
    planes: Sequence[str],
    confirmed: str,
) -> str:
    """Why *targets* are not to be removed, or "".

    *planes*: the control planes of the inventory. *confirmed*: names that the user wrote, joined by
    commas.
    """
    ruling = [
        host
        for host in targets
        if host in planes or hostvars[host].get("kubewright_role") == inventory.CONTROL_PLANE
    ]
    if ruling:
        return (
            f"{', '.join(ruling)}: a control plane. Kubewright can only remove workers yet. "
            "Nothing was changed."
        )
    names = {name.strip() for name in confirmed.split(",")} - {""}
    if names != set(targets):
        return (
            "This permanently deletes the machines that a provider created, and all Kubernetes "
            f"data on your own. Nothing was changed. Confirm it with "
            f"-e kubewright_confirm_remove={','.join(sorted(targets))}"
        )
    return ""


class FilterModule:
    """Ansible's entry point."""

    def filters(self) -> dict[str, Callable[..., Any]]:
        """Names as used in playbooks."""
        return {"removal_refusal": refusal}
