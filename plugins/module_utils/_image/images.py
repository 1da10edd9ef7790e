# Copyright: the Kubewright authors
# Apache License 2.0 (see LICENSE or https://www.apache.org/licenses/LICENSE-2.0)
"""System images and generations on a node's system volume.

Layout::

    images/<sha256>.squashfs      never changed once it has this name
    incoming/<sha256>.<random>    a transfer in progress, or what one that was cut has brought
    generations/<n>/              image.squashfs -> ../../images/<sha256>.squashfs, generation.json,
                                  configuration/: what was written for this image
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
import stat
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ansible_collections.kubewright.cluster.plugins.module_utils._base import atomic
from ansible_collections.kubewright.cluster.plugins.module_utils._base.errors import KubewrightError
from ansible_collections.kubewright.cluster.plugins.module_utils._onnode import trial, verify

STALE_SECONDS = 60.0
RESERVE_BYTES = 64 << 20  # what stays free for configuration and certificates
UNFINISHED = ".new-"
CONFIGURATION = "configuration"
# A transfer over SSH goes on at a multiple of this.
PIECE_BYTES = 1 << 20


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
        """Transfers in progress."""
        return self.volume / "incoming"

    @property
    def entrance(self) -> Path:
        """`incoming`, where another user's transfer may write to it: the volume is read-only."""
        beside = self.volume.parent / "incoming"
        return beside if os.path.ismount(beside) else self.incoming

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
        try:
            name = (self.volume / "active").readlink().name
        except OSError:
            return None
        return self.generation(int(name)) if name.isdigit() else None

    def generation(self, number: int) -> Active | None:
        """The generation with this number, None when it is gone or its image is."""
        link = self.generations / str(number) / "image.squashfs"
        try:
            image = link.readlink().name
        except OSError:
            return None
        return Active(number, image.removesuffix(".squashfs")) if link.is_file() else None

    def record(self, number: int) -> dict[str, Any]:
        """What is written down of a generation; empty when it can't be read."""
        try:
            record = self.generations / str(number) / trial.RECORD
            found = json.loads(record.read_text("utf-8"))
        except (OSError, ValueError):
            return {}
        return found if isinstance(found, dict) else {}

    def previous(self) -> Active | None:
        """The generation that was active before the active one, None when it is not there."""
        active = self.active()
        number = self.record(active.generation).get("previous") if active else None
        return self.generation(number) if isinstance(number, int) else None

    def numbers(self) -> list[int]:
        """The numbers of all generations, from the oldest on."""
        if not self.generations.is_dir():
            return []
        return sorted(int(p.name) for p in self.generations.iterdir() if p.name.isdigit())

    def clean(self, wanted: str = "") -> None:
        """Remove what killed runs left: old transfers and generations without their name.

        What there is of the image *wanted* stays: its transfer goes on there.
        """
        if self.incoming.is_dir():
            for left in self.incoming.iterdir():
                goes_on = left.name.startswith(f"{wanted}.") and left.lstat().st_size > 0
                if is_stale(left) and not goes_on:
                    atomic.remove_if_there(left)
        if self.generations.is_dir():
            for left in self.generations.glob(f"{UNFINISHED}*"):
                shutil.rmtree(left)

    def require_room(self, size: int) -> None:
        """Raise `KubewrightError` when *size* more bytes would leave less than what is kept."""
        place = os.statvfs(self.volume)
        free = place.f_bavail * place.f_frsize
        if size + RESERVE_BYTES > free:
            raise KubewrightError(
                f"The image needs {size} bytes more and {self.volume} has {free} free. Remove "
                "unused images (kubewright node image gc), or make the volume larger."
            )

    def prepare_transfer(self, digest: str, size: int | None, owner: str | None) -> Path:
        """A file in ``incoming`` for the image, with as much of it as an earlier transfer brought.

        *size*: the image's, in bytes; None when it is not known yet. *owner*: the user who writes.
        Gives its path as a transfer reaches it.
        """
        self.require_mounted()
        left = self._cut(digest, size)
        there = left.lstat().st_size if left else 0
        if size is not None:
            self.require_room(size - there)
        atomic.make_directories(self.images)
        # Others may pass through it to a file they own, and not list it.
        atomic.make_directories(self.incoming, 0o711)
        # By a new name: whoever was cut and lives on does not write to it any more.
        path = self.incoming / f"{digest}.{secrets.token_hex(8)}"
        if left:
            left.rename(path)
        make = 0 if left else os.O_CREAT | os.O_EXCL
        fd = os.open(path, os.O_WRONLY | make | os.O_NOFOLLOW, 0o600)
        try:
            os.fchown(fd, pwd.getpwnam(owner).pw_uid if owner else 0, -1)
            if there != size:
                os.ftruncate(fd, there - there % PIECE_BYTES)
        finally:
            os.close(fd)
        return self.entrance / path.name

    def _cut(self, digest: str, size: int | None) -> Path | None:
        """The longest beginning of the image that a transfer left; nobody writes to it."""
        found: dict[Path, int] = {}
        for left in self.incoming.glob(f"{digest}.*"):
            status = left.lstat()
            if stat.S_ISREG(status.st_mode) and status.st_size and not is_open(status):
                found[left] = status.st_size
        fitting = [path for path in found if size is None or found[path] <= size]
        longest = max(fitting, key=lambda path: found[path], default=None)
        for left in found:
            if left != longest:
                left.unlink()
        return longest

    def install(
        self,
        digest: str,
        arrived: Path,
        size: int,
        check: Callable[[Path], object] = lambda _: None,
    ) -> None:
        """Verify the transferred file *arrived* and give it its name in ``images``.

        It is hashed once, from the disk after an fsync: that covers the transfer and the storage.
        Raises `KubewrightError`, and removes the file, when it is not the image, or when *check*,
        which looks at a file of the right bytes, raises one.
        """
        if arrived.parent != self.entrance or not arrived.name.startswith(f"{digest}."):
            raise KubewrightError(f"{arrived} is not a transfer of {digest} in {self.entrance}.")
        arrived = self.incoming / arrived.name
        try:
            got = arrived.lstat().st_size
        except FileNotFoundError as error:
            raise KubewrightError(
                f"{arrived} is gone: another run removed the transfer. Run it again."
            ) from error
        found = verify.digest_of(arrived) if got == size else f"{got} bytes"
        if found != digest:
            arrived.unlink()
            wanted = digest if got == size else f"{size} bytes"
            raise NotTheImage(
                f"The transferred file is not the image: {found} instead of {wanted}. "
                "It was removed. Run it again; if it happens again, compare the source image "
                "with its digest (sha256sum) and check the node's disk and memory."
            )
        try:
            check(arrived)
        except KubewrightError:
            arrived.unlink()
            raise
        os.chown(arrived, 0, 0)
        arrived.chmod(0o444)
        with arrived.open("rb") as file:
            os.fsync(file.fileno())
        arrived.rename(self.image(digest))
        atomic.fsync_directories([self.images, self.incoming])

    def is_damaged(self, digest: str) -> bool:
        """Hash an installed image again. A damaged one keeps its name until `install` replaces it.

        Whoever has it mounted or runs from it keeps the old bytes until the end.
        """
        return verify.digest_of(self.image(digest)) != digest

    @property
    def _verdict(self) -> Path:
        return self.volume.parent / verify.VERDICT

    def verdict(self, digest: str) -> verify.Verdict | None:
        """What the node's own last verification says of this image, None when it was another."""
        verdict = verify.read_verdict(self._verdict)
        return verdict if verdict and verdict.image == digest else None

    def acquit(self, digest: str) -> None:
        """Record that this image has been hashed, and is sound."""
        verify.write_verdict(self._verdict, verify.judged(digest, digest))

    def activate(self, digest: str) -> int:
        """Make a generation of the image and switch ``active`` to it; gives its number.

        Where another image was active, the node is ordered to try it, see `_onnode.trial`. One that
        is being tried itself is no place to go back to: it is back to the one before that then.
        """
        before = self.active()
        pending = trial.read_order(self.volume.parent)
        proven = self.generation(pending.previous) if before and pending else None
        if pending and proven and proven != before:
            back: Active | None = proven
            manifests = pending.manifests
        else:
            # One that is brought again, being damaged, is no place to go back to from itself.
            back = self.previous() if before and before.digest == digest else before
            manifests, pending = trial.manifests(), None
        atomic.make_directories(self.generations)
        number = max(self.numbers(), default=0) + 1
        unfinished = self.generations / f"{UNFINISHED}{number}"
        unfinished.mkdir(mode=0o755)
        (unfinished / "image.squashfs").symlink_to(f"../../images/{digest}.squashfs")
        # Begins as the last one's: what the new image wants otherwise is written to it later, and
        # the way back to the old image is also one to its configuration.
        configuration = self.volume / "active" / CONFIGURATION
        if configuration.is_dir():
            atomic.copy_tree(configuration, unfinished / CONFIGURATION)
        else:
            (unfinished / CONFIGURATION).mkdir(mode=0o755)
        document = {
            "schema": 1,
            "generation": number,
            "image": digest,
            "previous": back.generation if back else None,
            "created_at": datetime.datetime.now(datetime.timezone.utc).isoformat(
                timespec="seconds"
            ),
        }
        text = json.dumps(document, indent=1) + "\n"
        atomic.write_file(unfinished / trial.RECORD, text.encode(), mode=0o644)
        unfinished.rename(self.generations / str(number))
        atomic.fsync_directory(self.generations)
        if before and back and (pending or before.digest != digest):
            order = trial.Order(number, back.generation, manifests)
            trial.write_order(self.volume.parent, order)
        atomic.replace_link(self.volume / "active", f"generations/{number}")
        return number

    def condemned(self, digest: str) -> str:
        """Why the node has given this image up, "" where it has not: its newest generation says."""
        for number in reversed(self.numbers()):
            record = self.record(number)
            if record.get("image") == digest:
                return condemned(record)
        return ""

    def roll_back(self, *, predict: bool = False) -> Active | None:
        """Switch ``active`` back to the generation before it, whole as it was; gives that one.

        None when that has been done already: a run that was cut is run again. The generation that
        is left is marked, before the switch. *predict*: nothing is written. Raises
        `KubewrightError` when there is nothing to go back to.
        """
        active, newest = self.active(), max(self.numbers(), default=0)
        if active and newest > active.generation:
            record = self.record(newest)
            if record.get("rolled_back") and record.get("previous") == active.generation:
                return None
        target = self.previous()
        if active is None or target is None:
            raise KubewrightError(
                f"{self.volume} has nothing to roll back to: "
                + (
                    f"generation {active.generation} is the first one, or the one before it is "
                    "gone. "
                    if active
                    else "no image is active. "
                )
                + "Install and activate the image that should run."
            )
        if self.is_damaged(target.digest):
            raise KubewrightError(
                f"The image {target.digest} of generation {target.generation} is damaged; the "
                "active image was not changed. Install it again (kubewright node image install)."
            )
        if not predict:
            self.acquit(target.digest)
            mark = {"rolled_back": True}
            trial.switch(self.volume, active.generation, target.generation, mark)
        return target


def condemned(record: Mapping[str, Any]) -> str:
    """Why the image of a generation with this record was given up, "" when it was not."""
    return str(record.get("condemned") or "")


class NotTheImage(KubewrightError):
    """What arrived has another digest."""


def is_stale(path: Path) -> bool:
    """Whether a transfer was given up: not written for a minute, and open in no process here."""
    try:
        status = path.lstat()
    except FileNotFoundError:
        return False
    return time.time() - status.st_mtime >= STALE_SECONDS and not is_open(status)


def is_open(status: os.stat_result) -> bool:
    """Whether a process here has the file with this status open."""
    for process in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            for fd in (process / "fd").iterdir():
                with contextlib.suppress(OSError):
                    if os.path.samestat(fd.stat(), status):
                        return True
    return False
