# SPDX-License-Identifier: Apache-2.0
"""A flipped bit is found wherever it is, before activation and by the node itself; real loops."""

from __future__ import annotations

import datetime
import hashlib
import json
import os
import random
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from ansible_collections.kubewright.cluster.plugins.module_utils._base import commands
from ansible_collections.kubewright.cluster.plugins.module_utils._fence import fencing
from ansible_collections.kubewright.cluster.plugins.module_utils._image import (
    bringing,
    images,
    usage,
)
from ansible_collections.kubewright.cluster.plugins.module_utils._onnode import guard, verify
from ansible_collections.kubewright.cluster.plugins.module_utils._volume import ext4, plan
from loops import bring_to_disk, mounted, run
from system_images import asked

RunModule = Callable[..., dict[str, Any]]
SIZE = 128_000_000  # what has to stay free, and some
CONTENT = random.Random(1).randbytes(1_000_003)
DIGEST = hashlib.sha256(CONTENT).hexdigest()
OTHER = random.Random(2).randbytes(700_001)
OTHER_DIGEST = hashlib.sha256(OTHER).hexdigest()
FLIPS = 100

pytestmark = pytest.mark.skipif(
    os.getuid() != 0 or not shutil.which("mkfs.ext4", path=commands.ADMIN_PATH),
    reason="loop devices belong to root",
)


@pytest.fixture
def file(tmp_path: Path) -> Path:
    """A volume that is not mounted."""
    path = tmp_path / "volume"
    wanted = plan.Wanted(path, SIZE, True, "kubewright", mount_point=tmp_path / "system")
    ext4.apply(wanted, ["create"], commands.SystemRunner())
    return path


@pytest.fixture
def store(file: Path, tmp_path: Path, any_image: None) -> Iterator[images.Store]:
    """Its store: `CONTENT` is active, and `OTHER` lies there."""
    with mounted(file, tmp_path / "system") as point:
        store = images.Store(point)
        bring(store, OTHER)
        bring(store, CONTENT)
        yield store


def converge(store: images.Store, content: bytes, **more: Any) -> dict[str, Any]:
    """One call of the module for the image with this *content*."""
    return bringing.converge(store, {**asked(content), **more}, False, commands.SystemRunner())


def bring(store: images.Store, content: bytes) -> dict[str, Any]:
    """What the action plugin does: ask, transfer, ask again."""
    result = converge(store, content)
    if "transfer" in result:
        Path(result["transfer"]).write_bytes(content)
        result = converge(store, content, arrived=result["transfer"])
    return result


def verified(store: images.Store) -> verify.Verdict:
    verdict = verify.verify(store.volume, store.volume.parent / verify.VERDICT)
    assert verdict is not None
    return verdict


def flips(length: int) -> list[tuple[int, int]]:
    """Random places, the same in each run: byte and bit."""
    chance = random.Random(37)
    return [(chance.randrange(length), chance.randrange(8)) for _ in range(FLIPS)]


def flip(path: Path, position: int, bit: int) -> None:
    with path.open("r+b") as raw:
        raw.seek(position)
        (byte,) = raw.read(1)
        raw.seek(position)
        raw.write(bytes([byte ^ 1 << bit]))


def test_an_idle_image_is_found_damaged_before_it_is_activated(store: images.Store) -> None:
    image = store.image(OTHER_DIGEST)
    found = 0
    for position, bit in flips(len(OTHER)):
        flip(image, position, bit)
        result = converge(store, OTHER)
        found += "transfer" in result
        Path(result.get("transfer", image.parent / "none")).unlink(missing_ok=True)
        active = store.active()
        assert active is not None and active.digest == DIGEST, (position, bit)
        flip(image, position, bit)
    assert found == FLIPS
    assert converge(store, OTHER)["activated"] is True, "sound again"


