# SPDX-License-Identifier: Apache-2.0
"""Names that derive from the spec, in one place."""

from __future__ import annotations

#: Stands where a pool's name stands in a control plane's host name; no pool may have it.
CONTROL_PLANE = "cp"


def host_name(cluster: str, pool: str, number: int) -> str:
    """Return the host name of a pool's machine, numbered from 1."""
    return f"{cluster}-{pool}-{number}"


def api_name(cluster: str) -> str:
    """Return the API's name in its certificates; every node resolves it to its own balancer."""
    return f"api.{cluster}.internal"
