# Copyright: the Kubewright authors
# Apache License 2.0 (see LICENSE or https://www.apache.org/licenses/LICENSE-2.0)
"""What a system image says of itself, and whether it fits here.

Nothing that reads a squashfs need be on a node but the kernel. So it is mounted, in a mount
namespace of its own: nobody else sees it, and it ends with the process, however that ends.
"""

from __future__ import annotations

import json
import platform
from dataclasses import dataclass
from pathlib import Path

from ansible_collections.kubewright.cluster.plugins.module_utils._base import commands
from ansible_collections.kubewright.cluster.plugins.module_utils._base.errors import KubewrightError
from ansible_collections.kubewright.cluster.plugins.module_utils._cluster import image_format

READ_SECONDS = 60
_READ = (
    'mount -t squashfs -o loop,ro,nosuid,nodev,noexec -- "$1" "$2" && exec cat "$2/manifest.json"'
)


@dataclass(frozen=True)
class Manifest:
    """What an image is for: release of Kubernetes, our revision of it, Go's architecture, role."""

    kubernetes: str
    revision: int
    arch: str
    role: str


def parse(text: str) -> Manifest:
    """The manifest in *text*. Raises `KubewrightError` when it is none."""
    try:
        found = json.loads(text)
        if found["schema"] == image_format.SCHEMA:
            return Manifest(
                str(found["kubernetes"]),
                int(found["revision"]),
                str(found["arch"]),
                str(found["role"]),
            )
    except (ValueError, KeyError, TypeError):
        pass
    raise KubewrightError(
        f"Its manifest.json is missing or not of schema {image_format.SCHEMA}: it is not a system "
        "image, or was built by another version of Kubewright. Build it with this version "
        "(kubewright image build)."
    )


def read(image: Path, place: Path, run: commands.Runner) -> Manifest:
    """The manifest in *image*; it is mounted over *place*, for nobody else."""
    words = ["unshare", "--mount", "--propagation", "private", "sh", "-c", _READ, "sh"]
    result = run([*words, str(image), str(place)], timeout=READ_SECONDS)
    if result.rc != 0 and "manifest.json" not in result.stderr:
        said = (result.stderr.strip() or "nothing").splitlines()[-1]
        raise KubewrightError(
            f"{image.name} can't be mounted: it is not a system image, or this machine has "
            f"no loop device or no squashfs (mount says: {said})."
        )
    return parse(result.stdout)


def require(manifest: Manifest, role: str | None, machine: str | None = None) -> None:
    """Return when an image with *manifest* is for this machine and *role* (None: any).

    *machine*: as the kernel names its architecture. Raises `KubewrightError`.
    """
    machine = machine or platform.machine()
    here = image_format.ARCHITECTURES.get(machine, machine)
    what = f"a {manifest.role} of Kubernetes {manifest.kubernetes} on {manifest.arch}"
    if manifest.arch != here:
        raise KubewrightError(
            f"The image is for {what}, and this machine is {here}. Build the images on a "
            "machine of that architecture, or use another machine."
        )
    if role and manifest.role != role:
        raise KubewrightError(
            f"The image is for {what}, and this node is a {role}. Give an image for its role."
        )
