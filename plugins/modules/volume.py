#!/usr/bin/python
# Copyright: the Kubewright authors
# Apache License 2.0 (see LICENSE or https://www.apache.org/licenses/LICENSE-2.0)
"""The backing file of a node's system volume."""

from __future__ import annotations

DOCUMENTATION = r"""
module: volume
short_description: Make the file that holds a node's system volume
description:
  - Makes a file with an ext4 file system for a loop mount. It does not mount it.
  - The file is made under a temporary name and renamed when it is complete.
  - A file with anything else in it is refused, and so is a size below the present one.
  - A larger size grows the file system when it is not mounted, and is refused when it is.
version_added: 0.1.0
author: The Kubewright authors (@kubewright)
options:
  path:
    description: Absolute path of the file.
    type: path
    required: true
  size_bytes:
    description: Size of the file in bytes.
    type: int
    required: true
  sparse:
    description:
      - Whether the space is taken only when it is written to. For hosts that are a test.
      - Otherwise it is set aside at once, and again if the file has lost some of it.
    type: bool
    default: false
  label:
    description: Label of the file system, 16 bytes at most. By it the volume is known as ours.
    type: str
    default: kubewright
extends_documentation_fragment:
  - kubewright.cluster.fence
attributes:
  check_mode:
    description: Predicts what would be done; what is refused is refused as well.
    support: full
  diff_mode:
    description: Shows what would be done to the file.
    support: full
  idempotent:
    description: A volume of this size and label is left alone, whatever is stored on it.
    support: full
"""

EXAMPLES = r"""
- name: Make the system volume
  kubewright.cluster.volume:
    path: /var/lib/kubewright/volume.ext4
    size_bytes: 20000000000
"""

RETURN = r"""
steps:
  description: What was done, of C(create), C(grow) and C(preallocate).
  returned: success
  type: list
  elements: str
  sample: [create]
"""

from pathlib import Path

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.kubewright.cluster.plugins.module_utils import _command, _fence, _volume
from ansible_collections.kubewright.cluster.plugins.module_utils._errors import FORESEEN, message


def main() -> None:
    """Look, and make what is missing, under the node lock."""
    module = AnsibleModule(
        argument_spec={
            "path": {"type": "path", "required": True},
            "size_bytes": {"type": "int", "required": True},
            "sparse": {"type": "bool", "default": False},
            "label": {"type": "str", "default": "kubewright"},
            "epoch": {"type": "int"},
            "lock_timeout": {"type": "int", "default": 600},
        },
        supports_check_mode=True,
    )
    params, check_mode = module.params, module.check_mode
    wanted = _volume.Wanted(
        Path(params["path"]), params["size_bytes"], params["sparse"], params["label"]
    )
    try:
        with _fence.node_lock(
            params["epoch"], params["lock_timeout"], check_mode=check_mode
        ) as fence:
            run = _command.SystemRunner(fence.pass_fds)
            steps = _volume.steps(wanted, run)
            if not check_mode:
                steps = _volume.apply(wanted, steps, run)
    except FORESEEN as error:
        module.fail_json(msg=message(error))
    else:
        present = "absent\n" if "create" in steps else "ext4\n"
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
