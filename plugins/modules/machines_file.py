#!/usr/bin/python
# Copyright: the Kubewright authors
# Apache License 2.0 (see LICENSE or https://www.apache.org/licenses/LICENSE-2.0)
"""machines.json and known_hosts of a cluster, on the controller."""

from __future__ import annotations

DOCUMENTATION = r"""
module: machines_file
short_description: Record a cluster's machines as listed by its providers
description:
  - Checks the entries that the providers' C(list) gave, and writes C(machines.json) and, from the
    same data, ssh's C(known_hosts). Runs on the controller.
  - In C(roster.json) it keeps how to reach your own machines, so that one can still be removed
    from the cluster when C(cluster.yml) does not name it any more.
  - All are written to temporary files, synced to disk and renamed, with mode C(0600).
  - The time in C(machines.json) is updated at each call; that alone is not a change.
  - Runs as an action plugin in Ansible's own process. The files are the controller's,
    whatever the host.
version_added: 0.1.0
author: The Kubewright authors (@kubewright)
options:
  directory:
    description: The cluster's state directory. It is created with mode C(0700) if it is missing.
    type: path
    required: true
  cluster:
    description: Name of the cluster.
    type: str
    required: true
  machines:
    description:
      - All machines of the cluster. Each has C(id), C(name), C(address), C(host_keys) (a list),
        C(provider), C(region), C(zone), C(node_type) and C(power) (C(on) or C(off)), and nothing
        else.
      - Required with O(state=present).
    type: list
    elements: dict
  own:
    description:
      - How to reach your own machines, as M(kubewright.cluster.cluster_inventory) returns it.
    type: list
    elements: dict
    default: []
  state:
    description: V(absent) forgets the machines in O(names), after they were removed.
    type: str
    choices: [present, absent]
    default: present
  names:
    description: With O(state=absent), the names of the machines to forget.
    type: list
    elements: str
    default: []
attributes:
  check_mode:
    description: Checks the entries and reports whether they differ; writes nothing.
    support: full
  diff_mode:
    description: Shows the machines before and after.
    support: full
  idempotent:
    description: The same list of machines is not a change.
    support: full
"""

EXAMPLES = r"""
- name: Record the machines
  kubewright.cluster.machines_file:
    directory: "{{ kubewright_state_dir }}"
    cluster: "{{ kubewright_cluster_name }}"
    machines: "{{ provider_local_machines }}"

- name: Forget a machine that was removed
  kubewright.cluster.machines_file:
    directory: "{{ kubewright_state_dir }}"
    cluster: "{{ kubewright_cluster_name }}"
    state: absent
    names: [demo-web-3]
"""

RETURN = r"""
machines:
  description: The machines, sorted by name.
  returned: success
  type: list
  elements: dict
  sample:
    - id: local://demo/demo-cp-1
      name: demo-cp-1
      address: 192.0.2.11
      host_keys: [ssh-ed25519 AAAA...]
      provider: local
      region: local
      zone: local-1
      node_type: container
      power: "on"
"""

import json
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

from ansible_collections.kubewright.cluster.plugins.module_utils._base import atomic
from ansible_collections.kubewright.cluster.plugins.module_utils._base.errors import KubewrightError
from ansible_collections.kubewright.cluster.plugins.module_utils._base.standalone import run_module
from ansible_collections.kubewright.cluster.plugins.module_utils._cluster import (
    machines,
    roster,
    state,
)


def text_of(path: Path) -> str:
    """What is in the file; empty when there is none or it is no text."""
    try:
        return path.read_text(encoding="utf-8")
    except (FileNotFoundError, UnicodeDecodeError):
        return ""


def listed_in(text: str, cluster: str) -> list[Any] | None:
    """The machines of an earlier file; None when it is damaged or not this cluster's."""
    try:
        return machines.parse(text, cluster).machines
    except ValueError:
        return None


def kept_in(directory: Path, cluster: str) -> roster.Kept:
    """What roster.json has; nothing where it is damaged: who reads the inventory has refused it."""
    try:
        return roster.read(directory, cluster)
    except (OSError, ValueError):
        return roster.Kept()


def write(directory: Path, machines_json: str, known_hosts: str) -> None:
    """known_hosts first: whoever knows a machine knows its key."""
    if not directory.is_dir():
        directory.mkdir(parents=True, exist_ok=True)
        directory.chmod(0o700)
    for name, text in ((state.KNOWN_HOSTS, known_hosts), (state.MACHINES, machines_json)):
        atomic.write_file(directory / name, text.encode(), mode=0o600)


argument_spec: dict[str, Any] = {
    "directory": {"type": "path", "required": True},
    "cluster": {"type": "str", "required": True},
    "machines": {"type": "list", "elements": "dict"},
    "own": {"type": "list", "elements": "dict", "default": []},
    "state": {"type": "str", "choices": ["present", "absent"], "default": "present"},
    "names": {"type": "list", "elements": "str", "default": []},
}


def own_of(entry: dict[str, Any]) -> roster.Own:
    """An entry of the inventory. Raises `KubewrightError` where it says too little."""
    try:
        return roster.Own.of(entry)
    except ValueError as error:
        raise KubewrightError(f"own: {error}.") from error


def run(params: dict[str, Any], check_mode: bool) -> dict[str, Any]:
    """Check, compare and write."""
    directory, cluster = Path(params["directory"]), params["cluster"]
    before = listed_in(text_of(directory / state.MACHINES), cluster)
    old = kept_in(directory, cluster)
    if params["state"] == "absent":
        listed = [one for one in before or [] if one.get("name") not in params["names"]]
        kept = old.without(params["names"])
    elif params["machines"] is None:
        raise KubewrightError("machines is missing. It is required with state=present.")
    else:
        listed = machines.validated(params["machines"])
        kept = old.listed([own_of(entry) for entry in params["own"]], listed)
    known_hosts = machines.known_hosts(listed)
    changed = before != listed or text_of(directory / state.KNOWN_HOSTS) != known_hosts
    if not check_mode:
        now = datetime.now(timezone.utc).isoformat(timespec="seconds")
        try:
            # The way to a machine first, then the machine.
            if kept != old:
                with state.locked(directory, check_mode):
                    roster.write(directory, cluster, kept)
            write(directory, machines.machines_json(cluster, now, listed), known_hosts)
        except OSError as error:
            raise KubewrightError(f"Can't write in {directory}: {error}.") from error
    lines = [
        json.dumps(value, indent=2) + "\n" if value is not None else ""
        for value in (before, listed)
    ]
    header = str(directory / state.MACHINES)
    return {
        "changed": changed or kept != old,
        "machines": listed,
        "diff": {
            "before": lines[0],
            "after": lines[1],
            "before_header": header,
            "after_header": header,
        },
    }


def main() -> None:
    """The same as a process of its own; the action plugin does without."""
    run_module(argument_spec, run)


if __name__ == "__main__":
    main()
