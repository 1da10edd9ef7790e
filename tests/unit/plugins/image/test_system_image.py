# SPDX-License-Identifier: Apache-2.0
"""Images and generations: whole or not there, and never another one than was asked for."""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import platform
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from ansible_collections.kubewright.cluster.plugins.module_utils._cluster import image_format
from ansible_collections.kubewright.cluster.plugins.module_utils._image import images, manifests
from ansible_collections.kubewright.cluster.plugins.module_utils._kube import memberships
from ansible_collections.kubewright.cluster.plugins.module_utils._onnode import trial
from system_images import CONTENT, DIGEST, OTHER, OTHER_DIGEST, bring

RunModule = Callable[..., dict[str, Any]]
EveryKill = Callable[[Callable[[], object]], Iterator[int]]
pytestmark = pytest.mark.skipif(os.getuid() != 0, reason="images belong to root")


def test_install_and_activate(run_module: RunModule, volume: Path) -> None:
    result = bring(run_module, volume, CONTENT)
    assert {key: result[key] for key in ("changed", "installed", "activated", "generation")} == {
        "changed": True,
        "installed": True,
        "activated": True,
        "generation": 1,
    }
    assert (volume / "active").readlink() == Path("generations/1")
    link = volume / "generations" / "1" / "image.squashfs"
    assert str(link.readlink()) == f"../../images/{DIGEST}.squashfs"
    assert (volume / "active" / "image.squashfs").read_bytes() == CONTENT
    image = (volume / "images" / f"{DIGEST}.squashfs").stat()
    assert (image.st_mode & 0o7777, image.st_uid) == (0o444, 0)
    document = json.loads((volume / "active" / "generation.json").read_text())
    assert (document["generation"], document["image"], document["previous"]) == (1, DIGEST, None)
    assert list((volume / "incoming").iterdir()) == []

    again = run_module("system_image", digest=DIGEST, volume=str(volume))
    assert (again["changed"], again["generation"]) == (False, 1)


def test_stage_then_activate_then_go_back(run_module: RunModule, volume: Path) -> None:
    bring(run_module, volume, CONTENT)
    staged = bring(run_module, volume, OTHER, state="present")
    assert (staged["changed"], staged["installed"], staged["activated"]) == (True, True, False)
    assert staged["generation"] == 1
    assert bring(run_module, volume, OTHER, state="present")["changed"] is False
    active = run_module("system_image", digest=OTHER_DIGEST, volume=str(volume))
    assert (active["installed"], active["activated"], active["generation"]) == (False, True, 2)
    assert active["diff"]["before"] == f"image {DIGEST}\n"
    (volume.parent / trial.ORDER).unlink()  # it was tried, and stayed
    back = run_module("system_image", digest=DIGEST, volume=str(volume))
    assert back["generation"] == 3
    assert json.loads((volume / "active" / "generation.json").read_text())["previous"] == 2


def test_a_generation_begins_with_the_last_ones_configuration(
    run_module: RunModule, volume: Path
) -> None:
    bring(run_module, volume, CONTENT)
    first = volume / "active" / "configuration"
    (first / "runtime").mkdir(mode=0o700)
    (first / "runtime/config").write_text("old")
    (first / "runtime/config").chmod(0o640)
    os.chown(first / "runtime/config", 1, 2)
    os.utime(first / "runtime/config", ns=(1, 1))
    (first / "link").symlink_to("runtime/config")
    bring(run_module, volume, OTHER)
    second = volume / "generations/2/configuration"
    copy = (second / "runtime/config").stat()
    # The same stamp: a service has no reason to be started anew.
    assert (copy.st_mode & 0o777, copy.st_uid, copy.st_gid, copy.st_mtime_ns) == (0o640, 1, 2, 1)
    assert (second / "runtime").stat().st_mode & 0o777 == 0o700
    assert (second / "link").readlink() == Path("runtime/config")
    (volume / "active/configuration/runtime/config").write_text("new")
    assert (volume / "generations/1/configuration/runtime/config").read_text() == "old"


