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
    M(kubewright.cluster.node_services) after C(<volume>/active).
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

import os
from pathlib import Path
from typing import Any

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.kubewright.cluster.plugins.module_utils._base import commands, limits
from ansible_collections.kubewright.cluster.plugins.module_utils._base.errors import (
    FORESEEN,
    KubewrightError,
    failure,
)
from ansible_collections.kubewright.cluster.plugins.module_utils._cluster import image_format
from ansible_collections.kubewright.cluster.plugins.module_utils._fence import fencing
from ansible_collections.kubewright.cluster.plugins.module_utils._image import (
    digests,
    download,
    images,
    manifests,
    signatures,
    usage,
)
from ansible_collections.kubewright.cluster.plugins.module_utils._kube import memberships


class Bringing:
    """Brings the image of *params* to *store*; *run* starts commands under the node lock."""

    def __init__(self, store: images.Store, params: dict[str, Any], run: commands.Runner) -> None:
        self.store, self.params, self.run = store, params, run
        self.digest = str(params["digest"])

    def fits(self, image: Path, signature: bytes | None = None) -> None:
        """Raise `KubewrightError` for an image that is not signed, or not for this node."""
        if signature is not None:
            signatures.verify(image, signature, self.params["signers"], self.run)
        manifest = manifests.read(image, self.store.images, self.run)
        manifests.require(manifest, self.params["role"])
        if self.params["state"] == "active" and memberships.RECORD.exists():
            self.keeps(manifest.kubernetes)

    def keeps(self, kubernetes: str) -> None:
        """Raise `KubewrightError` where a node of a cluster runs another release than that."""
        active = self.store.active()
        if active is None or active.digest == self.digest:
            return
        try:
            own = manifests.read(self.store.image(active.digest), self.store.images, self.run)
        except KubewrightError:
            return  # nothing can be read of a damaged one, and another one is its repair
        if own.kubernetes != kubernetes:
            raise KubewrightError(
                f"The image has Kubernetes {kubernetes}, but this node's cluster "
                f"runs {own.kubernetes}: Kubewright can't upgrade a cluster yet. Activate an image "
                "of "
                f"{own.kubernetes} (kubewright image build {own.kubernetes})."
            )

    def arrived(self, file: Path) -> None:
        """Install what the controller has transferred."""
        self.store.install(self.digest, file, self.params["size"], self.fits)

    def fetch(self) -> None:
        """Let the node fetch it. What a damaged beginning has spoilt is fetched once more."""
        address = f"{download.check_url(self.params['url'])}/{self.digest}.squashfs"
        signatures.allowed(self.params["signers"])
        try:
            signature = download.small(address + image_format.SUFFIX, signatures.LIMIT_BYTES)
        except download.NotThere as error:
            raise KubewrightError(
                f"{error} An image that is downloaded from a URL must be signed: put the "
                "image and its signature there (kubewright image sign, kubewright image serve)."
            ) from error
        for attempt in ("first", "last"):
            file = self.store.prepare_transfer(self.digest, None, None)
            begun = file.stat().st_size > 0
            try:
                size = download.into(address, file, self.store.require_room)
            except FORESEEN:
                if not file.stat().st_size:
                    file.unlink()  # there is nothing to go on from
                raise
            try:
                self.store.install(
                    self.digest, file, size, lambda image: self.fits(image, signature)
                )
                return
            except images.NotTheImage:
                if attempt == "last" or not begun:
                    raise


def transfer_owner(params: dict[str, Any]) -> str | None:
    """Who writes the transfer; where the controller does not know, who became root by sudo."""
    if params["transfer_owner"] != "":
        owner: str | None = params["transfer_owner"]
        return owner
    if not (owner := os.environ.get("SUDO_USER")):
        raise KubewrightError(
            "The user that logs in to this node is unknown, but must own the transferred "
            "image. Set ansible_user for it in the inventory."
        )
    return owner


