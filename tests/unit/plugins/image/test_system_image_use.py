# SPDX-License-Identifier: Apache-2.0
"""Rollback, collection and the list: real images, of which some are mounted and run."""

from __future__ import annotations

import contextlib
import os
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from ansible_collections.kubewright.cluster.plugins.module_utils._image import images, usage
from ansible_collections.kubewright.cluster.plugins.module_utils._onnode import trial
from images import HERE, Made, make

RunModule = Callable[..., dict[str, Any]]
EveryKill = Callable[[Callable[[], object]], Iterator[int]]

pytestmark = pytest.mark.skipif(os.getuid() != 0, reason="mounts, and images belong to root")


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> list[Made]:
    place = tmp_path_factory.mktemp("kw-images")
    return [make(place, f"kw-{number}", revision=number) for number in range(4)]


@pytest.fixture
def volume(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A directory that counts as the mounted volume."""
    path = tmp_path / "system"
    path.mkdir()
    monkeypatch.setattr(images.Store, "is_mounted", lambda store: store.volume == path)
    return path


@pytest.fixture
def change(run_module: RunModule, volume: Path) -> RunModule:
    def call(state: str = "active", image: Made | None = None, **more: Any) -> dict[str, Any]:
        arguments = {"state": state, "volume": str(volume), **more}
        if image is None:
            return run_module("system_image", **arguments)
        arguments |= {"digest": image.digest, "size": image.path.stat().st_size}
        result = run_module("system_image", **arguments)
        if "transfer" in result:
            Path(result["transfer"]).write_bytes(image.content)
            result = run_module("system_image", **arguments, arrived=result["transfer"])
        (volume.parent / trial.ORDER).unlink(missing_ok=True)  # it was tried, and stayed
        return result

    return call


@pytest.fixture
def uses(run_module: RunModule, volume: Path, made: list[Made]) -> Callable[[], dict[int, str]]:
    """How the images are used, in words, by their number; the order is the list's."""

    def look() -> dict[int, str]:
        listed = run_module("system_image_info", volume=str(volume), manifests=False)["images"]
        numbers = {image.digest: number for number, image in enumerate(made)}
        kinds = ("active", "previous", "staged", "bad", "in_use")
        return {
            numbers[one["digest"]]: " ".join(kind for kind in kinds if one[kind]) for one in listed
        }

    return look


@contextlib.contextmanager
def running_from(image: Path, place: Path) -> Iterator[subprocess.Popen[bytes]]:
    """A program that runs from *image*, whose mount is then detached as a unit's lazy one is."""
    place.mkdir()
    subprocess.run(["mount", "-t", "squashfs", "-o", "loop,ro", image, place], check=True)
    try:
        process = subprocess.Popen([place / "bin/nap", "600"])
    finally:
        subprocess.run(["umount", "--lazy", place], check=True)
    try:
        yield process
    finally:
        process.kill()
        process.wait()


def test_rollback_is_done_once(
    change: RunModule, volume: Path, made: list[Made], uses: Callable[[], dict[int, str]]
) -> None:
    for image in made[:3]:
        change(image=image)
    first = (volume / "generations/2/generation.json").read_bytes()
    predicted = change("rolled_back", check=True)
    assert (predicted["changed"], predicted["digest"]) == (True, made[1].digest)
    assert (volume / "active").readlink() == Path("generations/3")
    assert images.Store(volume).verdict(made[1].digest) is None
    back = change("rolled_back")
    assert (back["activated"], back["generation"]) == (True, 2)
    assert back["diff"]["before"] == f"image {made[2].digest}\n"
    assert back["diff"]["after"] == f"image {made[1].digest}\n"
    assert (volume / "active").readlink() == Path("generations/2")
    assert (volume / "generations/2/generation.json").read_bytes() == first, "whole as it was"
    verdict = images.Store(volume).verdict(made[1].digest)
    assert verdict and verdict.sound, "it was hashed before the switch"
    assert uses() == {1: "active", 0: "previous", 2: "bad"}
    again = change("rolled_back")
    assert (again["changed"], again["generation"]) == (False, 2)
    # Another try, and back from it.
    assert change(image=made[2])["generation"] == 4
    assert uses() == {2: "active", 1: "previous", 0: ""}
    assert change("rolled_back")["generation"] == 2


def test_nothing_to_go_back_to(change: RunModule, volume: Path, made: list[Made]) -> None:
    assert "no image is active" in change("rolled_back")["msg"]
    change(image=made[0])
    assert "generation 1 is the first one" in change("rolled_back")["msg"]
    change(image=made[1])
    image = volume / "images" / f"{made[0].digest}.squashfs"
    whole = image.read_bytes()
    image.chmod(0o644)
    image.write_bytes(whole[:-1] + b"x")
    assert "is damaged; the active image was not changed" in change("rolled_back")["msg"]
    image.unlink()
    assert "or the one before it is gone" in change("rolled_back")["msg"]
    assert (volume / "active").readlink() == Path("generations/2")


def test_an_activation_that_was_cut_is_no_rollback(
    change: RunModule, volume: Path, made: list[Made]
) -> None:
    for image in made[:3]:
        change(image=image)
    (volume / "active").unlink()
    (volume / "active").symlink_to("generations/2")
    assert change("rolled_back")["generation"] == 1


def test_rollback_killed_anywhere_is_one_rollback(
    change: RunModule, volume: Path, made: list[Made], every_kill: EveryKill
) -> None:
    store = images.Store(volume)
    for image in made[:3]:
        change(image=image)
    ends = set()
    for _point in every_kill(store.roll_back):
        active = store.active()
        assert active is not None
        ends.add(active.generation)
        store.roll_back()
        assert store.active() == store.generation(2)
        (volume / "active").unlink()
        (volume / "active").symlink_to("generations/3")
    assert ends == {2, 3}


def test_collects_what_nobody_needs(
    change: RunModule,
    volume: Path,
    made: list[Made],
    uses: Callable[[], dict[int, str]],
    tmp_path: Path,
) -> None:
    for image in made[:3]:
        change(image=image)
    change("present", made[3])
    assert uses() == {2: "active", 1: "previous", 0: "", 3: "staged"}
    image = volume / "images" / f"{made[0].digest}.squashfs"
    with running_from(image, tmp_path / "kw-mount") as process:
        assert str(tmp_path) not in Path("/proc/self/mounts").read_text(), "nobody sees a mount"
        assert process.poll() is None
        assert uses()[0] == "in_use"
        predicted = change("collected", check=True)
        assert predicted["removed"] == [made[3].digest]
        assert len(uses()) == 4
        collected = change("collected")
        assert (collected["changed"], collected["removed"]) == (True, [made[3].digest])
        assert f"unused {made[3].digest}" in collected["diff"]["before"]
        assert uses() == {2: "active", 1: "previous", 0: "staged in_use"}
        assert process.poll() is None
        assert change("collected")["changed"] is False
    assert change("collected")["removed"] == [made[0].digest]
    assert uses() == {2: "active", 1: "previous"}
    assert sorted(path.name for path in (volume / "generations").iterdir()) == ["2", "3"]
    assert change("rolled_back")["generation"] == 2
    assert change("collected")["removed"] == [made[2].digest]
    assert change(image=made[3])["generation"] == 3


def test_another_nodes_image_pins_nothing_here(
    change: RunModule, volume: Path, made: list[Made], tmp_path: Path, monkeypatch: Any
) -> None:
    """Containers on one host see all of its loop devices."""
    for image in made[:3]:
        change(image=image)
    elsewhere = tmp_path / f"{made[0].digest}.squashfs"
    elsewhere.write_bytes(made[0].content)
    with running_from(elsewhere, tmp_path / "kw-mount"):
        assert usage.in_use(images.Store(volume)) == set()
        with monkeypatch.context() as patch:
            patch.setattr(usage, "DEVICES", tmp_path)
            assert usage.in_use(images.Store(volume)) == {made[0].digest}, "it can't be asked"


def test_the_list_says_what_each_image_is_for(
    change: RunModule, run_module: RunModule, volume: Path, made: list[Made], tmp_path: Path
) -> None:
    change(image=made[1])
    broken = volume / "images" / f"{'ab' * 32}.squashfs"
    broken.write_bytes(b"no squashfs" * 1000)
    listed = run_module("system_image_info", volume=str(volume))
    assert listed["changed"] is False and listed["fence"] == {"epoch": 0, "run": ""}
    first, second = listed["images"]
    kind = {"kubernetes": "1.37.2", "revision": 1, "arch": HERE, "role": "worker", "problem": ""}
    use = {"active": True, "previous": False, "staged": False, "bad": False, "in_use": False}
    size = made[1].path.stat().st_size
    assert first == {"digest": made[1].digest, "size": size, "generations": [1], **kind, **use}
    assert second["kubernetes"] is None and "can't be mounted" in second["problem"]
    assert str(volume) not in Path("/proc/self/mounts").read_text()
    assert run_module("system_image_info", volume=str(tmp_path))["images"] == []
