# SPDX-License-Identifier: Apache-2.0
"""The system volume in a file that is not mounted, with the real mkfs."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from ansible_collections.kubewright.cluster.plugins.module_utils._base import commands
from ansible_collections.kubewright.cluster.plugins.module_utils._cluster import rules
from ansible_collections.kubewright.cluster.plugins.module_utils._volume import ext4, plan
from loops import is_sound, run
from making import RunModule
from volume_made import made

EveryKill = Callable[[Callable[[], object]], Iterator[int]]
SIZE = 32_000_000
PATH = os.environ.get("PATH", "") + ":" + commands.ADMIN_PATH

pytestmark = pytest.mark.skipif(
    not all(shutil.which(tool, path=PATH) for tool in ("mkfs.ext4", "blkid", "resize2fs")),
    reason="needs e2fsprogs and util-linux",
)


@pytest.fixture
def path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where a volume may be small."""
    monkeypatch.setattr(rules, "MIN_VOLUME_BYTES", SIZE // 2)
    return tmp_path / "lib" / "volume.ext4"


def volume(run_module: RunModule, path: Path, **more: Any) -> dict[str, Any]:
    own = {"path": str(path), "mount_point": str(path.parent / "system")}
    return made(run_module, {**own, "size_bytes": SIZE}, **more)


def test_20_gb_are_the_least(run_module: RunModule, tmp_path: Path) -> None:
    own = {"path": str(tmp_path / "volume"), "mount_point": str(tmp_path / "system")}
    result = made(run_module, {**own, "size_bytes": 20 * 10**9 - 1})
    assert "19999999999" in result["msg"]
    assert "at least 20000000000 bytes" in result["msg"]
    assert list(tmp_path.glob("volume*")) == []


def test_made_once(run_module: RunModule, path: Path) -> None:
    predicted = volume(run_module, path, check=True)
    assert (predicted["changed"], path.exists()) == (True, False)
    assert volume(run_module, path)["steps"] == ["create"]
    assert path.stat().st_size == SIZE
    assert path.stat().st_mode & 0o777 == 0o600
    assert path.stat().st_blocks * 512 < SIZE / 2
    assert is_sound(path)
    superblock = plan.read_superblock(path)
    assert superblock is not None
    assert superblock.label == "kubewright"
    assert SIZE - 4096 <= superblock.size <= SIZE
    assert volume(run_module, path)["changed"] is False


def test_set_aside_and_kept_so(run_module: RunModule, path: Path) -> None:
    volume(run_module, path, sparse=False)
    assert path.stat().st_blocks * 512 >= SIZE, "mkfs must not give the space back"
    assert volume(run_module, path, sparse=False)["changed"] is False
    sparse = path.with_name("sparse")
    volume(run_module, sparse)
    assert volume(run_module, sparse, sparse=False, check=True)["steps"] == ["preallocate"]
    assert volume(run_module, sparse, sparse=False)["steps"] == ["preallocate"]
    assert sparse.stat().st_blocks * 512 >= SIZE
    assert is_sound(sparse)


def test_grows_offline(run_module: RunModule, path: Path) -> None:
    volume(run_module, path)
    assert volume(run_module, path, size_bytes=2 * SIZE)["steps"] == ["grow"]
    superblock = plan.read_superblock(path)
    assert superblock is not None
    assert 2 * SIZE - 4096 <= superblock.size <= 2 * SIZE
    assert is_sound(path)
    assert volume(run_module, path, size_bytes=2 * SIZE)["changed"] is False


def test_growth_that_was_cut_goes_on(run_module: RunModule, path: Path) -> None:
    volume(run_module, path)
    os.truncate(path, 2 * SIZE)  # as far as a killed run came
    assert volume(run_module, path, size_bytes=2 * SIZE)["steps"] == ["grow"]
    assert is_sound(path)


def test_does_not_shrink(run_module: RunModule, path: Path) -> None:
    volume(run_module, path)
    result = volume(run_module, path, size_bytes=SIZE // 2)
    assert "can't shrink" in result["msg"]
    assert path.stat().st_size == SIZE


def test_other_content_is_refused(run_module: RunModule, path: Path) -> None:
    path.parent.mkdir()
    path.write_bytes(bytes(SIZE - 5) + b"diary")
    assert "unknown data" in volume(run_module, path)["msg"]
    run("mkfs.ext4", "-q", "-F", "-L", "mine", path)
    assert "labeled 'mine'" in volume(run_module, path)["msg"]
    path.write_bytes(b"")
    os.truncate(path, SIZE)
    run("mkswap", "-q", "-L", "theirs", path)
    refused = volume(run_module, path, check=True)["msg"]
    assert "contains swap labeled 'theirs'. It was not touched. Move it away" in refused
    path.unlink()
    path.mkdir()
    assert "not a regular file" in volume(run_module, path)["msg"]


def test_blank_file_is_used(run_module: RunModule, path: Path) -> None:
    path.parent.mkdir()
    path.write_bytes(bytes(1 << 20))
    os.truncate(path, 2 * SIZE)
    assert volume(run_module, path)["steps"] == ["create"]
    assert path.stat().st_size == SIZE
    assert is_sound(path)


def test_full_disk_is_explained(run_module: RunModule, path: Path) -> None:
    result = volume(run_module, path, sparse=False, size_bytes=1 << 60)
    assert "are free there. Free some space" in result["msg"]
    assert list(path.parent.iterdir()) == []


def test_full_disk_leaves_a_volume_as_it_was(run_module: RunModule, path: Path) -> None:
    volume(run_module, path, sparse=False)
    before = path.stat()
    assert "Free some space" in volume(run_module, path, sparse=False, size_bytes=1 << 60)["msg"]
    assert (path.stat().st_size, path.stat().st_blocks) == (before.st_size, before.st_blocks)
    assert is_sound(path)


def test_damage_is_repaired_or_told(run_module: RunModule, path: Path) -> None:
    volume(run_module, path)
    whole = path.read_bytes()
    run("debugfs", "-w", "-R", "set_super_value state 2", path)  # as the kernel marks an error
    assert volume(run_module, path)["steps"] == ["repair"]
    assert is_sound(path)
    # The root directory's inode and both of the tables that lead to it.
    with path.open("r+b") as file:
        file.seek(4096)
        file.write(b"\xa5" * 4096 * 64)
    assert not is_sound(path)
    result = volume(run_module, path)
    assert "is damaged, and can't be repaired without decisions" in result["msg"]
    assert f"e2fsck -f {path}" in result["msg"]
    assert len(path.read_bytes()) == len(whole)


def test_killed_creation_leaves_nothing_under_the_name(path: Path, every_kill: EveryKill) -> None:
    runner = commands.SystemRunner()
    wanted = plan.Wanted(path, SIZE, False, "kubewright", mount_point=path.parent / "system")

    def make() -> object:
        return ext4.apply(wanted, plan.steps(wanted, runner), runner)

    for _point in every_kill(make):
        if path.exists():
            assert plan.steps(wanted, runner) == []
            path.unlink()
    assert plan.steps(wanted, runner) == []
    assert [entry.name for entry in path.parent.iterdir()] == [path.name]


def test_label_fits(run_module: RunModule, path: Path) -> None:
    assert "longer than ext4's limit of 15 bytes" in volume(run_module, path, label="x" * 16)["msg"]