def test_a_transfer_comes_in_by_a_door_of_its_own(
    run_module: RunModule, volume: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where the volume is read-only to all others: the same directory, mounted beside it."""
    door = volume.parent / "incoming"
    door.symlink_to(volume / "incoming")
    monkeypatch.setattr(images.os.path, "ismount", lambda path: path == door)
    result = run_module("system_image", volume=str(volume), size=len(CONTENT), digest=DIGEST)
    assert Path(result["transfer"]).parent == door
    assert bring(run_module, volume, CONTENT)["installed"] is True
    assert (volume / "active/image.squashfs").read_bytes() == CONTENT


def test_check_mode_predicts_without_a_trace(run_module: RunModule, volume: Path) -> None:
    result = run_module("system_image", check=True, digest=DIGEST, volume=str(volume))
    assert (result["changed"], result["installed"], result["activated"]) == (True, True, True)
    assert "transfer" not in result
    assert list(volume.iterdir()) == []
    elsewhere = run_module("system_image", check=True, digest=DIGEST, volume="/nowhere")
    assert elsewhere["changed"] is True, "the volume may be made by the same run"


@pytest.mark.parametrize("content", [CONTENT[:-1] + b"x", CONTENT[:-1], CONTENT + b"x", b""])
def test_anything_else_is_refused_and_removed(
    run_module: RunModule, volume: Path, content: bytes
) -> None:
    asked = run_module("system_image", digest=DIGEST, volume=str(volume), size=len(CONTENT))
    arrived = Path(asked["transfer"])
    arrived.write_bytes(content)
    result = run_module(
        "system_image",
        digest=DIGEST,
        volume=str(volume),
        size=len(CONTENT),
        arrived=str(arrived),
    )
    assert "not the image" in result["msg"]
    assert not arrived.exists()
    assert list((volume / "images").iterdir()) == []
    assert not (volume / "active").exists()


def test_transfer_that_is_gone(run_module: RunModule, volume: Path) -> None:
    asked = run_module("system_image", digest=DIGEST, volume=str(volume), size=1)
    Path(asked["transfer"]).unlink()
    arguments = {"digest": DIGEST, "volume": str(volume), "size": 1}
    result = run_module("system_image", **arguments, arrived=asked["transfer"])
    assert "Run it again" in result["msg"]
    result = run_module("system_image", **arguments, arrived="/etc/passwd")
    assert "is not a transfer" in result["msg"]


def test_damaged_image_is_brought_again(run_module: RunModule, volume: Path) -> None:
    bring(run_module, volume, CONTENT)
    bring(run_module, volume, OTHER)
    image = volume / "images" / f"{DIGEST}.squashfs"
    image.chmod(0o644)
    image.write_bytes(b"rot")
    running = image.open("rb")  # whoever uses it keeps it
    without = run_module("system_image", digest=DIGEST, volume=str(volume))
    assert "no intact image" in without["msg"]
    result = bring(run_module, volume, CONTENT)
    assert (result["installed"], result["generation"]) == (True, 3)
    assert image.read_bytes() == CONTENT
    assert running.read() == b"rot"
    running.close()


def test_refusals(run_module: RunModule, volume: Path, tmp_path: Path) -> None:
    assert "64 lower-case" in run_module("system_image", digest="abc")["msg"]
    result = run_module("system_image", digest=DIGEST, volume=str(tmp_path), size=5)
    assert "not a mounted volume" in result["msg"]
    result = run_module("system_image", digest=DIGEST, volume=str(volume), size=1 << 60)
    assert "free. Remove unused images" in result["msg"]
    assert list(volume.iterdir()) == []


def test_given_up_transfers_are_removed(run_module: RunModule, volume: Path) -> None:
    asked = run_module("system_image", digest=DIGEST, volume=str(volume), size=len(CONTENT))
    fresh = Path(asked["transfer"])
    old, in_use = fresh.with_suffix(".old"), fresh.with_suffix(".busy")
    empty = fresh.with_name(f"{OTHER_DIGEST}.empty")
    empty.touch()
    os.utime(empty, (1, 1))
    for path in (old, in_use):
        path.write_bytes(b"x")
        os.utime(path, (1, 1))
    (volume / "generations").mkdir()
    (volume / "generations" / ".new-1").mkdir()
    with in_use.open("rb"):
        run_module("system_image", digest=OTHER_DIGEST, volume=str(volume), size=1)
    assert not old.exists() and not empty.exists()
    assert in_use.exists()
    assert fresh.exists(), "it may be about to be written"
    assert list((volume / "generations").iterdir()) == []


def test_active_that_leads_nowhere_is_made_again(run_module: RunModule, volume: Path) -> None:
    bring(run_module, volume, CONTENT)
    (volume / "images" / f"{DIGEST}.squashfs").unlink()
    result = bring(run_module, volume, CONTENT)
    assert (result["installed"], result["activated"], result["generation"]) == (True, True, 2)


def test_killed_anywhere_the_active_one_stays_whole(volume: Path, every_kill: EveryKill) -> None:
    store = images.Store(volume)

    def bring_directly(content: bytes) -> None:
        digest = hashlib.sha256(content).hexdigest()
        store.clean()
        if not store.image(digest).is_file():
            arrived = store.prepare_transfer(digest, len(content), None)
            arrived.write_bytes(content)
            store.install(digest, arrived, len(content))
        active = store.active()
        if active is None or active.digest != digest:
            store.activate(digest)

    bring_directly(CONTENT)
    before = max(store.numbers())
    for _point in every_kill(lambda: bring_directly(OTHER)):
        whole = (volume / "active" / "image.squashfs").read_bytes()
        assert whole in (CONTENT, OTHER)
        for image in store.images.iterdir():
            assert hashlib.sha256(image.read_bytes()).hexdigest() == image.stem
        for generation in store.generations.glob("[0-9]*"):
            assert json.loads((generation / "generation.json").read_text())["schema"] == 1
        bring_directly(OTHER)
        assert (volume / "active" / "image.squashfs").read_bytes() == OTHER
        assert list(store.generations.glob(f"{images.UNFINISHED}*")) == []
        bring_directly(CONTENT)
        store.image(OTHER_DIGEST).unlink()
    assert max(store.numbers()) > before
    assert (volume / "active" / "image.squashfs").read_bytes() == OTHER


def cut(volume: Path, digest: str, content: bytes) -> Path:
    """What a transfer has left that was cut long ago."""
    (volume / "incoming").mkdir(exist_ok=True)
    path = volume / "incoming" / f"{digest}.{len(content)}"
    path.write_bytes(content)
    os.utime(path, (1, 1))
    return path


def test_a_transfer_that_was_cut_goes_on_at_a_whole_piece(
    run_module: RunModule, volume: Path
) -> None:
    content = os.urandom(3 * images.PIECE_BYTES + 5)
    digest = hashlib.sha256(content).hexdigest()
    pieces = 2 * images.PIECE_BYTES
    shorter, longer = cut(volume, digest, content[:9]), cut(volume, digest, content[: pieces + 7])
    too_long = cut(volume, digest, content + b"x")
    arguments = {"digest": digest, "volume": str(volume), "size": len(content)}
    asked = run_module("system_image", **arguments)
    arrived = Path(asked["transfer"])
    assert (asked["offset"], arrived.read_bytes()) == (pieces, content[:pieces])
    assert not any(path.exists() for path in (shorter, longer, too_long))
    with arrived.open("ab") as file:
        file.write(content[pieces:])
    assert run_module("system_image", **arguments, arrived=str(arrived))["activated"] is True


def test_a_transfer_that_only_lost_its_end_is_not_repeated(
    run_module: RunModule, volume: Path
) -> None:
    cut(volume, DIGEST, CONTENT)
    asked = run_module("system_image", digest=DIGEST, volume=str(volume), size=len(CONTENT))
    assert asked["offset"] == len(CONTENT)


def test_what_somebody_still_writes_is_not_gone_on_with(
    run_module: RunModule, volume: Path
) -> None:
    path = cut(volume, DIGEST, CONTENT[:9])
    with path.open("ab"):
        asked = run_module("system_image", digest=DIGEST, volume=str(volume), size=len(CONTENT))
    assert asked["offset"] == 0 and Path(asked["transfer"]) != path
    assert path.read_bytes() == CONTENT[:9]


def test_the_file_belongs_to_who_goes_on(run_module: RunModule, volume: Path) -> None:
    cut(volume, DIGEST, CONTENT[:9])
    asked = run_module(
        "system_image",
        digest=DIGEST,
        volume=str(volume),
        size=len(CONTENT),
        transfer_owner="nobody",
    )
    assert Path(asked["transfer"]).owner() == "nobody"
    again = run_module("system_image", digest=DIGEST, volume=str(volume), size=len(CONTENT))
    assert Path(again["transfer"]).owner() == "root"


def test_activation_of_what_is_not_installed(run_module: RunModule, volume: Path) -> None:
    said = run_module("system_image", digest=DIGEST, volume=str(volume))["msg"]
    assert f"no intact image {DIGEST}" in said and "kubewright node image install" in said
    assert "digest" in run_module("system_image", volume=str(volume))["msg"]


def test_an_image_of_another_role_that_is_there_is_not_activated(
    run_module: RunModule, volume: Path
) -> None:
    bring(run_module, volume, CONTENT, state="present")
    arguments = {"digest": DIGEST, "volume": str(volume)}
    said = run_module("system_image", **arguments, role="control_plane")["msg"]
    assert "this node is a control_plane" in said
    assert not (volume / "active").exists()


def test_a_node_of_a_cluster_keeps_its_release(
    run_module: RunModule, volume: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Until it is one, it may still get another; and another revision at any time."""
    releases = {CONTENT: "1.37.2", OTHER: "1.36.4"}

    def read(image: Path, *_: Any) -> manifests.Manifest:
        here = image_format.ARCHITECTURES[platform.machine()]
        return manifests.Manifest(releases[image.read_bytes()], 1, here, "worker")

    monkeypatch.setattr(manifests, "read", read)
    record = tmp_path / "kubeadm.json"
    monkeypatch.setattr(memberships, "RECORD", record)
    bring(run_module, volume, CONTENT)
    record.write_text("{}")
    # To have it there is no harm.
    assert bring(run_module, volume, OTHER, state="present")["installed"]
    arguments = {"digest": OTHER_DIGEST, "volume": str(volume)}
    said = run_module("system_image", **arguments)["msg"]
    assert "The image has Kubernetes 1.36.4, but this node's cluster runs 1.37.2" in said
    assert "Activate an image of 1.37.2 (kubewright image build 1.37.2)." in said
    assert images.Store(volume).active().digest == DIGEST
    releases[OTHER] = "1.37.2"
    assert run_module("system_image", **arguments)["activated"]
    releases[OTHER] = "1.36.4"
    record.unlink()
    assert run_module("system_image", **{**arguments, "digest": DIGEST})["activated"]


def test_one_install_waits_for_the_other(run_module: RunModule, volume: Path, node: Path) -> None:
    (node / "run").mkdir(parents=True)
    with (node / "run/node.lock").open("w") as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        arguments = {"digest": DIGEST, "volume": str(volume), "size": 1, "lock_timeout": 0}
        said = run_module("system_image", **arguments)["msg"]
    assert "Another run is working on this node" in said and f"process {os.getpid()}" in said
    assert "transfer" in run_module("system_image", **arguments)


def test_a_damaged_one_is_installed_again(run_module: RunModule, volume: Path) -> None:
    """What a rollback or an activation that refuses it says is to be done."""
    bring(run_module, volume, CONTENT)
    bring(run_module, volume, OTHER)
    store = images.Store(volume)
    store.image(DIGEST).chmod(0o644)
    store.image(DIGEST).write_bytes(b"rot")
    refused = run_module("system_image", state="rolled_back", volume=str(volume))
    assert "node image install" in refused["msg"]
    assert bring(run_module, volume, CONTENT, state="present")["installed"] is True
    assert bring(run_module, volume, CONTENT, state="present")["changed"] is False
    back = run_module("system_image", state="rolled_back", volume=str(volume))
    assert back["digest"] == DIGEST


def test_who_became_root_writes_the_transfer(
    run_module: RunModule, volume: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = {"digest": DIGEST, "volume": str(volume), "size": 1, "transfer_owner": ""}
    monkeypatch.delenv("SUDO_USER", raising=False)
    assert "ansible_user" in run_module("system_image", **asked)["msg"]
    monkeypatch.setenv("SUDO_USER", "nobody")
    assert Path(run_module("system_image", **asked)["transfer"]).owner() == "nobody"
