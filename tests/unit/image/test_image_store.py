# SPDX-License-Identifier: Apache-2.0
"""The store: what counts as found, concurrent writers, a broken index, a flipped byte."""

from __future__ import annotations

import json
import os
import subprocess
import threading
from datetime import UTC, datetime
from pathlib import Path

import pytest

from kubewright.image.builder import build
from kubewright.image.catalogue import Catalogue
from kubewright.image.errors import ImageError
from kubewright.image.index import Image
from kubewright.image.locked import Locked
from kubewright.image.paths import cache_dir
from kubewright.image.store import Store
from kubewright.spec.images import current


@pytest.fixture
def store(tmp_path: Path, catalogue: Catalogue, made: list[str]) -> Store:
    """A store with one worker image in it."""
    build("1.37", ["worker"], cache=tmp_path, catalogue=catalogue)
    return Store(tmp_path, catalogue)


def entry(key: str) -> Image:
    return Image(
        kubernetes="1.36.4",
        revision=1,
        arch="amd64",
        role="worker",
        digest=key * 32,
        file=f"{key * 32}.squashfs",
        size=3,
        key=key,
        built_at=datetime(2026, 1, 1, tzinfo=UTC),
    )


def test_find_by_minor_and_by_release(store: Store) -> None:
    image = store.find("1.37", "worker")
    assert image is not None
    assert image == store.find("1.37.2", "worker")
    assert store.path(image).name == f"{image.digest}.squashfs"
    assert store.find("1.37", "control_plane") is None
    assert store.find("1.37", "worker", "arm64") is None


def test_images_stay_when_the_catalogue_moves_on(
    store: Store, tmp_path: Path, catalogue: Catalogue
) -> None:
    """A cluster goes on with the release that it has; what is not there any more can't be made."""
    (image,) = store.list()
    release = catalogue.release("1.37")
    newer = Catalogue([release.model_copy(update={"kubernetes": "1.37.3"})])
    assert Store(tmp_path, newer).find("1.37.2", "worker") is None
    assert current("1.37.2", Store(tmp_path, newer))["worker"].digest == image.digest
    assert build("1.37.2", ["worker"], cache=tmp_path, catalogue=newer) == [image]
    store.path(image).unlink()
    with pytest.raises(ImageError, match=r"Kubernetes '1\.37\.2' is not in the catalogue"):
        build("1.37.2", ["worker"], cache=tmp_path, catalogue=newer)


def test_an_image_of_other_inputs_is_not_found(
    store: Store, tmp_path: Path, catalogue: Catalogue
) -> None:
    release = catalogue.release("1.37").model_copy(update={"revision": 2})
    newer = Store(tmp_path, Catalogue([release]))
    assert newer.find("1.37", "worker") is None
    Locked(packing={"zstd": "0"}).save(tmp_path, catalogue.release("1.37"), "amd64")
    assert store.find("1.37", "worker") is None


def test_an_image_whose_file_is_gone_is_not_found(store: Store) -> None:
    (image,) = store.list()
    store.path(image).unlink()
    assert store.find("1.37", "worker") is None
    assert store.verify(image).problems == [f"{store.path(image)} is missing"]


def test_list_is_newest_first(store: Store, tmp_path: Path) -> None:
    (tmp_path / "new").write_bytes(b"abc")
    store.add(tmp_path / "new", entry("ab"))
    assert [image.kubernetes for image in store.list()] == ["1.37.2", "1.36.4"]


def test_the_index_has_the_fields_that_others_read(store: Store, tmp_path: Path) -> None:
    (image,) = json.loads((tmp_path / "images/index.json").read_text())
    assert set(image) == {
        *("kubernetes", "revision", "arch", "role", "digest"),
        *("file", "size", "key", "built_at", "source"),
    }
    assert (tmp_path / "images" / image["file"]).stat().st_size == image["size"]


