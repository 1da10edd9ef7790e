#!/usr/bin/python
# Copyright: the Kubewright authors
# Apache License 2.0 (see LICENSE or https://www.apache.org/licenses/LICENSE-2.0)
"""A node's system volume."""

from __future__ import annotations

DOCUMENTATION = r"""
module: volume
short_description: Create the file system of a node's system volume, in a file or on a device
description:
  - Creates a file with an ext4 file system for a loop mount, or an ext4 file system on a device.
    It does not mount it.
  - A file is created under a temporary name and renamed when it is complete. A device is labeled
    when its file system is complete; without the label it is formatted again.
  - A file or device with other data is refused, and so is a device that is in use.
  - A larger size or device grows the file system, even while it is mounted. A size below
    that of the file is refused.
  - An unmounted volume is checked, and repaired if that needs no decision. A mounted
    volume that is read-only, full or has errors is refused, with a remedy.
version_added: 0.1.0
author: The Kubewright authors (@kubewright)
options:
  path:
    description: Absolute path of the file or of the device.
    type: path
    required: true
  type:
    description:
      - Whether O(path) is a file (V(local)) or a device (V(block)), which is used entirely.
    type: str
    choices: [local, block]
    default: local
  size_bytes:
    description: Size in bytes, 20 GB (20 000 000 000) or more. A device must have at least that.
    type: int
    required: true
  mount_point:
    description: Where the volume is mounted, now or later.
    type: path
    default: /var/lib/kubewright/system
  sparse:
    description:
      - Whether a file takes up space only as it is written. For test hosts.
      - Otherwise it is allocated at once, and again if the file has lost some of it.
    type: bool
    default: false
  label:
    description: Label of the file system, 15 bytes at most. It identifies the volume.
    type: str
    default: kubewright
extends_documentation_fragment:
  - kubewright.cluster.fence
attributes:
  check_mode:
    description: Predicts what would be done; errors are reported as well.
    support: full
  diff_mode:
    description: Shows what would be done.
    support: full
  idempotent:
    description: A volume of this size and label is left alone, whatever it contains.
    support: full
"""

EXAMPLES = r"""
- name: Create the system volume
  kubewright.cluster.volume:
    path: /var/lib/kubewright/volume.ext4
    size_bytes: 20000000000

- name: Create it on a separate disk
  kubewright.cluster.volume:
    path: /dev/disk/by-id/virtio-system
    type: block
    size_bytes: 20000000000
"""

RETURN = r"""
steps:
  description: What was done, of C(create), C(repair), C(grow) and C(preallocate).
  returned: success
  type: list
  elements: str
  sample: [create]
"""

from typing import Any

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.kubewright.cluster.plugins.module_utils._base import commands, limits
from ansible_collections.kubewright.cluster.plugins.module_utils._base.errors import (
    FORESEEN,
    KubewrightError,
    failure,
)
from ansible_collections.kubewright.cluster.plugins.module_utils._cluster import rules
from ansible_collections.kubewright.cluster.plugins.module_utils._fence import fencing
from ansible_collections.kubewright.cluster.plugins.module_utils._volume import ext4, plan


def parse(params: dict[str, Any]) -> plan.Wanted:
    """The volume that the options ask for. Raises `KubewrightError` for one that is too small."""
    if params["size_bytes"] < rules.MIN_VOLUME_BYTES:
        raise KubewrightError(
            f"size_bytes is {params['size_bytes']}, but a system volume needs at "
            f"least {rules.MIN_VOLUME_BYTES} bytes: room for the images of two releases and to "
            "change them. Set that or more."
        )
    return plan.parse(params)


def main() -> None:
    """Look, and make what is missing, under the node lock."""
    module = AnsibleModule(
        argument_spec={
            "path": {"type": "path", "required": True},
            "type": {"type": "str", "choices": ["local", "block"], "default": "local"},
            "size_bytes": {"type": "int", "required": True},
            "mount_point": {"type": "path", "default": "/var/lib/kubewright/system"},
            "sparse": {"type": "bool", "default": False},
            "label": {"type": "str", "default": "kubewright"},
            "epoch": {"type": "int"},
            "run": {"type": "str"},
            "lock_timeout": {"type": "int", "default": 600},
        },
        supports_check_mode=True,
    )
    params, check_mode = module.params, module.check_mode
    try:
        wanted = parse(params)
        with fencing.node_lock(
            fencing.claim_of(params),
            params["lock_timeout"],
            limit=limits.work("volume", params),
            check_mode=check_mode,
        ) as fence:
            run = commands.SystemRunner(fence.pass_fds)
            steps = plan.steps(wanted, run)
            if not check_mode:
                steps = ext4.apply(wanted, steps, run)
            elif not steps:
                ext4.require_sound(wanted)
    except FORESEEN as error:
        module.fail_json(**failure(error))
    else:
        present = "blank\n" if "create" in steps else "ext4\n"
        size = f"ext4 {wanted.label}, {wanted.size} bytes ({', '.join(steps)})\n"
        diff = {
            "before_header": params["path"],
            "after_header": params["path"],
            "before": present if steps else "",
            "after": size if steps else "",
        }
        module.exit_json(changed=bool(steps), steps=steps, diff=diff)


if __name__ == "__main__":
    main()
