# SPDX-License-Identifier: Apache-2.0
"""The build around the recipes: nothing twice, no half results, one at a time."""

from __future__ import annotations

import json
import subprocess
import threading
import time
from pathlib import Path
from typing import Any

import pytest

from kubewright.image import builder, squashfs
from kubewright.image.builder import build
from kubewright.image.catalogue import Catalogue
from kubewright.image.errors import ImageError
from kubewright.image.paths import file_lock
from kubewright.image.store import Store


def run(cache: Path, catalogue: Catalogue, *roles: Any, **options: Any) -> list[Any]:
    return build(
        "1.37", roles or ("control_plane", "worker"), cache=cache, catalogue=catalogue, **options
    )


def test_image_tree(tmp_path: Path, catalogue: Catalogue, made: list[str]) -> None:
    (image,) = run(tmp_path, catalogue, "worker")
    path = Store(tmp_path, catalogue).path(image)
    manifest = json.loads(squashfs.read(path, "manifest.json") or "")
    assert manifest["schema"] == 1
    assert (manifest["kubernetes"], manifest["revision"]) == ("1.37.2", 1)
    assert (manifest["role"], manifest["arch"]) == ("worker", image.arch)
    assert manifest["components"] == {"go": "1.26.6", "kubernetes": "v1.37.2"}
    assert manifest["images"] == [
        {"name": "registry.k8s.io/kube-proxy:v1.37.2", "archive": "images/kube-proxy.tar"}
    ]
    kubelet, archive = manifest["files"]
    assert kubelet.pop("sha256") == squashfs.hash_of(path, "bin/kubelet")
    assert kubelet == {"path": "bin/kubelet", "size": 350_000, "mode": "0755", "source": "a test"}
    assert archive["path"] == "images/kube-proxy.tar"
    assert set(squashfs.listing(path)) == {"manifest.json", "bin/kubelet", "images/kube-proxy.tar"}


def test_parts_are_made_once_for_all_roles(
    tmp_path: Path, catalogue: Catalogue, made: list[str]
) -> None:
    images = run(tmp_path, catalogue)
    assert [image.role for image in images] == ["control_plane", "worker"]
    assert made == ["kubernetes"]
    assert run(tmp_path, catalogue, "worker") == images[1:]
    assert made == ["kubernetes"]


def test_same_inputs_same_digest(tmp_path: Path, catalogue: Catalogue, made: list[str]) -> None:
    first = run(tmp_path / "a", catalogue, "worker")
    second = run(tmp_path / "b", catalogue, "worker")
    assert first[0].digest == second[0].digest
    assert made == ["kubernetes", "kubernetes"]


def test_warm_build_is_quick_and_starts_no_program(
    tmp_path: Path, catalogue: Catalogue, made: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    run(tmp_path, catalogue)
    monkeypatch.setattr(subprocess, "Popen", None)
    started = time.monotonic()
    run(tmp_path, catalogue)
    assert time.monotonic() - started < 1


def test_deleted_image_is_packed_again_from_the_parts(
    tmp_path: Path, catalogue: Catalogue, made: list[str]
) -> None:
    (image,) = run(tmp_path, catalogue, "worker")
    Store(tmp_path).path(image).unlink()
    (again,) = run(tmp_path, catalogue, "worker")
    assert again.digest == image.digest
    assert made == ["kubernetes"]


def test_broken_index_is_set_aside(tmp_path: Path, catalogue: Catalogue, made: list[str]) -> None:
    run(tmp_path, catalogue, "worker")
    (tmp_path / "images/index.json").write_text("{")
    lines: list[str] = []
    run(tmp_path, catalogue, "worker", progress=lambda line, _: lines.append(line))
    assert (tmp_path / "images/index.json.broken").read_text() == "{"
    assert "not readable" in lines[0]
    assert len(Store(tmp_path).list()) == 1


def test_failed_packing_leaves_nothing_behind(
    tmp_path: Path, catalogue: Catalogue, made: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(tree: Path, target: Path, **_: Any) -> None:
        target.write_bytes(b"half")
        raise ImageError("packing failed.", "Run it again.")

    with monkeypatch.context() as patch:
        patch.setattr(squashfs, "pack", fail)
        with pytest.raises(ImageError, match="packing failed"):
            run(tmp_path, catalogue)
    assert Store(tmp_path).list() == []
    assert not list((tmp_path / "images").glob("**/*.squashfs"))
    assert len(run(tmp_path, catalogue)) == 2
    assert made == ["kubernetes"]


def test_what_a_killed_build_left_is_removed(
    tmp_path: Path, catalogue: Catalogue, made: list[str]
) -> None:
    for leftover in ("parts/.work-1-runc", "images/.work-1.37.2"):
        (tmp_path / leftover / "files").mkdir(parents=True)
        (tmp_path / leftover / "files/half").write_bytes(b"")
    run(tmp_path, catalogue, "worker")
    assert not list(tmp_path.glob("*/.work-*"))


def test_second_build_waits_for_the_first_and_finds_its_work(
    tmp_path: Path, catalogue: Catalogue, made: list[str]
) -> None:
    waiting = threading.Event()
    lines: list[str] = []

    def progress(line: str, _: float) -> None:
        lines.append(line)
        if "waiting" in line:
            waiting.set()

    results: list[Any] = []
    with file_lock(tmp_path / "build.lock"):
        threads = [
            threading.Thread(
                target=lambda: results.append(run(tmp_path, catalogue, progress=progress))
            )
            for _ in range(3)
        ]
        for thread in threads:
            thread.start()
        assert waiting.wait(10)
    for thread in threads:
        thread.join()
    assert made == ["kubernetes"]
    assert results[0] == results[1] == results[2]


def test_progress_is_words_and_seconds(
    tmp_path: Path, catalogue: Catalogue, made: list[str]
) -> None:
    said: list[tuple[str, float]] = []
    (image,) = run(tmp_path, catalogue, "worker", progress=lambda *line: said.append(line))
    line, seconds = said[-1]
    assert line.startswith(f"worker image {image.digest[:12]} (")
    assert " packed in " in line
    assert 0 < seconds < 60


@pytest.mark.parametrize("roles", [["workers"], []])
def test_unknown_role(tmp_path: Path, catalogue: Catalogue, roles: list[Any]) -> None:
    with pytest.raises(ImageError, match="control_plane, worker"):
        build("1.37", roles, cache=tmp_path, catalogue=catalogue)


def test_damaged_part_does_not_become_an_image(
    tmp_path: Path, catalogue: Catalogue, made: list[str]
) -> None:
    (image,) = run(tmp_path, catalogue, "worker")
    Store(tmp_path).path(image).unlink()
    (program,) = tmp_path.glob("parts/*/files/kubelet")
    data = bytearray(program.read_bytes())
    data[0] ^= 1
    program.write_bytes(data)
    with pytest.raises(ImageError, match="bin/kubelet differs from the manifest") as raised:
        run(tmp_path, catalogue, "worker")
    assert "removed: kubernetes." in raised.value.remedy
    (again,) = run(tmp_path, catalogue, "worker")
    assert again.digest == image.digest
    assert made == ["kubernetes", "kubernetes"]


def test_failed_recipe_ends_the_build_with_its_error(
    tmp_path: Path, catalogue: Catalogue, made: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: Any) -> None:
        raise ImageError("Compiling kubernetes failed.", "See the log.")

    monkeypatch.setattr(builder, "make_parts", fail)
    with pytest.raises(ImageError, match="See the log"):
        run(tmp_path, catalogue)