def test_concurrent_writers_lose_nothing(tmp_path: Path) -> None:
    keys = [f"{number:02x}" for number in range(16)]
    (tmp_path / "images").mkdir()
    for key in keys:
        (tmp_path / key).write_bytes(b"abc")
    threads = [
        threading.Thread(target=lambda key=key: Store(tmp_path).add(tmp_path / key, entry(key)))
        for key in keys
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(image.key for image in Store(tmp_path).list()) == keys


def test_same_key_replaces(tmp_path: Path) -> None:
    store = Store(tmp_path)
    (tmp_path / "images").mkdir()
    for _ in range(2):
        (tmp_path / "new").write_bytes(b"abc")
        store.add(tmp_path / "new", entry("ab"))
    assert len(store.list()) == 1


@pytest.mark.parametrize("text", ["", "{", '[{"kubernetes": "1.37.2"}]', "[1]"])
def test_broken_index_is_an_error_that_says_what_to_do(
    store: Store, tmp_path: Path, text: str
) -> None:
    (tmp_path / "images/index.json").write_text(text)
    with pytest.raises(ImageError, match="Build the image again") as raised:
        store.find("1.37", "worker")
    assert str(tmp_path / "images/index.json") in raised.value.message


def test_verify_good(store: Store) -> None:
    (image,) = store.list()
    assert store.verify(image).ok


def test_verify_names_the_file_with_a_flipped_byte(store: Store, tmp_path: Path) -> None:
    (image,) = store.list()
    path = store.path(image)
    tree = tmp_path / "tree"
    subprocess.run(["unsquashfs", "-q", "-n", "-d", tree, path], check=True, capture_output=True)
    program = tree / "bin/kubelet"
    data = bytearray(program.read_bytes())
    data[len(data) // 2] ^= 1
    program.write_bytes(data)
    (tree / "bin/extra").write_bytes(b"")
    (tree / "bin/extra").chmod(0o755)
    path.unlink()
    subprocess.run(["mksquashfs", tree, path, "-quiet"], check=True, capture_output=True)
    problems = store.verify(image).problems
    assert len(problems) == 3
    assert f"not {image.digest}" in problems[0]
    assert problems[1:] == [
        "bin/kubelet differs from the manifest",
        "bin/extra is not in the manifest",
    ]


def test_verify_notices_a_byte_flipped_in_the_squashfs(store: Store) -> None:
    (image,) = store.list()
    path = store.path(image)
    data = bytearray(path.read_bytes())
    data[200] ^= 0xFF  # inside the first data block
    path.write_bytes(data)
    problems = store.verify(image).problems
    assert any(image.digest in problem for problem in problems)
    assert any("differs from the manifest" in problem for problem in problems)


def test_verify_notices_a_mode(store: Store, tmp_path: Path) -> None:
    (image,) = store.list()
    path = store.path(image)
    tree = tmp_path / "tree"
    subprocess.run(["unsquashfs", "-q", "-n", "-d", tree, path], check=True, capture_output=True)
    (tree / "bin/kubelet").chmod(0o4755)
    path.unlink()
    subprocess.run(["mksquashfs", tree, path, "-quiet"], check=True, capture_output=True)
    assert any("bin/kubelet has mode" in problem for problem in store.verify(image).problems)


def test_cache_dir(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("KUBEWRIGHT_CACHE_DIR", str(tmp_path / "own"))
    assert cache_dir() == tmp_path / "own"
    monkeypatch.delenv("KUBEWRIGHT_CACHE_DIR")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert cache_dir() == tmp_path / "kubewright"
    monkeypatch.delenv("XDG_CACHE_HOME")
    monkeypatch.setenv("HOME", str(tmp_path))
    assert cache_dir() == tmp_path / ".cache/kubewright"


def test_writes_are_atomic(store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    before = (tmp_path / "images/index.json").read_bytes()

    def fail(_: int) -> None:
        raise OSError("power cut")

    monkeypatch.setattr(os, "fsync", fail)
    with pytest.raises(OSError, match="power cut"):
        store._write([])
    assert (tmp_path / "images/index.json").read_bytes() == before
    assert not list((tmp_path / "images").glob(".index*"))
