#!/usr/bin/python
# Copyright: the Kubewright authors
# Apache License 2.0 (see LICENSE or https://www.apache.org/licenses/LICENSE-2.0)
"""What a state directory knows of its cluster beside the identity, on the controller."""

from __future__ import annotations

DOCUMENTATION = r"""
module: cluster_record
short_description: Record a cluster's providers, ids and file
description:
  - Reads C(record.json) in a cluster's state directory, and adds what is new. Nothing is
    ever removed. Runs on the controller.
  - So machines of a provider that no pool uses any more are still found, and machines from
    before a reset are still recognized as the cluster's own.
  - Without the file, the answer comes from the identity and C(machines.json).
  - Runs as an action plugin in Ansible's own process. The file is the controller's,
    whatever the host.
version_added: 0.1.0
author: The Kubewright authors (@kubewright)
options:
  directory:
    description: The cluster's state directory.
    type: path
    required: true
  cluster_id:
    description: The cluster's present id.
    type: str
  cluster_file:
    description: The C(cluster.yml) that owns this state from now on.
    type: path
  providers:
    description: Providers that the cluster uses now.
    type: list
    elements: str
    default: []
attributes:
  check_mode:
    description: Returns what would be written.
    support: full
  diff_mode:
    description: Shows the record before and after.
    support: full
  idempotent:
    description: What is recorded already is not a change.
    support: full
"""

EXAMPLES = r"""
- name: Record the providers that the cluster has ever used
  kubewright.cluster.cluster_record:
    directory: "{{ kubewright_state_dir }}"
    cluster_id: "{{ kubewright_identity.cluster_id }}"
    providers: [local]
  register: kubewright_record
"""

RETURN = r"""
file:
  description: The C(cluster.yml) that owns this state; empty if there is none.
  returned: success
  type: str
ids:
  description: The ids that the cluster has had, the present one last.
  returned: success
  type: list
  elements: str
providers:
  description: The providers that it has ever used.
  returned: success
  type: list
  elements: str
"""

from pathlib import Path
from typing import Any

from ansible_collections.kubewright.cluster.plugins.module_utils._base import atomic
from ansible_collections.kubewright.cluster.plugins.module_utils._base.standalone import run_module
from ansible_collections.kubewright.cluster.plugins.module_utils._cluster import (
    record,
    state,
)

argument_spec: dict[str, Any] = {
    "directory": {"type": "path", "required": True},
    "cluster_id": {"type": "str"},
    "cluster_file": {"type": "path"},
    "providers": {"type": "list", "elements": "str", "default": []},
}


def run(params: dict[str, Any], check_mode: bool) -> dict[str, Any]:
    """Read, add and write."""
    directory = Path(params["directory"])
    news = (params["cluster_file"] or "", params["cluster_id"] or "", params["providers"])
    writes = any(news) and not check_mode
    with state.locked(directory, not writes):
        found = record.read(directory)
        known = found or record.older(directory)
        kept = known.with_more(*news)
        changed = any(news) and kept != found
        path = directory / state.RECORD
        if changed and writes:
            atomic.write_file(path, kept.text().encode(), mode=0o600)
    return {
        "changed": changed,
        "file": kept.file,
        "ids": list(kept.ids),
        "providers": list(kept.providers),
        "diff": {
            "before": found.text() if found else "",
            "after": kept.text() if changed or found else "",
            "before_header": str(path),
            "after_header": str(path),
        },
    }


def main() -> None:
    """The same as a process of its own; the action plugin does without."""
    run_module(argument_spec, run)


if __name__ == "__main__":
    main()
