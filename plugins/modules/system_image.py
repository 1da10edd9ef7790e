#!/usr/bin/python
# Copyright: the Kubewright authors
# Apache License 2.0 (see LICENSE or https://www.apache.org/licenses/LICENSE-2.0)
"""A system image on a node's system volume."""

from __future__ import annotations

DOCUMENTATION = r"""
module: system_image
short_description: Install and activate a system image on a node
description:
  - Brings a squashfs image to the node's system volume and makes it the active generation.
  - An action plugin of the same name asks the node first. Only an image that is not there is
    transferred, straight to the volume.
  - The image is known by its digest. What arrived is read back from the disk and hashed before
    it gets its name; anything else is removed and refused.
  - An image that the node itself has found damaged (see the role C(system_volume)) is brought again
    beside the damaged one, which whoever runs from it keeps, and becomes a new generation.
  - The active generation is switched by one rename. A run that is killed at any moment leaves the
    old one or the new one, whole.
  - Mounts are not touched. Restart them with
    M(kubewright.cluster.node_services) after C(<volume>/active).
version_added: 0.1.0
author: The Kubewright authors (@kubewright)
options:
  digest:
    description: SHA-256 of the image in hex. It must come from where the image was made.
    type: str
    required: true
  path:
    description:
      - The image on the controller. Not needed when the node has it already.
    type: path
  volume:
    description: Where the system volume is mounted.
    type: path
    default: /var/lib/kubewright/system
  activate:
    description: Whether to activate it. Otherwise it is only staged, so that it is there later.
    type: bool
    default: true
  size:
    description: Size of the image in bytes. Set by the action plugin.
    type: int
  arrived:
    description: The transferred file. Set by the action plugin.
    type: path
  transfer_owner:
    description: The user who transfers. Set by the action plugin.
    type: str
extends_documentation_fragment:
  - kubewright.cluster.fence
attributes:
  check_mode:
    description: Predicts the change without a transfer.
    support: full
  diff_mode:
    description: Shows the active image before and after.
    support: full
  idempotent:
    description: An image that is active already costs one call and is not read again.
    support: full
"""

EXAMPLES = r"""
- name: Install and activate the system image
  kubewright.cluster.system_image:
    digest: "{{ system_volume_image_digest }}"
    path: "{{ system_volume_image_path }}"

- name: Stage the next one
  kubewright.cluster.system_image:
    digest: "{{ next_image.digest }}"
    path: "{{ next_image.file }}"
    activate: false
"""

RETURN = r"""
digest:
  description: The image that was asked for.
  returned: success
  type: str
installed:
  description: Whether the image was brought to the node.
  returned: success
  type: bool
activated:
  description: Whether the active generation was switched.
  returned: success
  type: bool
generation:
  description: The active generation's number, null when there is none.
  returned: success
  type: int
  sample: 1
"""

from pathlib import Path
from typing import Any

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.kubewright.cluster.plugins.module_utils import _digest, _fence, _image
from ansible_collections.kubewright.cluster.plugins.module_utils._errors import (
    FORESEEN,
    KubewrightError,
    message,
)


def converge(store: _image.Store, params: dict[str, Any], check_mode: bool) -> dict[str, Any]:
    """One of the two calls. ``transfer`` in the answer: the node waits for the image there."""
    digest = params["digest"]
    before = store.active()
    is_active = before is not None and before.digest == digest
    number = before.generation if before else None
    result: dict[str, Any] = {"digest": digest, "installed": False, "activated": False}
    there = store.is_mounted() and store.image(digest).is_file()
    # One that the node has found damaged is there, and yet becomes a new generation.
    verdict = store.verdict(digest) if there and is_active else None
    condemned = verdict is not None and not verdict.sound
    renews = params["activate"] and (condemned or not is_active)
    if there and not renews:
        return {**result, "changed": False, "generation": number}
    if check_mode:
        result.update(installed=condemned or not there, activated=renews)
        return {**result, "changed": True, "generation": number}
    store.require_mounted()
    store.clean()
    if params["arrived"]:
        store.install(digest, Path(params["arrived"]), params["size"])
        result["installed"] = True
    elif not there or store.is_damaged(digest):
        if not params["size"]:
            raise KubewrightError(
                f"This node has no sound image {digest}, and `path` names no file on the "
                "controller to bring it from. Build the image, or give its path."
            )
        incoming = store.prepare_transfer(digest, params["size"], params["transfer_owner"])
        return {**result, "changed": False, "generation": number, "transfer": str(incoming)}
    if renews:
        number = store.activate(digest)
        store.acquit(digest)
        result["activated"] = True
    return {**result, "changed": True, "generation": number}


def main() -> None:
    """Look, install and activate under the node lock."""
    module = AnsibleModule(
        argument_spec={
            "digest": {"type": "str", "required": True},
            "path": {"type": "path"},
            "volume": {"type": "path", "default": "/var/lib/kubewright/system"},
            "activate": {"type": "bool", "default": True},
            "size": {"type": "int"},
            "arrived": {"type": "path"},
            "transfer_owner": {"type": "str"},
            "epoch": {"type": "int"},
            "lock_timeout": {"type": "int", "default": 600},
        },
        supports_check_mode=True,
    )
    params, check_mode = module.params, module.check_mode
    store = _image.Store(Path(params["volume"]))
    try:
        params["digest"] = _digest.parse(params["digest"])
        with _fence.node_lock(params["epoch"], params["lock_timeout"], check_mode=check_mode):
            before = store.active()
            result = converge(store, params, check_mode)
    except FORESEEN as error:
        module.fail_json(msg=message(error))
    else:
        old = before.digest if before else "none"
        new = params["digest"] if result["activated"] else old
        staged = f"staged {params['digest']}\n" if result["installed"] else ""
        header = f"{params['volume']}/active"
        result["diff"] = {
            "before_header": header,
            "after_header": header,
            "before": f"image {old}\n" if result["changed"] else "",
            "after": f"{staged}image {new}\n" if result["changed"] else "",
        }
        module.exit_json(**result)


if __name__ == "__main__":
    main()
