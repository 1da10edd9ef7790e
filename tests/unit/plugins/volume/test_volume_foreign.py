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
from ansible_collections.kubewright.cluster.plugins.module_utils._base import commands
from ansible_collections.kubewright.cluster.plugins.module_utils._check import survey
from ansible_collections.kubewright.cluster.plugins.module_utils._cluster import rules
from ansible_collections.kubewright.cluster.plugins.module_utils._kube import memberships
from ansible_collections.kubewright.cluster.plugins.module_utils._onnode import guard
from ansible_collections.kubewright.cluster.plugins.module_utils._volume import ext4, plan
from loops import loop_device, mounted, run
from making import RunModule
from volume_made import made

SIZE = 32_000_000

pytestmark = pytest.mark.skipif(
    os.getuid() != 0 or not shutil.which("mkfs.ext4", path=commands.ADMIN_PATH),
    reason="loop devices belong to root",
)


@pytest.fixture
def disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A blank device of `SIZE` bytes, on a machine that was never a node."""
    monkeypatch.setattr(guard, "UNIT", tmp_path / "unit")
    monkeypatch.setattr(memberships, "RECORD", tmp_path / "kubeadm.json")
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
    assert guard.check(disk) == 1
    told = capsys.readouterr().err
    assert f"{disk} contains a file system labeled 'theirs', not the system volume" in told
    assert "`ls -l /dev/disk/by-id`" in told
    assert disk.read_bytes() == before
    (tmp_path / "unit").write_text(f"What={disk}\n")
    real = guard._run

    def failed(argv: Any, **more: Any) -> Any:
        done: Any = subprocess.CompletedProcess(argv, 0)
        return done if argv[0] == "systemctl" else real(argv, **more)

    monkeypatch.setattr(guard, "_run", failed)
    assert [f"{one}\n" for one in guard.report(tmp_path / "system")] == [told]
    # Nobody is sent to e2fsck, which might bring the old file system back from its copies.
    with disk.open("r+b") as raw:
        raw.write(bytes(4096))
    run("mkswap", "-q", disk)
    before = disk.read_bytes()
    capsys.readouterr()
    assert guard.check(disk) == 1
    assert f"{disk} contains swap, not the system volume" in capsys.readouterr().err
    assert disk.read_bytes() == before


def test_what_is_not_ours_and_in_use_is_not_mounted_once_more(disk: Path, tmp_path: Path) -> None:
    run("mkfs.ext4", "-q", "-L", "theirs", disk)
    with mounted(disk, tmp_path / "data", "noatime"):
        assert guard.check(disk) == 1


def test_a_superblock_that_can_not_be_read_is_no_others(
    disk: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run("mkfs.ext4", "-q", "-b", "1024", "-L", "kubewright", disk)
    with disk.open("r+b") as raw:
        raw.seek(1024)
        raw.write(bytes(1024))
    assert guard.check(disk) == 1
    assert f"Run `e2fsck -f {disk}` on the node" in capsys.readouterr().err
    commands.SystemRunner()(["e2fsck", "-f", "-y", str(disk)])
    assert guard.check(disk) == 0


def document(disk: Path, tmp_path: Path) -> dict[str, Any]:
    """What the role wants of the volume."""
    return {
        "path": str(disk),
        "type": "block",
        "mount_point": str(tmp_path / "system"),
        "size_bytes": SIZE // 2,
        "sparse": False,
        "label": guard.LABEL,
    }


def make(disk: Path, tmp_path: Path, *files: str) -> None:
    """A volume with these files, as a node leaves it."""
    wanted = plan.parse(document(disk, tmp_path))
    ext4.apply(wanted, ["create"], commands.SystemRunner())
    if files:
        with mounted(disk, tmp_path / "system", "noatime") as point:
            for file in files:
                (point / file).parent.mkdir(parents=True, exist_ok=True)
                (point / file).write_text("spec:\n  - etcd\n  - --name=demo-cp-1\n  - --x=y\n")


@pytest.mark.parametrize(
    ("file", "whose"),
    [
        ("kubernetes/manifests/etcd.yaml", "an earlier node (demo-cp-1), but"),
        ("kubernetes/pki/ca.crt", "an earlier node, but"),
        ("generations/1/record.json", "an earlier node, but"),
    ],
)
def test_an_earlier_nodes_volume_is_not_taken_over(
    run_module: RunModule,
    disk: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    file: str,
    whose: str,
) -> None:
    """The node was installed anew, and its device has outlived that."""
    monkeypatch.setattr(rules, "MIN_VOLUME_BYTES", SIZE // 2)
    make(disk, tmp_path, file)
    wanted = document(disk, tmp_path)
    refused = survey.refused_volume(wanted, Path("/"))
    assert f"{disk} contains the system volume of {whose} this machine" in refused["text"]
    assert f"`wipefs --all {disk}`" in refused["remedy"]
    for check in (True, False):
        told = made(run_module, wanted, check=check)["msg"]
        assert told == f"role: {refused['text']} {refused['remedy']}"
    with mounted(disk, tmp_path / "system", "noatime") as point:
        assert (point / file).exists()
        assert survey.refused_volume(wanted, Path("/")) == {}, "in use as the volume"


def test_a_volume_that_can_not_be_read_is_not_taken_over(disk: Path, tmp_path: Path) -> None:
    make(disk, tmp_path)
    run("debugfs", "-w", "-R", "clri /", disk)
    assert "an earlier node" in survey.refused_volume(document(disk, tmp_path), Path("/"))["text"]


def test_a_run_that_was_cut_goes_on_with_its_volume(disk: Path, tmp_path: Path) -> None:
    wanted = document(disk, tmp_path)
    make(disk, tmp_path)
    assert survey.refused_volume(wanted, Path("/")) == {}, "before the mount's unit was written"
    # From then on the volume is mounted, and written to. The name of the device may be another.
    name = tmp_path / "by-id"
    name.symlink_to(disk)
    (tmp_path / "unit").write_text(f"What={name}\n")
    make(disk, tmp_path, "kubernetes/pki/ca.crt", "generations/1/record.json")
    assert survey.refused_volume(wanted, Path("/")) == {}
    # It has joined, and gets its device by another name after a boot.
    (tmp_path / "unit").write_text("What=/dev/kwtest-none\n")
    (tmp_path / "kubeadm.json").write_text("{}")
    assert survey.refused_volume(wanted, Path("/")) == {}
    (tmp_path / "kubeadm.json").unlink()
    assert survey.refused_volume(wanted, Path("/")) != {}