def test_the_active_image_is_found_damaged_on_the_disk(file: Path, store: images.Store) -> None:
    """The bits are flipped beneath the file system, which has the image in memory as it was."""
    bring_to_disk(store.volume)
    lies = file.read_bytes()
    blocks = [lies.index(CONTENT[start : start + 4096]) for start in range(0, len(CONTENT), 4096)]
    found = 0
    for position, bit in flips(len(CONTENT)):
        assert (store.volume / "active" / "image.squashfs").read_bytes() == CONTENT
        place = blocks[position // 4096] + position % 4096
        flip(file, place, bit)
        verdict = verified(store)
        found += verdict.image == DIGEST and not verdict.sound
        flip(file, place, bit)
    assert found == FLIPS
    assert verified(store).sound


def test_nothing_of_it_stays_in_memory(file: Path, store: images.Store) -> None:
    image = store.image(DIGEST)
    image.read_bytes()
    assert cached(image) > 0
    assert cached(file) > 0, "what the loop device has read of its file"
    assert verify.digest_of(image) == DIGEST
    assert cached(image) == 0
    assert cached(file) == 0


def cached(path: Path) -> int:
    return int(run("fincore", "--bytes", "--noheadings", "--output", "RES", path))


def test_a_damaged_active_image_is_replaced_beside_the_old_one(store: images.Store) -> None:
    image = store.image(DIGEST)
    flip(image, 5, 1)
    assert converge(store, CONTENT)["changed"] is False, "nobody has looked yet"
    assert verified(store).sound is False
    with image.open("rb") as running:
        inode = image.stat().st_ino
        without = {"size": None}
        with pytest.raises(Exception, match="no intact image"):
            converge(store, CONTENT, **without)
        assert image.stat().st_ino == inode, "it is better than none"
        result = bring(store, CONTENT)
        assert (result["installed"], result["activated"], result["generation"]) == (True, True, 3)
        assert image.stat().st_ino != inode
        assert running.read()[5] == CONTENT[5] ^ 2, "who runs from it keeps what it had"
    assert image.read_bytes() == CONTENT
    verdict = store.verdict(DIGEST)
    assert verdict is not None and verdict.sound and verified(store).sound
    assert bring(store, CONTENT)["changed"] is False
    assert OTHER_DIGEST not in usage.surplus(store)
    target = store.roll_back()
    assert target is not None and target.digest == OTHER_DIGEST, "the way back is the same"


def test_a_replacement_that_was_cut_is_finished(store: images.Store) -> None:
    flip(store.image(DIGEST), 5, 1)
    verified(store)
    transfer = converge(store, CONTENT)["transfer"]
    Path(transfer).write_bytes(CONTENT)
    store.install(DIGEST, Path(transfer), len(CONTENT))  # and there it was killed
    # The image is sound by now; what is mounted is still the old one.
    result = converge(store, CONTENT)
    assert (result["installed"], result["activated"], result["generation"]) == (False, True, 3)
    assert converge(store, CONTENT)["changed"] is False


def test_the_prediction(run_module: RunModule, store: images.Store) -> None:
    flip(store.image(DIGEST), 5, 1)
    verified(store)
    result = run_module("system_image", check=True, digest=DIGEST, volume=str(store.volume))
    assert (result["changed"], result["installed"], result["activated"]) == (True, True, True)
    active = store.active()
    assert active is not None and active.generation == 2


def test_an_image_that_can_not_be_read(
    store: images.Store, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def failing(_path: Path) -> str:
        raise OSError(5, "Input/output error")

    monkeypatch.setattr(verify, "digest_of", failing)
    assert verify.main([], store.volume) == 1
    assert f"image {DIGEST}: reading it failed: Input/output error" in capsys.readouterr().out
    verdict = store.verdict(DIGEST)
    assert verdict is not None and not verdict.sound
    monkeypatch.undo()
    assert verify.main([], store.volume) == 0
    (store.volume / "active").unlink()
    assert verify.main([], store.volume) == 1
    assert "leads to no image" in capsys.readouterr().err


def test_an_image_that_is_replaced_meanwhile(
    store: images.Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    image, real = store.image(DIGEST), verify.digest_of
    flip(image, 5, 1)
    calls = []

    def replaced(path: Path) -> str:
        found = real(path)
        if not calls:
            calls.append(path)
            beside = image.with_name("beside")
            beside.write_bytes(CONTENT)
            beside.rename(image)
        return found

    monkeypatch.setattr(verify, "digest_of", replaced)
    assert verified(store).sound


@pytest.mark.parametrize("text", ["", "{", "[]", "{}", '{"image": "a"}'])
def test_a_verdict_that_was_spoilt_is_none(tmp_path: Path, text: str) -> None:
    path = tmp_path / verify.VERDICT
    assert verify.read_verdict(path) is None
    path.write_text(text)
    assert verify.read_verdict(path) is None
    verdict = verify.judged("a", "b")
    path.write_text(json.dumps({**vars(verdict), "at": "yesterday"}))
    assert verify.read_verdict(path) is None
    verify.write_verdict(path, verdict)
    assert verify.read_verdict(path) == verdict
    assert list(tmp_path.iterdir()) == [path]
    assert 0 <= verdict.age() < 60
    old = replace(
        verdict,
        at=(datetime.datetime.now(datetime.UTC) - datetime.timedelta(days=4)).isoformat(),
    )
    assert old.age() > 3 * 86400


@pytest.mark.parametrize(
    ("script", "usage"),
    [(guard, " check PATH | volume"), (verify, "")],
)
def test_it_runs_on_a_node_without_the_collection(
    tmp_path: Path, script: ModuleType, usage: str
) -> None:
    copy = shutil.copy(str(script.__file__), tmp_path / "script.py")
    words = [sys.executable, "-I", copy, "nonsense"]
    done = subprocess.run(words, capture_output=True, text=True)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr == f"usage: {copy}{usage}\n"


def test_two_installs_at_once(
    run_module: RunModule, store: images.Store, node: Path, tmp_path: Path
) -> None:
    """The second waits for the first, and says who that is."""
    holder = subprocess.Popen(
        [sys.executable, "-c", HOLD, str(fencing.LOCK_DIRECTORY / "node.lock")],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    )
    try:
        assert holder.stdout is not None
        assert holder.stdout.readline() == b"held\n"
        arguments = {"digest": OTHER_DIGEST, "volume": str(store.volume)}
        result = run_module("system_image", **arguments, lock_timeout=1)
        assert f"process {holder.pid} (" in result["msg"]
        assert "Another run is working on this node" in result["msg"]
        active = store.active()
        assert active is not None and active.digest == DIGEST
    finally:
        holder.communicate(b"")
    assert run_module("system_image", **arguments, lock_timeout=1)["activated"] is True


HOLD = """
import fcntl, os, sys
os.makedirs(os.path.dirname(sys.argv[1]), exist_ok=True)
file = open(sys.argv[1], "w")
fcntl.flock(file, fcntl.LOCK_EX)
print("held", flush=True)
sys.stdin.read()
"""
