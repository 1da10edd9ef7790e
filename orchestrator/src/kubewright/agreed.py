# SPDX-License-Identifier: Apache-2.0
"""What package and collection must agree on: rules, names and formats, each of them once.

They are those of the collection's private room ``_cluster``, which is pure but for the cluster's
state on this machine. No other module of the package imports the collection, and this one nothing
else of it; all other talk goes by playbooks, variables and events.
"""

from __future__ import annotations

from kubewright.collection import make_importable

make_importable()

from ansible_collections.kubewright.cluster.plugins.module_utils._base.errors import KubewrightError
from ansible_collections.kubewright.cluster.plugins.module_utils._cluster import (
    bundle,
    claims,
    epoch,
    identity,
    image_format,
    inventory,
    lease,
    machines,
    names,
    record,
    refusals,
    roster,
    rules,
    schema,
    state,
)

__all__ = [
    "KubewrightError",
    "bundle",
    "claims",
    "epoch",
    "identity",
    "image_format",
    "inventory",
    "lease",
    "machines",
    "names",
    "record",
    "refusals",
    "roster",
    "rules",
    "schema",
    "state",
]
