# Copyright: the Kubewright authors
# Apache License 2.0 (see LICENSE or https://www.apache.org/licenses/LICENSE-2.0)
"""Private to kubewright.cluster: system images and generations on a node's system volume.

Layout::

    images/<sha256>.squashfs      never changed once it has this name
    incoming/<sha256>.<random>    a transfer under way
    generations/<n>/              image.squashfs -> ../../images/<sha256>.squashfs, generation.json
    active -> generations/<n>     switched by one rename

Each name appears by a rename of something complete and on disk, so a cut at any moment leaves the
active generation whole, and what it leaves behind is removed or replaced by the next run.
"""

from __future__ import annotations

import contextlib
import datetime
import json
import os
import pwd
import secrets
import shutil
import time
from dataclasses import dataclass
from pathlib import Path

from ansible_collections.kubewright.cluster.plugins.module_utils import _atomic, _guard
from ansible_collections.kubewright.cluster.plugins.module_utils._errors import KubewrightError

STALE_SECONDS = 60.0
RESERVE_BYTES = 64 << 20  # what stays free for configuration and certificates
UNFINISHED = ".new-"


@dataclass(frozen=True)
class Active:
    """The active generation: its number and the digest of its image."""

    generation: int
    digest: str


@dataclass(frozen=True)
class Store:
    """The system volume mounted at *volume*."""

    volume: Path

    @property
    def images(self) -> Path:
        """Complete images."""
        return self.volume / "images"

    @property
    def incoming(self) -> Path:
        """Transfers under way."""
        return self.volume / "incoming"

    @property
    def generations(self) -> Path:
        """One directory a generation."""
        return self.volume / "generations"

    def image(self, digest: str) -> Path:
        """Where the image with this digest lies or will lie."""
        return self.images / f"{digest}.squashfs"

    def is_mounted(self) -> bool:
        """Whether the volume is there; without it everything would land on the root disk."""
        return os.path.ismount(self.volume)

    def require_mounted(self) -> None:
        """Raise `KubewrightError` when the volume is not mounted."""
        if not self.is_mounted():
            raise KubewrightError(
                f"{self.volume} is not a mounted volume. Mount it first "
                "(systemctl start var-lib-kubewright-system.mount)."
            )

    def active(self) -> Active | None:
        """The active generation, None when there is none or it does not resolve to an image."""
        link = self.volume / "active"
        try:
            generation = link.readlink().name
            image = (link / "image.squashfs").readlink().name
        except OSError:
            return None
        if not generation.isdigit() or not (link / "image.squashfs").is_file():
            return None
        return Active(int(generation), image.removesuffix(".squashfs"))

    def clean(self) -> None:
        """Remove what killed runs left: old transfers and generations without their name."""
        if self.incoming.is_dir():
            for left in self.incoming.iterdir():
                if is_stale(left):
                    _atomic.remove_if_there(left)
        if self.generations.is_dir():
            for left in self.generations.glob(f"{UNFINISHED}*"):
                shutil.rmtree(left)

    def prepare_transfer(self, digest: str, size: int, owner: str | None) -> Path:
        """An empty file in ``incoming`` for *size* bytes; *owner*: the user who writes it."""
        self.require_mounted()
        place = os.statvfs(self.volume)
        free = place.f_bavail * place.f_frsize
        if size + RESERVE_BYTES > free:
            raise KubewrightError(
                f"The image needs {size} bytes and {self.volume} has {free} free. Remove images "
                f"in {self.images} that no generation names, or make the volume larger."
            )
        _atomic.make_directories(self.images)
        # Others may pass through it to a file they own, and not list it.
        _atomic.make_directories(self.incoming, 0o711)
        path = self.incoming / f"{digest}.{secrets.token_hex(8)}"
        fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o600)
        try:
            if owner:
                os.fchown(fd, pwd.getpwnam(owner).pw_uid, -1)
        finally:
            os.close(fd)
        return path

    def install(self, digest: str, arrived: Path, size: int) -> None:
        """Verify the transferred file *arrived* and give it its name in ``images``.

        It is hashed once, from the disk after an fsync: that covers the transfer and the storage.
        Raises `KubewrightError`, and removes the file, when it is not the image.
        """
        if arrived.parent != self.incoming or not arrived.name.startswith(f"{digest}."):
            raise KubewrightError(f"{arrived} is not a transfer of {digest} in {self.incoming}.")
        try:
            got = arrived.lstat().st_size
        except FileNotFoundError as error:
            raise KubewrightError(
                f"{arrived} is gone: another run removed the transfer. Run again."
            ) from error
        found = _guard.digest_of(arrived) if got == size else f"{got} bytes"
        if found != digest:
            arrived.unlink()
            wanted = digest if got == size else f"{size} bytes"
            raise KubewrightError(
                f"What arrived is not the image: {found} instead of {wanted}. It was removed. "
                "Run again; if it happens again, compare the image on the controller with its "
                "digest (sha256sum) and check the node's disk and memory."
            )
        os.chown(arrived, 0, 0)
        arrived.chmod(0o444)
        with arrived.open("rb") as file:
            os.fsync(file.fileno())
        arrived.rename(self.image(digest))
        _atomic.fsync_directories([self.images, self.incoming])

    def is_damaged(self, digest: str) -> bool:
        """Hash an installed image again. A damaged one keeps its name until `install` replaces it.

        Whoever has it mounted or runs from it keeps the old bytes until the end.
        """
        return _guard.digest_of(self.image(digest)) != digest

    @property
    def _verdict(self) -> Path:
        return self.volume.parent / _guard.VERDICT

    def verdict(self, digest: str) -> _guard.Verdict | None:
        """What the node's own last verification says of this image, None when it was another."""
        verdict = _guard.read_verdict(self._verdict)
        return verdict if verdict and verdict.image == digest else None

    def acquit(self, digest: str) -> None:
        """Record that this image has been hashed, and is sound."""
        _guard.write_verdict(self._verdict, _guard.judged(digest, digest))

    def activate(self, digest: str) -> int:
        """Make a generation of the image and switch ``active`` to it; gives its number."""
        before = self.active()
        _atomic.make_directories(self.generations)
        number = self.newest_generation() + 1
        unfinished = self.generations / f"{UNFINISHED}{number}"
        unfinished.mkdir(mode=0o755)
        (unfinished / "image.squashfs").symlink_to(f"../../images/{digest}.squashfs")
        document = {
            "schema": 1,
            "generation": number,
            "image": digest,
            "previous": before.generation if before else None,
            "created_at": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        }
        text = json.dumps(document, indent=1) + "\n"
        _atomic.write_file(unfinished / "generation.json", text.encode(), mode=0o644)
        unfinished.rename(self.generations / str(number))
        _atomic.fsync_directory(self.generations)
        _atomic.replace_link(self.volume / "active", f"generations/{number}")
        return number

    def newest_generation(self) -> int:
        """The highest number in use, 0 when there is none."""
        if not self.generations.is_dir():
            return 0
        return max((int(p.name) for p in self.generations.iterdir() if p.name.isdigit()), default=0)


def is_stale(path: Path) -> bool:
    """Whether a transfer was given up: not written for a minute, and open in no process here."""
    try:
        status = path.lstat()
    except FileNotFoundError:
        return False
    if time.time() - status.st_mtime < STALE_SECONDS:
        return False
    for process in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            for fd in (process / "fd").iterdir():
                with contextlib.suppress(OSError):
                    if os.path.samestat(fd.stat(), status):
                        return False
    return True