def bring(
    store: images.Store, params: dict[str, Any], check_mode: bool, run: commands.Runner
) -> dict[str, Any]:
    """One of the two calls. ``transfer`` in the answer: the node waits for the image there."""
    digest, activate = params["digest"], params["state"] == "active"
    bringing = Bringing(store, params, run)
    before = store.active()
    is_active = before is not None and before.digest == digest
    number = before.generation if before else None
    result: dict[str, Any] = {"digest": digest, "installed": False, "activated": False}
    there = store.is_mounted() and store.image(digest).is_file()
    # One that the node has found damaged is there, and yet becomes a new generation.
    verdict = store.verdict(digest) if there and is_active else None
    damaged = verdict is not None and not verdict.sound
    renews = activate and (damaged or not is_active)
    # Whoever asks to have it there wants a sound one.
    rotten = there and not activate and store.is_damaged(digest)
    damaged = damaged or rotten
    if there and not renews and not damaged:
        return {**result, "changed": False, "generation": number}
    if check_mode:
        result.update(installed=damaged or not there, activated=renews)
        return {**result, "changed": True, "generation": number}
    store.require_mounted()
    store.clean(digest)
    if params["arrived"]:
        bringing.arrived(Path(params["arrived"]))
        result["installed"] = True
    elif not there or rotten or store.is_damaged(digest):
        if params["url"]:
            bringing.fetch()
            result["installed"] = True
        elif params["size"]:
            file = store.prepare_transfer(digest, params["size"], transfer_owner(params))
            told = {"transfer": str(file), "offset": file.stat().st_size}
            return {**result, "changed": False, "generation": number, **told}
        else:
            raise KubewrightError(
                f"This node has no intact image {digest}, and neither `path` "
                "nor `url` says where to get it. Install it first: "
                "kubewright node image install."
            )
    if renews:
        if (reason := store.condemned(digest)) and not params["again"]:
            raise KubewrightError(
                f"This node tried the system image {digest} and rolled back: {reason}. It is not "
                "tried again automatically. Build another revision; or, if the image was not the "
                "cause, "
                f"activate it again: kubewright node image activate {digest[:12]}."
            )
        if not result["installed"]:
            bringing.fits(store.image(digest))
        number = store.activate(digest)
        store.acquit(digest)
        result["activated"] = True
    return {**result, "changed": True, "generation": number}


def roll_back(store: images.Store, check_mode: bool) -> dict[str, Any]:
    """Roll back to the previous generation, unless that was done already."""
    store.require_mounted()
    target = store.roll_back(predict=check_mode)
    now = target or store.active()
    return {
        "digest": now.digest if now else None,
        "installed": False,
        "activated": target is not None,
        "generation": now.generation if now else None,
        "changed": target is not None,
    }


def collect(store: images.Store, check_mode: bool) -> dict[str, Any]:
    """Remove what nobody needs."""
    store.require_mounted()
    before = store.active()
    digests, generations = usage.surplus(store), usage.surplus_generations(store)
    if not check_mode:
        store.clean()
        usage.collect(store, digests, generations)
    return {
        "installed": False,
        "activated": False,
        "generation": before.generation if before else None,
        "changed": bool(digests or generations),
        "removed": digests,
    }


def converge(
    store: images.Store, params: dict[str, Any], check_mode: bool, run: commands.Runner
) -> dict[str, Any]:
    """Bring about the state that is asked for."""
    if params["state"] == "rolled_back":
        return roll_back(store, check_mode)
    if params["state"] == "collected":
        return collect(store, check_mode)
    return bring(store, params, check_mode, run)


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
            result = converge(store, params, check_mode, commands.SystemRunner(fence.pass_fds))
    except FORESEEN as error:
        module.fail_json(**failure(error))
    else:
        result.setdefault("removed", [])
        result["diff"] = diff(params["volume"], before.digest if before else "none", result)
        module.exit_json(**result)


if __name__ == "__main__":
    main()
