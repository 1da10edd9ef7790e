# SPDX-License-Identifier: Apache-2.0
"""The system volume on a device, and mounted: what it grows to, and what is refused of it."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from ansible_collections.kubewright.cluster.plugins.module_utils._base import commands
from ansible_collections.kubewright.cluster.plugins.module_utils._check import survey
from ansible_collections.kubewright.cluster.plugins.module_utils._cluster import rules
from ansible_collections.kubewright.cluster.plugins.module_utils._onnode import guard, verify
from ansible_collections.kubewright.cluster.plugins.module_utils._volume import ext4, plan
from loops import is_sound, loop_device, mounted, run
from making import RunModule
from volume_made import made

EveryKill = Callable[[Callable[[], object]], Iterator[int]]
SIZE = 32_000_000
CAP_SYS_RESOURCE = 24

pytestmark = pytest.mark.skipif(
    os.getuid() != 0 or not shutil.which("mkfs.ext4", path=commands.ADMIN_PATH),
    reason="loop devices belong to root",
)


@pytest.fixture
def small(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A directory, where a volume may be small."""
    monkeypatch.setattr(rules, "MIN_VOLUME_BYTES", SIZE // 2)
    return tmp_path


@pytest.fixture
def disk(small: Path) -> Iterator[Path]:
    """A blank device of `SIZE` bytes."""
    file = small / "disk"
    file.touch()
    os.truncate(file, SIZE)
    with loop_device(file) as device:
        yield device


def volume(run_module: RunModule, path: Path, point: Path, **more: Any) -> dict[str, Any]:
    kind = "block" if path.is_relative_to("/dev") else "local"
    own = {"path": str(path), "mount_point": str(point), "type": kind, "size_bytes": SIZE}
    return made(run_module, own, **more)


def may_grow_online() -> bool:
    """The kernel wants this of whoever grows a file system that is mounted."""
    (line,) = re.findall(r"CapEff:\s+(\w+)", Path("/proc/self/status").read_text())
    return bool(int(line, 16) >> CAP_SYS_RESOURCE & 1)


def test_a_device_is_made_once(run_module: RunModule, small: Path, disk: Path) -> None:
    point = small / "system"
    assert volume(run_module, disk, point, check=True)["steps"] == ["create"]
    assert run("wipefs", "--no-act", disk) == "", "check mode writes nothing"
    assert volume(run_module, disk, point)["steps"] == ["create"]
    superblock = plan.read_superblock(disk)
    assert superblock is not None
    assert superblock.label == "kubewright"
    assert is_sound(disk)
    assert volume(run_module, disk, point)["changed"] is False
    with mounted(disk, point, "noatime"):
        (point / "file").write_text("kept")
        assert volume(run_module, disk, point)["changed"] is False


def test_a_device_that_can_not_be_it(run_module: RunModule, small: Path, disk: Path) -> None:
    point = small / "system"
    missing = Path("/dev/kwtest-none")
    assert (
        f"The device {missing} of the system volume is missing. Attach it"
        in (volume(run_module, missing, point)["msg"])
    )
    assert "is not a block device. Give one" in volume(run_module, Path("/dev/null"), point)["msg"]
    told = volume(run_module, disk, point, size_bytes=SIZE + 1)["msg"]
    assert re.search(rf"has 3\d+ bytes; {SIZE + 1} required. Use a larger one", told)
    run("mkswap", "-q", "-L", "theirs", disk)
    before = disk.read_bytes()
    for check in (True, False):
        told = volume(run_module, disk, point, check=check)["msg"]
        assert f"{disk} contains swap labeled 'theirs'. It was not touched." in told
        assert f"`wipefs --all {disk}`" in told
    run("wipefs", "--quiet", "--all", disk)
    run("mkfs.ext4", "-q", "-L", "mine", disk)
    assert "an ext4 file system labeled 'mine'" in volume(run_module, disk, point)["msg"]
    with mounted(disk, small / "theirs", "noatime"):
        run("tune2fs", "-L", "kubewright~", disk)
        told = volume(run_module, disk, point)["msg"]
        assert "is in use: mounted, or used by RAID" in told
    assert len(before) == len(disk.read_bytes())


def test_preflight_says_it_before_anything_is_written(small: Path, disk: Path) -> None:
    document = {
        "path": str(disk),
        "type": "block",
        "mount_point": str(small / "system"),
        "size_bytes": SIZE,
        "sparse": False,
        "label": "kubewright",
    }
    assert survey.refused_volume(document, Path("/")) == {}
    run("mkswap", "-q", disk)
    refused = survey.refused_volume(document, Path("/"))
    assert refused["text"] == f"{disk} contains swap. It was not touched."
    assert "wipefs --all" in refused["remedy"]
    assert survey.refused_volume(None, Path("/")) == {}


def test_a_device_that_was_cut_is_made_anew(
    small: Path, disk: Path, every_kill: EveryKill, monkeypatch: pytest.MonkeyPatch
) -> None:
    runner = commands.SystemRunner()
    wanted = plan.Wanted(disk, SIZE, False, "kubewright", True, small / "system")

    def make() -> object:
        return ext4.apply(wanted, plan.steps(wanted, runner), runner)

    states = []
    for _point in every_kill(make):
        states.append(plan.steps(wanted, runner))
        run("wipefs", "--quiet", "--all", disk)
    # Once the label is complete, so is all the rest.
    assert states == [["create"], []]
    assert is_sound(disk)

    def killed(argv: Any, **_: Any) -> commands.Result:
        if argv[0] == "tune2fs":
            raise RuntimeError
        return runner(argv)

    run("wipefs", "--quiet", "--all", disk)
    with pytest.raises(RuntimeError):
        ext4.apply(wanted, ["create"], killed)
    assert plan.steps(wanted, runner) == ["create"]


def test_grows_with_its_device(run_module: RunModule, small: Path) -> None:
    file, point = small / "disk", small / "system"
    file.touch()
    os.truncate(file, SIZE)
    with loop_device(file) as device:
        volume(run_module, device, point)
    os.truncate(file, 3 * SIZE)
    with loop_device(file) as device:
        assert volume(run_module, device, point)["steps"] == ["grow"]
        assert volume(run_module, device, point)["changed"] is False
        assert is_sound(device)


def test_grows_while_it_is_mounted(run_module: RunModule, small: Path) -> None:
    file, point = small / "volume", small / "system"
    volume(run_module, file, point)
    with mounted(file, point):
        (point / "file").write_text("kept")
        result = volume(run_module, file, point, size_bytes=3 * SIZE)
        assert file.stat().st_size == 3 * SIZE
        if may_grow_online():
            assert result["steps"] == ["grow"]
            place = os.statvfs(point)
            assert place.f_blocks * place.f_frsize > 2 * SIZE
            assert volume(run_module, file, point, size_bytes=3 * SIZE)["changed"] is False
        else:
            assert "drain the node and reboot it" in result["msg"]
        told = volume(run_module, file, point)["msg"]
        assert f"has {3 * SIZE} bytes, but {SIZE} are set: a volume can't shrink" in told
        assert "Set that size or more (size_gb: 1)" in told, "GB is what cluster.yml has"
        assert (point / "file").read_text() == "kept"
    assert guard.main(["check", str(file)]) == 0, "what a boot does"
    assert volume(run_module, file, point, size_bytes=3 * SIZE)["changed"] is False
    assert is_sound(file)


def test_what_is_asked_of_the_kernel_to_grow(small: Path, monkeypatch: Any) -> None:
    """The same where the kernel does not refuse it."""
    file, point = small / "volume", small / "system"
    wanted = plan.Wanted(file, SIZE, True, "kubewright", mount_point=point)
    ext4.apply(wanted, ["create"], commands.SystemRunner())
    larger = plan.Wanted(file, 2 * SIZE, True, "kubewright", mount_point=point)
    asked: list[list[str]] = []

    def record(argv: Any, **_: Any) -> commands.Result:
        asked.append(list(argv))
        return commands.Result(tuple(argv), 0, "", "")

    with mounted(file, point):
        device = run("findmnt", "-n", "-o", "SOURCE", point).strip()
        assert ext4.apply(larger, ["grow"], record) == ["grow"]
    assert asked == [["losetup", "--set-capacity", device], ["resize2fs", device]]


def test_a_volume_does_not_move(run_module: RunModule, small: Path, disk: Path) -> None:
    file, point = small / "volume", small / "system"
    volume(run_module, file, point)
    with mounted(file, point):
        told = volume(run_module, disk, point)["msg"]
        assert f"{point} is on {file}, but should be on {disk}: a volume can't be moved" in told
        told = volume(run_module, small / "other", point)["msg"]
        assert f"{point} is on {file}" in told
    volume(run_module, disk, point)
    with mounted(disk, point, "noatime"):
        assert f"{point} is on {small}/disk" in volume(run_module, file, point)["msg"]


def test_it_can_not_be_relied_on(
    run_module: RunModule, small: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file, point = small / "volume", small / "system"
    assert "is not mounted; apply creates and mounts it" in guard.troubles(point)[0]
    volume(run_module, file, point)
    with mounted(file, point, "loop,noatime,errors=remount-ro"):
        assert guard.troubles(point) == []
        assert guard.main(["volume"], point) == 0
        assert list(point.iterdir()) == [point / "lost+found"], "its own trace is removed"
        with (point / "big").open("wb") as big:
            subprocess.run(["dd", "if=/dev/zero", "bs=1M"], stdout=big, stderr=subprocess.DEVNULL)
        assert [f"{point} is full" in one for one in guard.troubles(point)] == [True]
        assert guard.main(["volume"], point) == 0, "what runs from it does not write there"
        told = capsys.readouterr().err
        assert f"{point} is full. Remove" in told
        assert "`kubewright-maintenance rm FILE` on the node" in told
        assert f"du -xh {point}" in volume(run_module, file, point)["msg"]
        (point / "big").unlink()
        assert guard.troubles(point) == []


@pytest.fixture
def unit(small: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[Path], None]:
    """Writes the mount's unit, as on a machine that has had a volume."""
    monkeypatch.setattr(guard, "UNIT", small / "unit")
    return lambda place: (small / "unit").write_text(f"[Mount]\nWhat={place}\nWhere=x\n") and None


def test_a_volume_that_was_there_is_not_made_anew(
    run_module: RunModule, small: Path, disk: Path, unit: Callable[[Path], None]
) -> None:
    file, point = small / "volume", small / "system"
    unit(file)
    told = f"The device {file} of the system volume is missing. Attach it there and apply."
    assert told in volume(run_module, file, point)["msg"]
    assert told in guard.troubles(point)[0]
    assert not file.exists()
    unit(disk)
    for check in (True, False):
        told = volume(run_module, disk, point, check=check)["msg"]
        assert f"{disk} was the system volume, but is blank now." in told
        assert "reset the node and apply" in told
    assert disk.read_bytes().strip(b"\0") == b""
    assert volume(run_module, file, point)["steps"] == ["create"], "it is no other's business"


def test_why_it_is_not_mounted(
    small: Path,
    disk: Path,
    unit: Callable[[Path], None],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    point = small / "system"
    unit(disk)
    status = 0

    def run_it(command: list[str], **_: Any) -> subprocess.CompletedProcess[bytes]:
        if command[0] in ("dumpe2fs", "blkid"):
            return subprocess.CompletedProcess(command, 1, b"", b"")
        assert command == ["systemctl", "is-failed", "--quiet", "kubewright-volume-check.service"]
        return subprocess.CompletedProcess(command, status, b"", b"")

    monkeypatch.setattr(guard, "_run", run_it)
    (told,) = guard.report(point)
    assert told.startswith(
        f"{disk} is damaged, and can't be repaired without decisions. Run `e2fsck -f"
    )
    status = 1
    (told,) = guard.report(point)
    assert told.startswith(f"{point} is not mounted, although {disk} exists. Apply mounts it")


def test_the_report_knows_the_verdict_on_the_active_image(
    run_module: RunModule, small: Path
) -> None:
    file, point, digest = small / "volume", small / "system", "a" * 64
    volume(run_module, file, point)
    with mounted(file, point):
        (point / "active").mkdir()
        (point / "active/image.squashfs").symlink_to(f"{digest}.squashfs")
        verify.write_verdict(small / "verdict.json", verify.judged(digest, digest))
        assert guard.report(point) == []
        verify.write_verdict(small / "verdict.json", verify.judged(digest, "other"))
        (told,) = guard.report(point)
        assert told.startswith(
            f"The active system image {digest[:12]} is damaged on the disk. Apply"
        )
        verify.write_verdict(small / "verdict.json", verify.judged("b" * 64, "other"))
        assert guard.report(point) == [], "it is not active any more"


def test_read_only_after_an_error(
    run_module: RunModule, small: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The kernel meets a directory that it can't read, as on a failing disk."""
    file, point = small / "volume", small / "system"
    volume(run_module, file, point)
    with mounted(file, point):
        (point / "directory").mkdir()
    run("debugfs", "-w", "-R", "clri directory", file)
    with mounted(file, point, "loop,noatime,errors=remount-ro"):
        with pytest.raises(OSError):
            list((point / "directory").iterdir())
        (trouble,) = guard.troubles(point)
        assert f"{point} is read-only, because of disk errors" in trouble
        assert "Drain this node and reboot it" in trouble
        for check in (True, False):
            assert volume(run_module, file, point, check=check)["msg"] == f"role: {trouble}"
        assert guard.main(["volume"], point) == 1
        assert capsys.readouterr().err == f"{trouble}\n"
        assert "can't be written" in guard.write_troubles(point)[0]
        # It stays as it is while it is in use, whoever asks.
        assert guard.main(["check", str(file)]) == 0
        assert "is in use" in capsys.readouterr().out
    # What a boot does.
    assert guard.main(["check", str(file)]) == 0
    assert is_sound(file)
    with mounted(file, point):
        assert guard.troubles(point) == []


def test_the_check_before_the_mount(
    small: Path, run_module: RunModule, capsys: pytest.CaptureFixture[str]
) -> None:
    file, point = small / "volume", small / "system"
    volume(run_module, file, point)
    with mounted(file, point):
        (point / "file").write_text("of a process that runs")
        with (point / "file").open():
            run("umount", "--lazy", point)
            assert guard.mount_at(point) is None
            assert guard.is_used(file), "hidden, and yet mounted"
            assert guard.main(["check", str(file)]) == 0
            assert "is in use" in capsys.readouterr().out
            run("mount", "-o", "loop,noatime", file, point)
    with file.open("r+b") as raw:
        raw.seek(4096)
        raw.write(b"\xa5" * 4096 * 64)
    assert guard.main(["check", str(file)]) == 1
    assert f"Run `e2fsck -f {file}` on the node" in capsys.readouterr().err
    assert guard.main(["check"]) == 2
    assert guard.main(["check", str(small / "none")]) == 1
    assert f"The device {small}/none of the system volume is missing" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("own", "beneath", "trouble"),
    [
        ("rw,noatime", "rw,errors=remount-ro", ""),
        ("rw", "ro", "is read-only"),
        ("ro", "rw", ""),  # sealed: the file system below takes writes
        ("rw", "rw,emergency_ro", "is read-only"),
        ("rw", "rw,shutdown", "was shut down"),
    ],
)
def test_what_the_kernel_says_of_a_mount(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, own: str, beneath: str, trouble: str
) -> None:
    point = tmp_path / "with space"
    point.mkdir()
    escaped = str(point).replace(" ", "\\040")
    info = tmp_path / "mountinfo"
    info.write_text(
        f"30 1 8:1 / / rw - ext4 /dev/sda1 ro\n31 30 7:99 / {escaped} {own} shared:5 master:1 - "
        f"ext4 /dev/loop99 {beneath}\n"
    )
    mount = guard.mount_at(point, info)
    assert mount is not None
    assert mount.device == os.makedev(7, 99)
    monkeypatch.setattr(guard, "mount_at", lambda _point: mount)
    assert [trouble in one for one in guard.troubles(point)] == ([True] if trouble else [])
