# SPDX-License-Identifier: Apache-2.0
"""A device that is somebody else's, or an earlier node's; with real loop devices."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from ansible_collections.kubewright.cluster.plugins.module_utils import (
    _command,
    _guard,
)
from loops import loop_device, mounted, run

SIZE = 32_000_000

pytestmark = pytest.mark.skipif(
    os.getuid() != 0 or not shutil.which("mkfs.ext4", path=_command.ADMIN_PATH),
    reason="loop devices belong to root",
)


@pytest.fixture
def disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A blank device of `SIZE` bytes, on a machine that was never a node."""
    monkeypatch.setattr(_guard, "UNIT", tmp_path / "unit")
    file = tmp_path / "disk"
    file.touch()
    os.truncate(file, SIZE)
    with loop_device(file) as device:
        yield device


def test_what_is_not_ours_is_left_alone_at_a_boot(
    tmp_path: Path,
    disk: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The kernel has given the device's name to another disk."""
    run("mkfs.ext4", "-q", "-L", "theirs", disk, "16M")  # it could grow
    run("debugfs", "-w", "-R", "set_super_value state 2", disk)  # e2fsck would write
    before = disk.read_bytes()
    assert _guard.check(disk) == 1
    told = capsys.readouterr().err
    assert f"{disk} holds a file system labelled 'theirs', not the system volume" in told
    assert "`ls -l /dev/disk/by-id`" in told
    assert disk.read_bytes() == before
    (tmp_path / "unit").write_text(f"What={disk}\n")
    real = _guard._run

    def failed(argv: Any, **more: Any) -> Any:
        done: Any = subprocess.CompletedProcess(argv, 0)
        return done if argv[0] == "systemctl" else real(argv, **more)

    monkeypatch.setattr(_guard, "_run", failed)
    assert [f"{one}\n" for one in _guard.report(tmp_path / "system")] == [told]
    with mounted(disk, tmp_path / "data", "noatime"):
        assert _guard.check(disk) == 1, "or it would be mounted a second time"
    # Nobody is sent to e2fsck, which might bring the old file system back from its copies.
    with disk.open("r+b") as raw:
        raw.write(bytes(4096))
    run("mkswap", "-q", disk)
    before = disk.read_bytes()
    capsys.readouterr()
    assert _guard.check(disk) == 1
    assert f"{disk} holds swap, not the system volume" in capsys.readouterr().err
    assert disk.read_bytes() == before


def test_a_superblock_that_can_not_be_read_is_no_others(
    disk: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run("mkfs.ext4", "-q", "-b", "1024", "-L", "kubewright", disk)
    with disk.open("r+b") as raw:
        raw.seek(1024)
        raw.write(bytes(1024))
    assert _guard.check(disk) == 1
    assert f"Run `e2fsck -f {disk}` on the node" in capsys.readouterr().err
    _command.SystemRunner()(["e2fsck", "-f", "-y", str(disk)])
    assert _guard.check(disk) == 0
