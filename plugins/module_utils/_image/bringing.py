# Copyright: the Kubewright authors
# Apache License 2.0 (see LICENSE or https://www.apache.org/licenses/LICENSE-2.0)
"""Bring a system image to a node's volume, make it active, go back, and collect what nobody needs.

The options are those of the module ``system_image``. A transfer from the controller takes two
calls: the first says where the image is to go, the second what has arrived there.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from ansible_collections.kubewright.cluster.plugins.module_utils._base import commands
from ansible_collections.kubewright.cluster.plugins.module_utils._base.errors import (
    FORESEEN,
    KubewrightError,
)
from ansible_collections.kubewright.cluster.plugins.module_utils._cluster import image_format
from ansible_collections.kubewright.cluster.plugins.module_utils._image import (
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
                f"The image has Kubernetes {kubernetes}, but this node's cluster runs "
                f"{own.kubernetes}: Kubewright can't upgrade a cluster yet. Activate an image of "
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
                f"This node has no intact image {digest}, and neither `path` nor `url` says where "
                "to get it. Install it first: kubewright node image install."
            )
    if renews:
        if (reason := store.condemned(digest)) and not params["again"]:
            raise KubewrightError(
                f"This node tried the system image {digest} and rolled back: {reason}. It is not "
                "tried again automatically. Build another revision; or, if the image was not the "
                f"cause, activate it again: kubewright node image activate {digest[:12]}."
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
