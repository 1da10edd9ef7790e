# SPDX-License-Identifier: Apache-2.0
"""The backing file of the system volume, with the real mkfs."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from ansible_collections.kubewright.cluster.plugins.module_utils import _command, _volume

RunModule = Callable[..., dict[str, Any]]
EveryKill = Callable[[Callable[[], object]], Iterator[int]]
SIZE = 32_000_000
PATH = os.environ.get("PATH", "") + ":" + _command.ADMIN_PATH

pytestmark = pytest.mark.skipif(
    not all(shutil.which(tool, path=PATH) for tool in ("mkfs.ext4", "blkid", "resize2fs")),
    reason="needs e2fsprogs and util-linux",
)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "lib" / "volume.ext4"


def volume(run_module: RunModule, path: Path, **more: Any) -> dict[str, Any]:
    return run_module("volume", **{"path": str(path), "size_bytes": SIZE, "sparse": True, **more})


def is_sound(path: Path) -> bool:
    command = ["e2fsck", "-f", "-n", str(path)]
    return subprocess.run(command, env={"PATH": PATH}, capture_output=True).returncode == 0


def test_made_once(run_module: RunModule, path: Path) -> None:
    predicted = volume(run_module, path, check=True)
    assert (predicted["changed"], path.exists()) == (True, False)
    assert volume(run_module, path)["steps"] == ["create"]
    assert path.stat().st_size == SIZE
    assert path.stat().st_mode & 0o777 == 0o600
    assert path.stat().st_blocks * 512 < SIZE / 2
    assert is_sound(path)
    superblock = _volume.read_superblock(path)
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
    superblock = _volume.read_superblock(path)
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
    assert "does not shrink" in result["msg"]
    assert path.stat().st_size == SIZE


def test_does_not_grow_in_use(path: Path, fake_runner: Any, run_module: RunModule) -> None:
    volume(run_module, path)
    run = fake_runner(lambda argv: (0, "/dev/loop0: []\n" if argv[0] == "losetup" else "", ""))
    wanted = _volume.Wanted(path, 2 * SIZE, True, "kubewright")
    with pytest.raises(Exception, match="only while it is not mounted"):
        _volume.apply(wanted, _volume.steps(wanted, run), run)
    assert path.stat().st_size == SIZE


def test_other_content_is_refused(run_module: RunModule, path: Path) -> None:
    path.parent.mkdir()
    path.write_bytes(bytes(SIZE - 5) + b"diary")
    assert "data of an unknown kind" in volume(run_module, path)["msg"]
    subprocess.run(["mkfs.ext4", "-q", "-F", "-L", "mine", path], check=True, env={"PATH": PATH})
    assert "labelled 'mine'" in volume(run_module, path)["msg"]
    path.write_bytes(b"")
    os.truncate(path, SIZE)
    subprocess.run(["mkswap", "-q", path], env={"PATH": PATH}, check=True)
    assert "TYPE=swap" in volume(run_module, path, check=True)["msg"]
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
    assert "are free there. Make room" in result["msg"]
    assert list(path.parent.iterdir()) == []


def test_killed_creation_leaves_nothing_under_the_name(path: Path, every_kill: EveryKill) -> None:
    run = _command.SystemRunner()
    wanted = _volume.Wanted(path, SIZE, False, "kubewright")
    for _point in every_kill(lambda: _volume.apply(wanted, _volume.steps(wanted, run), run)):
        if path.exists():
            assert _volume.steps(wanted, run) == []
            path.unlink()
    assert _volume.steps(wanted, run) == []
    assert [entry.name for entry in path.parent.iterdir()] == [path.name]


def test_label_fits(run_module: RunModule, path: Path) -> None:
    assert "longer than ext4's 16" in volume(run_module, path, label="x" * 17)["msg"]
