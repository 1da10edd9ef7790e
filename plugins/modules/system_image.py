#!/usr/bin/python
# Copyright: the Kubewright authors
# Apache License 2.0 (see LICENSE or https://www.apache.org/licenses/LICENSE-2.0)
"""A system image on a node's system volume."""

from __future__ import annotations

DOCUMENTATION = r"""
module: system_image
short_description: Install, activate, roll back and remove system images on a node
description:
  - Installs a squashfs image on the node's system volume and makes it the active generation.
  - An action plugin of the same name asks the node first. Only a missing image is transferred,
    straight to the volume. The controller sends it, or the node downloads it from O(url).
  - An image is identified by its digest. The transferred file is read back from disk and
    hashed before it is accepted; anything else is removed and refused. So is an image
    whose manifest has another architecture or role than the node's.
  - The data of an interrupted transfer is kept, and the next run resumes it.
  - An image that the node has found damaged (see the role C(system_volume)) is installed again
    beside the damaged one, which its processes keep using, and becomes a new generation.
  - The active generation is switched by one rename. A run killed at any moment leaves either the
    old one or the new one, complete.
  - Mounts are not touched. Restart them with
    M(kubewright.cluster.node_parts) after C(<volume>/active).
version_added: 0.1.0
author: The Kubewright authors (@kubewright)
options:
  state:
    description:
      - V(present) installs the image without touching anything that runs.
      - V(active) makes it the active generation too.
      - V(rolled_back) activates the previous generation again, exactly as it
        was. Called again, it changes nothing until another image is activated.
      - V(collected) removes images that are neither active nor previous
        nor in use.
    type: str
    choices: [present, active, rolled_back, collected]
    default: active
  digest:
    description:
      - SHA-256 of the image in hex. It must come from where the image was built.
      - Required for O(state=present) and O(state=active).
    type: str
  path:
    description:
      - The image on the controller. Not needed if the node has it already, or with O(url).
    type: path
  url:
    description:
      - Address of an HTTP or HTTPS server that has the image as C(<url>/<digest>.squashfs), and
        its signature as C(<url>/<digest>.squashfs.sig). The node downloads it from there.
      - It must not contain a user or password, since it appears in logs.
    type: str
    default: ""
  signers:
    description:
      - SSH public keys, one of which must have signed the image, with C(kubewright image sign) or
        with C(ssh-keygen -Y sign -n kubewright-image). Required with O(url).
    type: list
    elements: str
    default: []
  role:
    description: The node's role. Without it, the image's role is not checked.
    type: str
    choices: [control_plane, worker]
  volume:
    description: Where the system volume is mounted.
    type: path
    default: /var/lib/kubewright/system
  again:
    description:
      - Whether to retry an image that this node tried and rolled back from.
    type: bool
    default: false
  size:
    description: Size of the image in bytes. Set by the action plugin.
    type: int
  arrived:
    description: The transferred file. Set by the action plugin.
    type: path
  transfer_owner:
    description:
      - The user that transfers the file; empty for root. Set by the action plugin.
    type: str
extends_documentation_fragment:
  - kubewright.cluster.fence
attributes:
  check_mode:
    description: Predicts the change without a transfer.
    support: full
  diff_mode:
    description: Shows the active image before and after, and what is installed and removed.
    support: full
  idempotent:
    description: An image that is already active costs one call and is not read again.
    support: full
"""

EXAMPLES = r"""
- name: Install and activate the system image
  kubewright.cluster.system_image:
    digest: "{{ system_volume_image_digest }}"
    path: "{{ system_volume_image_path }}"

- name: Let the node download the next one
  kubewright.cluster.system_image:
    state: present
    digest: "{{ next_digest }}"
    url: https://images.example.com/kubewright
    signers: ["ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIBuilder builder"]

- name: Roll back to the previous generation
  kubewright.cluster.system_image:
    state: rolled_back
"""

RETURN = r"""
digest:
  description: The requested image; for a rollback, the one that is active now.
  returned: success, but not for O(state=collected)
  type: str
installed:
  description: Whether the image was transferred to the node.
  returned: success
  type: bool
activated:
  description: Whether the active generation changed.
  returned: success
  type: bool
generation:
  description: The active generation's number; null if there is none.
  returned: success
  type: int
  sample: 1
removed:
  description: Digests of the images that were removed.
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
from ansible_collections.kubewright.cluster.plugins.module_utils._image import (
    bringing,
    digests,
    images,
)


def diff(volume: str, before: str, result: dict[str, Any]) -> dict[str, str]:
    """The active image before and after, and the others that come and go."""
    header = f"{volume}/active"
    after = result["digest"] if result["activated"] else before
    staged = f"staged {result['digest']}\n" if result["installed"] else ""
    gone = "".join(f"unused {digest}\n" for digest in result.get("removed", []))
    return {
        "before_header": header,
        "after_header": header,
        "before": f"{gone}image {before}\n" if result["changed"] else "",
        "after": f"{staged}image {after}\n" if result["changed"] else "",
    }


def main() -> None:
    """Look, install and activate under the node lock."""
    module = AnsibleModule(
        argument_spec={
            "state": {
                "type": "str",
                "choices": ["present", "active", "rolled_back", "collected"],
                "default": "active",
            },
            "digest": {"type": "str"},
            "path": {"type": "path"},
            "url": {"type": "str", "default": ""},
            "signers": {"type": "list", "elements": "str", "default": []},
            "role": {"type": "str", "choices": ["control_plane", "worker"]},
            "volume": {"type": "path", "default": "/var/lib/kubewright/system"},
            "again": {"type": "bool", "default": False},
            "size": {"type": "int"},
            "arrived": {"type": "path"},
            "transfer_owner": {"type": "str"},
            "epoch": {"type": "int"},
            "run": {"type": "str"},
            "lock_timeout": {"type": "int", "default": 600},
        },
        required_if=[("state", "present", ["digest"]), ("state", "active", ["digest"])],
        supports_check_mode=True,
    )
    params, check_mode = module.params, module.check_mode
    store = images.Store(Path(params["volume"]))
    try:
        if params["digest"] is not None:
            params["digest"] = digests.parse(params["digest"])
        with fencing.node_lock(
            fencing.claim_of(params),
            params["lock_timeout"],
            limit=limits.work("system_image", params),
            check_mode=check_mode,
        ) as fence:
            before = store.active()
            result = bringing.converge(
                store, params, check_mode, commands.SystemRunner(fence.pass_fds)
            )
    except FORESEEN as error:
        module.fail_json(**failure(error))
    else:
        result.setdefault("removed", [])
        result["diff"] = diff(params["volume"], before.digest if before else "none", result)
        module.exit_json(**result)


if __name__ == "__main__":
    main()
