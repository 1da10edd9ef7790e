# Copyright: the Kubewright authors
# Apache License 2.0 (see LICENSE or https://www.apache.org/licenses/LICENSE-2.0)
"""Container images of a system image, brought into containerd.

An image is up to date when containerd has it under its name with two labels: the one that
keeps kubelet's garbage collection away from it, and the hash of the archive that it came from. The
second one is set when the import has ended and is on disk, so an import that was cut counts as
missing; and so does an image whose archive was rebuilt under the same name (a revision of the
system image).
"""

from __future__ import annotations

import json
import socket
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from ansible_collections.kubewright.cluster.plugins.module_utils._base import commands
from ansible_collections.kubewright.cluster.plugins.module_utils._base.errors import KubewrightError

NAMESPACE = "k8s.io"
PINNED = ("io.cri-containerd.pinned", "pinned")  # containerd, internal/cri/labels
ARCHIVE_LABEL = "cluster.kubewright/archive"
# Measured with containerd 2.3.4 on four archives, 270 MB together: through the transfer service
# 5.3 s of CPU, with --local 2.4 s. Without the packed layers, which the system image has anyway,
# half the disk space and half the time. --sync-fs costs about a tenth; without it a power cut soon
# after leaves layers that containerd knows and whose files are empty, and a second import skips.
IMPORT_FLAGS = ("--local", "--discard-unpacked-layers", "--sync-fs")
WORKERS = 2
CONNECT_SECONDS = 5.0


@dataclass(frozen=True)
class Image:
    """A container image of the manifest: its name, its archive's path, SHA-256 and size."""

    name: str
    archive: Path
    digest: str
    size: int


@dataclass(frozen=True)
class Missing:
    """What is to be done: images to import, and names to pin."""

    to_import: tuple[Image, ...]
    to_pin: tuple[str, ...]


def read_manifest(root: Path) -> list[Image]:
    """The images of the system image mounted at *root*."""
    path = root / "manifest.json"
    try:
        manifest = json.loads(path.read_text("utf-8"))
        files = {entry["path"]: entry for entry in manifest["files"]}
        return [
            Image(
                image["name"],
                root / image["archive"],
                files[image["archive"]]["sha256"],
                files[image["archive"]]["size"],
            )
            for image in manifest["images"]
        ]
    except FileNotFoundError as error:
        raise KubewrightError(
            f"{path} is missing: no system image is mounted at {root}. Activate "
            "one (kubewright.cluster.system_image) and start opt-kubewright.mount."
        ) from error
    except (ValueError, KeyError, TypeError) as error:
        raise KubewrightError(
            f"{path} is not the manifest of a system image ({error!r}). Build the image again."
        ) from error


@dataclass(frozen=True)
class Containerd:
    """containerd behind *address*, reached with the ``ctr`` at *ctr*; *timeout* in seconds."""

    ctr: Path
    address: str
    run: commands.Runner
    timeout: float

    def listens(self) -> bool:
        """Whether something answers at the address; a containerd that was killed leaves a file."""
        try:
            with socket.socket(socket.AF_UNIX) as client:
                client.settimeout(CONNECT_SECONDS)
                client.connect(self.address)
        except OSError:
            return False
        return True

    def missing(self, images: Sequence[Image]) -> Missing:
        """One call when nothing is missing, two otherwise."""
        good = self._named(images, _pinned_filter)
        rest = [image for image in images if image.name not in good]
        if not rest:
            return Missing((), ())
        there = self._named(rest, _archive_filter)
        return Missing(
            tuple(image for image in rest if image.name not in there),
            tuple(image.name for image in rest if image.name in there),
        )

    def bring(self, missing: Missing, images: Sequence[Image]) -> None:
        """Import and pin what is missing, two archives at a time, and look again."""
        largest_first = sorted(missing.to_import, key=lambda image: -image.size)
        with ThreadPoolExecutor(WORKERS) as workers:
            for result in workers.map(self._import, largest_first):
                commands.check(result, "A container image could not be imported")
        for name in missing.to_pin:
            result = self._ctr("label", name, "=".join(PINNED))
            commands.check(result, f"{name} could not be pinned")
        left = self.missing(images)
        if left != Missing((), ()):
            names = [*(image.name for image in left.to_import), *left.to_pin]
            raise KubewrightError(
                f"containerd does not list {', '.join(names)} after the import. Does "
                "the archive contain this name? `ctr -n k8s.io images ls` on the node lists what "
                "is there."
            )

    def _import(self, image: Image) -> commands.Result:
        pinned = "=".join(PINNED)
        result = self._ctr("import", *IMPORT_FLAGS, f"--label={pinned}", str(image.archive))
        if result.rc != 0:
            return result
        return self._ctr("label", image.name, pinned, f"{ARCHIVE_LABEL}={image.digest}")

    def _named(self, images: Sequence[Image], query: Callable[[Image], str]) -> set[str]:
        filters = [query(image) for image in images]
        result = self._ctr("ls", "--quiet", *filters)
        if result.rc != 0 and not self.listens():
            raise KubewrightError(
                f"containerd does not listen on {self.address}. Start it first; "
                "See `systemctl status containerd` and `journalctl -u containerd`."
            )
        commands.check(result, "containerd's images could not be listed")
        return set(result.stdout.split())

    def _ctr(self, *arguments: str) -> commands.Result:
        head = [str(self.ctr), "--address", self.address, "--namespace", NAMESPACE, "images"]
        return self.run([*head, *arguments], timeout=self.timeout)


def converge(root: Path, containerd: Containerd, predict: bool) -> Missing | None:
    """Import and pin what is missing; gives it. *predict*: see `predicted`."""
    if predict:
        return predicted(root, containerd)
    images = read_manifest(root)
    missing = containerd.missing(images)
    if missing != Missing((), ()):
        containerd.bring(missing, images)
    return missing


def predicted(root: Path, containerd: Containerd) -> Missing | None:
    """What is missing; None when that cannot be known before a system image is mounted."""
    if not (root / "manifest.json").exists():
        return None
    images = read_manifest(root)
    if not containerd.listens():
        return Missing(tuple(images), ())
    return containerd.missing(images)


def _archive_filter(image: Image) -> str:
    return f'name=="{image.name}",labels."{ARCHIVE_LABEL}"=={image.digest}'


def _pinned_filter(image: Image) -> str:
    return f'{_archive_filter(image)},labels."{PINNED[0]}"=={PINNED[1]}'
