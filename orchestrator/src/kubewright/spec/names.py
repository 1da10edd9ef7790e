# SPDX-License-Identifier: Apache-2.0
"""Names that derive from the spec, in one place."""

from __future__ import annotations

#: Stands where a pool's name stands in a control plane's host name; no pool may have it.
CONTROL_PLANE = "cp"

#: A label of DNS, and Linux's HOST_NAME_MAX is one more (RFC 1035, section 2.3.4).
MAX_HOST_NAME = 63


def host_name(cluster: str, pool: str, number: int) -> str:
    """Return the host name of a pool's machine, numbered from 1."""
    return f"{cluster}-{pool}-{number}"


def pool_group(pool: str) -> str:
    """Return the inventory group of a pool. Groups have no hyphens; pools have no underscores."""
    return f"pool_{pool.replace('-', '_')}"


def api_name(cluster: str) -> str:
    """Return the API's name in its certificates; every node resolves it to its own balancer."""
    return f"api.{cluster}.internal"
