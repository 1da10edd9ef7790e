# SPDX-License-Identifier: Apache-2.0
"""image sign, serve and gc; node image list, install, activate, rollback and gc."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from kubewright.cli import image as commands
from kubewright.image.index import Image
from kubewright.image.store import Store
from kubewright.store.images import clusters, given, note

INFO = "kubewright.cluster.system_image_info"


@pytest.fixture
def images(world: Any) -> dict[str, Image]:
    """Two of the newest release, and an older one of each kind."""
    directory = world.directory / "cache/images"
    directory.mkdir(parents=True)
    made = {}
    for name, kubernetes, role, month in (
        ("worker", "1.37.2", "worker", 3),
        ("control_plane", "1.37.2", "control_plane", 3),
        ("old", "1.37.2", "worker", 2),
        ("older", "1.36.4", "worker", 1),
    ):
        digest = f"{len(made):x}" * 6 + f"{len(made) + 8:x}" * 58
        (directory / f"{digest}.squashfs").write_bytes(name.encode())
        (directory / f"{digest}.squashfs.sig").write_bytes(b"signed")
        made[name] = Image(
            kubernetes=kubernetes,
            revision=1,
            arch="amd64",
            role=role,  # type: ignore[arg-type]
            digest=digest,
            file=f"{digest}.squashfs",
            size=len(name),
            key=name,
            built_at=datetime(2026, month, 1, tzinfo=UTC),
        )
    text = json.dumps([one.model_dump(mode="json") for one in made.values()])
    (directory / "index.json").write_text(text)
    return made


def raw(host: str, **result: Any) -> dict[str, Any]:
    """What a node has answered, as ansible-runner tells it."""
    data = {"host": host, "task": "List", "task_action": INFO, "task_uuid": "1", "res": result}
    event = {"event": "runner_on_ok", "created": "2026-01-01T00:00:01+00:00"}
    return {**event, "event_data": data}


def told(recorded: Any) -> dict[str, Any]:
    """The variables of the last run."""
    return dict(recorded.orders[-1].extra_vars)


def test_gc_takes_what_no_cluster_was_given_and_is_not_the_newest(
    world: Any, images: dict[str, Image], command: Callable[..., Any]
) -> None:
    shown = command("image", "gc", "--dry-run", "-o", "json")
    assert [one["digest"] for one in json.loads(shown.out)["would_remove"]] == [
        images["old"].digest
    ]
    assert command("image", "gc").code == 4, "can't ask for confirmation"
    assert len(Store().list()) == 4
    world.paths.identity.mkdir(parents=True)
    note(world.paths.images, [images["old"].digest])
    assert command("image", "gc", "--yes").out == "Nothing to remove.\n"
    note(world.paths.images, [images["worker"].digest], only=True)
    gone = command("image", "gc", "--yes")
    assert (gone.code, gone.out) == (0, "1 image of 0 MB removed.\n")
    assert {one.digest for one in Store().list()} == {
        images[name].digest for name in ("worker", "control_plane", "older")
    }
    left = {path.name[:6] for path in (world.directory / "cache/images").glob("*.squashfs*")}
    assert images["old"].digest[:6] not in left and len(left) == 3


def test_gc_keeps_the_newest_whose_file_is_there(
    world: Any, images: dict[str, Image], command: Callable[..., Any]
) -> None:
    Store().path(images["worker"]).unlink()
    Store().path(images["control_plane"]).write_bytes(b"cut")
    world.paths.identity.mkdir(parents=True)
    note(world.paths.images, [images["worker"].digest])
    gone = json.loads(command("image", "gc", "--yes", "-o", "json").out)
    assert [one["role"] for one in gone["removed"]] == ["worker", "control_plane"]
    assert gone["bytes"] == 0
    assert {one.key for one in Store().list()} == {"old", "older"}
    assert Store().path(images["old"]).is_file()


def test_apply_writes_down_what_nodes_are_given(
    world: Any,
    recorded: Any,
    images: dict[str, Image],
    command: Callable[..., Any],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    made = [images["worker"], images["control_plane"]]
    monkeypatch.setattr("kubewright.operate.converge.build", lambda *_: made)
    world.paths.state.mkdir(parents=True)
    world.paths.images.write_text("damaged")
    assert command("apply", "--yes").code == 0
    assert given(world.paths.images) == {one.digest for one in made}


def test_a_cluster_that_is_gone_needs_nothing_and_a_damaged_record_is_told(
    world: Any, images: dict[str, Image], command: Callable[..., Any]
) -> None:
    world.paths.state.mkdir(parents=True)
    note(world.paths.images, ["a"])
    assert clusters(world.paths.state.parent) == {}
    world.paths.identity.mkdir()
    assert clusters(world.paths.state.parent) == {"demo": {"a"}}
    world.paths.images.write_text("{}")
    ended = command("image", "gc", "--yes")
    assert ended.code == 1 and f"{world.paths.images}: has no digests" in ended.err
    assert len(Store().list()) == 4


@pytest.fixture
def key(world: Any) -> Path:
    path = Path(world.directory / "key")
    words = ["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", "me", "-f", str(path)]
    subprocess.run(words, check=True)
    return path


def test_sign(images: dict[str, Image], key: Path, command: Callable[..., Any]) -> None:
    signed = json.loads(command("image", "sign", str(key), "-o", "json").out)
    assert signed["signer"].startswith("ssh-ed25519 ") and len(signed["images"]) == 4
    for one in signed["images"]:
        assert Path(one["signature"]).read_text().startswith("-----BEGIN SSH SIGNATURE")
    assert command("image", "sign", "gone").code == 2


@pytest.mark.parametrize("word", ["/", ".", "..", "gone"])
def test_what_is_no_key_was_typed_wrong(
    images: dict[str, Image], command: Callable[..., Any], word: str
) -> None:
    ended = command("image", "sign", word)
    assert (ended.code, "Give a private SSH key." in ended.err) == (2, True), ended.err


def test_sign_without_an_image_or_its_file(
    world: Any, images: dict[str, Image], key: Path, command: Callable[..., Any]
) -> None:
    Store().path(images["old"]).unlink()
    ended = command("image", "sign", str(key))
    assert ended.code == 1
    assert f"There is no {Store().path(images['old'])}" in ended.err
    assert "kubewright image build" in ended.err and "OpenSSH" not in ended.err
    (world.directory / "cache/images/index.json").unlink()
    ended = command("image", "sign", str(key))
    assert (ended.code, ended.out) == (1, "")
    assert "Build them first: kubewright image build." in ended.err


def test_a_key_that_others_may_read(
    images: dict[str, Image], key: Path, command: Callable[..., Any]
) -> None:
    key.chmod(0o644)
    ended = command("image", "sign", str(key))
    assert (ended.code, f"chmod 600 {key}" in ended.err) == (1, True), ended.err
    key.with_name("key.pub").unlink()
    ended = command("image", "sign", str(key))
    assert (ended.code, f"chmod 600 {key}" in ended.err) == (2, True), ended.err


def test_serve(
    world: Any,
    images: dict[str, Image],
    command: Callable[..., Any],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("socketserver.BaseServer.serve_forever", interrupt)
    signature = world.directory / f"cache/images/{images['old'].digest}.squashfs.sig"
    signature.unlink()
    ended = command("image", "serve", "--listen", "127.0.0.1:0", "-o", "json")
    assert ended.code == 0
    assert json.loads(ended.out)["url"].startswith("http://127.0.0.1:")
    assert "1 image not signed: nodes refuse them" in ended.err
    Store().path(images["worker"]).unlink()
    ended = command("image", "serve", "--listen", "127.0.0.1:0")
    assert "1 image with an incomplete file" in ended.err
    assert "Serving 3 images on http" in ended.out
    assert command("image", "serve", "--listen", "8440").code == 2
    assert command("image", "serve", "--listen", "192.0.2.1:1").code == 1
    assert commands._place("[::1]:8440") == ("::1", 8440)


def test_install_what_the_file_means(
    world: Any, recorded: Any, images: dict[str, Image], command: Callable[..., Any]
) -> None:
    done = command("node", "image", "install", "-o", "json")
    assert done.code == 0, done.err
    order = recorded.orders[-1]
    assert order.playbook == "kubewright.cluster.node_image_install"
    found = told(recorded)
    assert found["kubewright_target"] == "demo-cp-1,demo-cp-2,demo-cp-3,demo-web-1"
    assert found["kubewright_epoch"] == 1
    assert {role: image["digest"] for role, image in found["kubewright_wanted_images"].items()} == {
        role: images[role].digest for role in ("worker", "control_plane")
    }
    assert given(world.paths.images) == {images[n].digest for n in ("worker", "control_plane")}
    assert json.loads(done.out)["images"] == found["kubewright_wanted_images"]


def test_an_image_goes_to_the_nodes_of_its_role(
    world: Any, recorded: Any, images: dict[str, Image], command: Callable[..., Any]
) -> None:
    old = images["old"].digest
    assert command("node", "image", "install", old[:6]).code == 0
    assert told(recorded)["kubewright_target"] == "demo-web-1"
    path = str(world.directory / f"cache/images/{old}.squashfs")
    wanted = {"worker": {"digest": old, "path": path}}
    assert told(recorded)["kubewright_wanted_images"] == wanted
    assert command("node", "image", "install", "1.36").code == 0
    assert told(recorded)["kubewright_target"] == "demo-web-1"
    # One that only nodes or another server have.
    assert command("node", "image", "activate", "--yes", "f" * 64, "--node", "demo-cp-1").code == 0
    wanted = {"digest": "f" * 64, "path": ""}
    assert told(recorded)["kubewright_wanted_images"] == {
        "control_plane": wanted,
        "worker": wanted,
    }
    assert old in given(world.paths.images), "a rollback may need it"


@pytest.mark.parametrize(
    ("words", "code", "said"),
    [
        (
            ["install", "111111", "--node", "demo-web-1"],
            2,
            "is not an image for demo-web-1 (worker)",
        ),
        (["install", "abcdef"], 2, "no image on this machine has a digest that starts with"),
        (["install", "1.35"], 2, "1.35"),
        (["install", "02ee"], 2, "02ee is neither a Kubernetes version nor a long enough digest"),
        (["activate", "11111"], 2, "Give at least 6 digits"),
        (["activate", "1.36", "--yes"], 4, "version of demo (1.37.2): Kubewright can't upgrade"),
        (
            ["activate", "OLDER", "--yes"],
            4,
            "Activate an image of its own release: kubewright node",
        ),
        (["install", "--node", "demo-web-9"], 2, "demo has no node demo-web-9"),
        (["activate"], 4, "containerd, the kubelet and the load balancer are restarted"),
        (["rollback"], 4, "pods keep running"),
        (["gc"], 4, "can't ask for confirmation"),
    ],
)
def test_what_is_refused_before_anything(
    world: Any,
    images: dict[str, Image],
    command: Callable[..., Any],
    words: list[str],
    code: int,
    said: str,
) -> None:
    older = images["older"].digest[:6]
    ended = command("node", "image", *(older if word == "OLDER" else word for word in words))
    assert (ended.code, said in ended.err) == (code, True), ended.err
    assert not world.paths.state.exists()


def test_rollback_and_gc(world: Any, recorded: Any, command: Callable[..., Any]) -> None:
    for verb in ("rollback", "gc"):
        assert command("node", "image", verb, "--yes", "--node", "demo-cp-2").code == 0
        assert recorded.orders[-1].playbook == f"kubewright.cluster.node_image_{verb}"
        assert set(told(recorded)) == {"kubewright_target", "kubewright_epoch"}


def test_list(world: Any, recorded: Any, command: Callable[..., Any]) -> None:
    active = {
        "digest": "ab" * 32,
        "size": 200_000_000,
        "kubernetes": "1.37.2",
        "revision": 3,
        "arch": "amd64",
        "role": "worker",
        "generations": [4],
        "active": True,
        "previous": False,
        "staged": False,
        "bad": False,
        "in_use": True,
        "problem": "",
    }
    staged = {**active, "digest": "cd" * 32, "active": False, "staged": True, "in_use": False}
    staged |= {"kubernetes": None, "revision": None, "role": None}
    recorded.events["node_image_list"] = [
        raw("demo-web-1", images=[active, staged]),
        raw("demo-cp-1", images=[]),
    ]
    lines = command("node", "image", "list").out.splitlines()
    cells = [line.split() for line in lines]
    assert cells[1][:2] == ["demo-cp-1", "none"]
    assert cells[2] == ["demo-web-1", "ab" * 6, "1.37.2", "worker", "3", "200", "active", "yes"]
    assert cells[3] == ["demo-web-1", "cd" * 6, "?", "?", "?", "200", "staged"]
    data = json.loads(command("node", "image", "list", "-o", "json").out)
    assert data["images"] == {"demo-cp-1": [], "demo-web-1": [active, staged]}
    assert "kubewright_epoch" not in told(recorded), "it only reads"


def test_help_says_how_much_of_a_digest_is_needed(command: Callable[..., Any]) -> None:
    for verb in ("install", "activate"):
        words = " ".join(command("node", "image", verb, "--help").out.replace("│", " ").split())
        assert "The first 6 or more digits of an image's digest" in words


def test_list_shows_what_answered_where_a_node_did_not(
    world: Any, recorded: Any, command: Callable[..., Any]
) -> None:
    recorded.events["node_image_list"] = [raw("demo-cp-1", images=[])]
    said = "Failed to connect to the host via ssh: No route to host"
    recorded.ended(
        "node_image_list", "List", "demo-web-1", kind="unreachable", action=INFO, msg=said
    )
    recorded.failed.add("node_image_list")
    ended = command("node", "image", "list")
    assert ended.code == 3
    assert [line.split()[:2] for line in ended.out.splitlines()[1:]] == [["demo-cp-1", "none"]]
    assert "demo-web-1: List" in ended.err
    ended = command("node", "image", "list", "-o", "json")
    data = json.loads(ended.out)
    assert (ended.code, data["error"]["exit_code"]) == (3, 3)
    assert data["images"] == {"demo-cp-1": []}
    recorded.events["node_image_list"].pop(0)
    assert command("node", "image", "list").out == "", "no table of nobody"
