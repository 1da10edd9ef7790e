# SPDX-License-Identifier: Apache-2.0
"""Power is lost at each change of the file system: the active image is whole on what is left.

Killing a process is not enough for that, since the kernel keeps what it wrote. So the file beneath
the volume is copied after each change, with what has reached it by then; the copy is checked and
mounted as at a boot. Once with only what was brought to the disk on purpose, and once as if the
kernel had written all of it at once: each order of changes is then seen.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import random
import shutil
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any
from unittest import mock

import pytest
from ansible_collections.kubewright.cluster.plugins.module_utils._base import commands
from ansible_collections.kubewright.cluster.plugins.module_utils._image import bringing, images
from ansible_collections.kubewright.cluster.plugins.module_utils._onnode import guard, verify
from ansible_collections.kubewright.cluster.plugins.module_utils._volume import ext4, plan
from loops import bring_to_disk, mounted
from system_images import asked

SIZE = 128_000_000
CHANGES = (
    "write",
    "fsync",
    "rename",
    "replace",
    "unlink",
    "symlink",
    "mkdir",
    "rmdir",
    "chmod",
    "chown",
    "fchmod",
    "fchown",
    "ftruncate",
    "close",
)
# The kernel brings nothing to the disk by itself while the test runs.
LAZY = "loop,noatime,errors=remount-ro,commit=300"
OLD, NEW = (random.Random(seed).randbytes(300_001) for seed in (1, 2))
OLD_DIGEST, NEW_DIGEST = (hashlib.sha256(content).hexdigest() for content in (OLD, NEW))

pytestmark = pytest.mark.skipif(
    os.getuid() != 0 or not shutil.which("mkfs.ext4", path=commands.ADMIN_PATH),
    reason="loop devices belong to root",
)


class Disk:
    """A small volume; `states` are its contents at each moment at which the power may go."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.file = directory / "volume"
        self.point = directory / "system"
        self.states: dict[str, str] = {}
        self.changes = 0
        wanted = plan.Wanted(self.file, SIZE, True, "kubewright", mount_point=self.point)
        ext4.apply(wanted, ["create"], commands.SystemRunner())

    def copy(self, after: str) -> None:
        """Keep what has reached the file; a state that was seen before is not kept twice."""
        with self.file.open("rb") as source:
            parts = dict(_data(source.fileno()))
        seen = hashlib.sha256()
        for position, data in parts.items():
            seen.update(f"{position}:{len(data)}:".encode() + data)
        name = seen.hexdigest()
        if name in self.states:
            return
        self.states[name] = f"{self.changes}: {after}"
        with (self.directory / name).open("wb") as target:
            target.truncate(SIZE)
            for position, data in parts.items():
                target.seek(position)
                target.write(data)

    def watch(self, action: Callable[[], object], eager: bool) -> None:
        """Do *action*, and `copy` after each change; *eager*: the kernel writes all at once."""

        def watched(name: str) -> Callable[..., Any]:
            real = getattr(os, name)

            def call(*args: Any, **kwargs: Any) -> Any:
                result = real(*args, **kwargs)
                self.changes += 1
                keep(name)
                return result

            return call

        patches = [mock.patch.object(os, name, watched(name)) for name in CHANGES]

        def keep(name: str) -> None:
            # To keep it is to write as well.
            with _without(patches):
                if eager:
                    bring_to_disk(self.point)
                self.copy(name)

        with _with(patches):
            action()

    def after_power_loss(self) -> Iterator[tuple[str, str, str]]:
        """Of each state: when it was, the digest that is active, and that of what lies there."""
        for name, when in self.states.items():
            copy = self.directory / name
            assert guard.check(copy) == 0, when
            with mounted(copy, self.directory / "look", "loop") as point:
                active = images.Store(point).active()
                image = point / "active" / "image.squashfs"
                found = hashlib.sha256(image.read_bytes()).hexdigest() if active else ""
                yield when, active.digest if active else "", found
            copy.unlink()


def _data(fd: int) -> Iterator[tuple[int, bytes]]:
    position = 0
    while position < SIZE:
        try:
            position = os.lseek(fd, position, os.SEEK_DATA)
        except OSError:  # only holes from here on
            return
        end = os.lseek(fd, position, os.SEEK_HOLE)
        yield position, os.pread(fd, end - position, position)
        position = end


