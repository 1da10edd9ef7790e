#!/usr/bin/python
# Copyright: the Kubewright authors
# Apache License 2.0 (see LICENSE or https://www.apache.org/licenses/LICENSE-2.0)
"""The system images that a node has."""

from __future__ import annotations

DOCUMENTATION = r"""
module: system_image_info
short_description: List the system images on a node
description:
  - Lists the images on the node's system volume, what each is for and how it is used.
  - What an image is for is read from its manifest. The image is mounted briefly for that, in a
    private mount namespace.
version_added: 0.1.0
author: The Kubewright authors (@kubewright)
options:
  volume:
    description: Where the system volume is mounted.
    type: path
    default: /var/lib/kubewright/system
  manifests:
    description: Whether to read the images' manifests.
    type: bool
    default: true
  lock_timeout:
    description: Seconds to wait for another process that is changing this node.
    type: int
    default: 600
attributes:
  check_mode:
    description: It only reads.
    support: full
  diff_mode:
    description: There is nothing to show.
    support: none
  idempotent:
    description: It only reads.
    support: full
"""

EXAMPLES = r"""
- name: List the images
  kubewright.cluster.system_image_info:
  register: images
"""

RETURN = r"""
cluster_id:
  description: Id of the cluster that this machine is a node of; empty if none is known.
  returned: success
  type: str
  sample: 5b0e6f0a-0000-4000-8000-000000000001
fence:
  description: C(epoch) and C(run) of the last run that changed this node; 0 and empty for none.
  returned: success
  type: dict
  sample: {epoch: 7, run: 20260102T030405-1a2b3c4d}
images:
  description:
    - The images, the active one first. Each has C(digest), C(size) in bytes, C(generations)
      that use it, and whether it is C(active), C(previous) (the target of a rollback),
      C(staged) (never active), C(bad) (rolled back from) and C(in_use) (mounted
      or running).
    - C(kubernetes), C(revision), C(arch) and C(role) come from its manifest; null if C(problem)
      says why not.
  returned: success
  type: list
  elements: dict
"""

from pathlib import Path
from typing import Any

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.kubewright.cluster.plugins.module_utils._base import commands, limits
from ansible_collections.kubewright.cluster.plugins.module_utils._base.errors import (
    FORESEEN,
    KubewrightError,
    failure,
)
from ansible_collections.kubewright.cluster.plugins.module_utils._fence import fencing
from ansible_collections.kubewright.cluster.plugins.module_utils._image import manifests, usage
from ansible_collections.kubewright.cluster.plugins.module_utils._image.images import Store
from ansible_collections.kubewright.cluster.plugins.module_utils._kube import memberships


def images(store: Store, manifests: bool, run: commands.Runner) -> list[dict[str, Any]]:
    """Each image with what it is for and how it is used, the active one first."""
    active, previous = store.active(), store.previous()
    generations: dict[str, list[int]] = {}
    bad = set()
    for number in store.numbers():
        generation = store.generation(number)
        if generation:
            generations.setdefault(generation.digest, []).append(number)
            if store.record(number).get("rolled_back"):
                bad.add(generation.digest)
    used = usage.in_use(store)
    found = []
    for path in sorted(store.images.glob("*.squashfs")):
        digest = path.stem
        is_active = active is not None and active.digest == digest
        found.append(
            {
                "digest": digest,
                "size": path.stat().st_size,
                "generations": generations.get(digest, []),
                "active": is_active,
                "previous": previous is not None and previous.digest == digest and not is_active,
                "staged": digest not in generations,
                "bad": digest in bad and not is_active,
                "in_use": digest in used,
                **(_contents(path, store.images, run) if manifests else {}),
            }
        )
    return sorted(found, key=lambda image: (not image["active"], not image["previous"]))


def _contents(path: Path, place: Path, run: commands.Runner) -> dict[str, Any]:
    try:
        manifest = manifests.read(path, place, run)
    except KubewrightError as error:
        names = ("kubernetes", "revision", "arch", "role")
        return {**dict.fromkeys(names), "problem": str(error)}
    return {
        "kubernetes": manifest.kubernetes,
        "revision": manifest.revision,
        "arch": manifest.arch,
        "role": manifest.role,
        "problem": "",
    }


def cluster_id() -> str:
    """That of the node's own record; what has none, or a damaged one, is nobody's."""
    try:
        return memberships.read_membership().cluster_id or ""
    except (memberships.ForeignCluster, memberships.DamagedRecord):
        return ""


def main() -> None:
    """Look under the node lock: what is listed is there at the same time."""
    module = AnsibleModule(
        argument_spec={
            "volume": {"type": "path", "default": "/var/lib/kubewright/system"},
            "manifests": {"type": "bool", "default": True},
            "lock_timeout": {"type": "int", "default": 600},
        },
        supports_check_mode=True,
    )
    params = module.params
    store = Store(Path(params["volume"]))
    try:
        with fencing.node_lock(
            None,
            params["lock_timeout"],
            limit=limits.work("system_image_info", params),
            writes=False,
        ) as fence:
            run = commands.SystemRunner(fence.pass_fds)
            # A machine without a volume has no images: that is no error of who asks.
            found = images(store, params["manifests"], run) if store.is_mounted() else []
            claim = fencing.read_claim().as_dict()
            cluster = cluster_id()
    except FORESEEN as error:
        module.fail_json(**failure(error))
    else:
        module.exit_json(changed=False, cluster_id=cluster, fence=claim, images=found)


if __name__ == "__main__":
    main()
