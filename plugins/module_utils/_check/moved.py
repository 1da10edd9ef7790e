# Copyright: the Kubewright authors
# Apache License 2.0 (see LICENSE or https://www.apache.org/licenses/LICENSE-2.0)
"""A node that is to have another address than it joined with. Pure."""

from __future__ import annotations

from ansible_collections.kubewright.cluster.plugins.module_utils._base.findings import (
    FATAL,
    Finding,
)


def judge(role: str | None, joined_with: str | None, address: str | None) -> list[Finding]:
    """What speaks against a node that has joined with another address than it is to have.

    A worker follows. Of a control plane the certificates of its API server and of etcd, its etcd
    member's URL and its static pods hold the address.
    """
    if role != "control_plane" or not (joined_with and address) or joined_with == address:
        return []
    return [
        Finding(
            "address",
            FATAL,
            f"This control plane joined with the address {joined_with}, and now has "
            f"{address}: its certificates, its etcd member and its static pods use the old one.",
            f"Give the machine its address {joined_with} back. Or, if most of the other control "
            "planes are healthy, reset this node (`kubewright reset --node NAME`) and apply, so "
            "that it joins with the new address; one control plane at a time.",
        )
    ]