@contextlib.contextmanager
def _with(patches: Sequence[Any]) -> Iterator[None]:
    for patch in patches:
        patch.start()
    try:
        yield
    finally:
        for patch in patches:
            patch.stop()


@contextlib.contextmanager
def _without(patches: Sequence[Any]) -> Iterator[None]:
    for patch in patches:
        patch.stop()
    try:
        yield
    finally:
        for patch in patches:
            patch.start()


def bring(store: images.Store, content: bytes) -> None:
    """Install and activate, as the module does; the transfer is written in two parts."""
    params = asked(content)
    run = commands.SystemRunner()
    transfer = bringing.converge(store, params, False, run).get("transfer")
    if transfer:
        fd = os.open(transfer, os.O_WRONLY)
        for part in (content[: len(content) // 2], content[len(content) // 2 :]):
            os.write(fd, part)
        os.close(fd)
        bringing.converge(store, {**params, "arrived": transfer}, False, run)


@pytest.fixture
def disk(tmp_path: Path, any_image: None) -> Disk:
    return Disk(tmp_path)


@pytest.mark.parametrize("eager", [False, True])
def test_the_active_image_is_whole_at_each_moment(disk: Disk, eager: bool) -> None:
    with mounted(disk.file, disk.point, LAZY):
        bring(images.Store(disk.point), OLD)
        disk.copy("the old one is active")
        disk.watch(lambda: bring(images.Store(disk.point), NEW), eager)
        disk.copy("the new one is active")
    seen = list(disk.after_power_loss())
    for when, active, found in seen:
        assert active in (OLD_DIGEST, NEW_DIGEST), when
        assert found == active, when
    order = [active for _, active, _ in seen]
    assert order[0] == OLD_DIGEST
    assert order[-1] == NEW_DIGEST, "what was said to be done is done"
    assert order == sorted(order, key=[OLD_DIGEST, NEW_DIGEST].index), "it never goes back"
    assert disk.changes > 20
    assert len(seen) > (10 if eager else 5), "the moments differ"


def test_the_first_image_is_there_or_not(disk: Disk) -> None:
    with mounted(disk.file, disk.point, LAZY):
        disk.watch(lambda: bring(images.Store(disk.point), NEW), eager=True)
    seen = list(disk.after_power_loss())
    assert {(active, found) for _, active, found in seen} == {("", ""), (NEW_DIGEST, NEW_DIGEST)}
    assert seen[-1][1] == NEW_DIGEST


@pytest.mark.parametrize("eager", [False, True])
def test_a_damaged_one_is_not_lost_before_it_is_replaced(disk: Disk, eager: bool) -> None:
    damaged = bytes([OLD[0] ^ 1]) + OLD[1:]
    with mounted(disk.file, disk.point, LAZY):
        store = images.Store(disk.point)
        bring(store, OLD)
        store.image(OLD_DIGEST).write_bytes(damaged)
        bring_to_disk(disk.point)
        verdict = verify.verify(disk.point, disk.point.parent / verify.VERDICT)
        assert verdict is not None and not verdict.sound
        disk.watch(lambda: bring(store, OLD), eager)
        disk.copy("the sound one is active")
    seen = list(disk.after_power_loss())
    assert {active for _, active, _ in seen} == {OLD_DIGEST}
    allowed = {hashlib.sha256(damaged).hexdigest(), OLD_DIGEST}
    assert {found for _, _, found in seen} == allowed
    assert seen[-1][2] == OLD_DIGEST


def test_a_missing_fsync_would_be_noticed(disk: Disk, monkeypatch: pytest.MonkeyPatch) -> None:
    """The test can fail: where nothing is brought to the disk, the power takes it away."""
    with mounted(disk.file, disk.point, LAZY):
        bring(images.Store(disk.point), OLD)
        monkeypatch.setattr(os, "fsync", lambda _fd: None)
        disk.watch(lambda: bring(images.Store(disk.point), NEW), eager=False)
        disk.copy("the new one is said to be active")
        monkeypatch.undo()
    last = list(disk.after_power_loss())[-1]
    assert last[1:] == (OLD_DIGEST, OLD_DIGEST)
