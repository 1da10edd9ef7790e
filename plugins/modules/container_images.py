#!/usr/bin/python
# Copyright: the Kubewright authors
# Apache License 2.0 (see LICENSE or https://www.apache.org/licenses/LICENSE-2.0)
"""The system image's container images in containerd."""

from __future__ import annotations

DOCUMENTATION = r"""
module: container_images
short_description: Import a system image's container images into containerd
description:
  - Imports the container images of the active system image that containerd lacks, and pins
    them. The kubelet's garbage collection keeps pinned images; a node without a registry
    could not get them back.
  - An image whose archive differs from the imported one is imported again.
  - Unlike the other modules that change a node, it takes its own lock, so that an import can
    run in parallel with them, for instance as an asynchronous task. Await its result before
    M(kubewright.cluster.kubeadm).
version_added: 0.1.0
author: The Kubewright authors (@kubewright)
options:
  root:
    description: Where the system image is mounted.
    type: path
    default: /opt/kubewright
  address:
    description: containerd's socket.
    type: path
    default: /run/containerd/containerd.sock
  timeout:
    description: Seconds that the import of one image may take.
    type: int
    default: 300
extends_documentation_fragment:
  - kubewright.cluster.fence
attributes:
  check_mode:
    description:
      - Predicts what would be imported and pinned. If no system image is mounted or containerd
        does not run yet, it predicts a change.
    support: full
  diff_mode:
    description: Names the images that would be imported or pinned.
    support: full
  idempotent:
    description: If nothing is missing, it costs one call of C(ctr).
    support: full
"""

EXAMPLES = r"""
- name: Import the container images of the node's role
  kubewright.cluster.container_images:
"""

RETURN = r"""
imported:
  description: Names of the images that were imported.
  returned: success
  type: list
  elements: str
  sample: ["registry.k8s.io/kube-proxy:v1.37.2"]
pinned:
  description: Names of images that were there but not pinned.
  returned: success
  type: list
  elements: str
"""

from pathlib import Path
from typing import Any

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.kubewright.cluster.plugins.module_utils._base import commands, limits
from ansible_collections.kubewright.cluster.plugins.module_utils._base.errors import (
    FORESEEN,
    failure,
)
from ansible_collections.kubewright.cluster.plugins.module_utils._fence import fencing
from ansible_collections.kubewright.cluster.plugins.module_utils._image import containers


def main() -> None:
    """List, import and pin under the lock for images."""
    module = AnsibleModule(
        argument_spec={
            "root": {"type": "path", "default": "/opt/kubewright"},
            "address": {"type": "path", "default": "/run/containerd/containerd.sock"},
            "timeout": {"type": "int", "default": 300},
            "epoch": {"type": "int"},
            "run": {"type": "str"},
            "lock_timeout": {"type": "int", "default": 600},
        },
        supports_check_mode=True,
    )
    params, check_mode = module.params, module.check_mode
    root = Path(params["root"])
    missing: containers.Missing | None
    try:
        with fencing.node_lock(
            fencing.claim_of(params),
            params["lock_timeout"],
            limit=limits.work("container_images", params),
            check_mode=check_mode,
            scope="images",
        ) as fence:
            containerd = containers.Containerd(
                root / "bin" / "ctr",
                params["address"],
                commands.SystemRunner(fence.pass_fds),
                params["timeout"],
            )
            if check_mode:
                missing = containers.predicted(root, containerd)
            else:
                images = containers.read_manifest(root)
                missing = containerd.missing(images)
                if missing != containers.Missing((), ()):
                    containerd.bring(missing, images)
    except FORESEEN as error:
        module.fail_json(**failure(error))
    else:
        imported = [image.name for image in missing.to_import] if missing else []
        pinned = list(missing.to_pin) if missing else []
        result: dict[str, Any] = {
            "changed": missing is None or bool(imported or pinned),
            "imported": imported,
            "pinned": pinned,
        }
        done = [f"{name} (imported)\n" for name in imported]
        done += [f"{name} (pinned)\n" for name in pinned]
        result["diff"] = {
            "before_header": "container images",
            "after_header": "container images",
            "before": "",
            "after": "".join(done),
        }
        module.exit_json(**result)


if __name__ == "__main__":
    main()
