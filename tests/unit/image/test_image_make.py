# SPDX-License-Identifier: Apache-2.0
"""Making parts: order, what is kept, and errors that end everything at once."""

from __future__ import annotations

import threading
from pathlib import Path
from typing import Any

import pytest

from kubewright.image import make
from kubewright.image.catalogue import Catalogue
from kubewright.image.commands import Commands
from kubewright.image.errors import ImageError
from kubewright.image.locked import Locked
from kubewright.image.parts import MadePart
from kubewright.image.recipes import debian, go, pause, toolchain
from kubewright.image.report import Report

RELEASE = Catalogue.load().release("1.37")
KEYS = {name: f"key-{name}" for name in RELEASE.parts}


@pytest.fixture
def recipes(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Recipes that write one small file; lists "fetch x", "compile x" and so on."""
    steps: list[str] = []

    def step(word: str) -> Any:
        def recipe(job: Any, *_: Any) -> dict[str, str]:
            steps.append(f"{word} {job.name}")
            (job.files / "file").write_text(job.name)
            return {"file": f"made of {job.name}"}

        return recipe

    monkeypatch.setattr(toolchain, "install", lambda *_: steps.append("toolchain"))
    monkeypatch.setattr(go, "fetch", step("fetch"))
    monkeypatch.setattr(go, "compile_", step("compile"))
    monkeypatch.setattr(debian, "make", step("make"))
    monkeypatch.setattr(pause, "make", step("make"))
    return steps


def make_parts(cache: Path, names: list[str], commands: Commands | None = None) -> None:
    locked = Locked(debian={name: {} for name in RELEASE.parts})
    keys = {name: KEYS[name] for name in names}
    report = Report(None)
    make.make_parts(RELEASE, keys, locked, "amd64", cache, commands or Commands(), report)


def test_all_parts_are_made_and_recorded(tmp_path: Path, recipes: list[str]) -> None:
    make_parts(tmp_path, list(RELEASE.parts))
    for name, key in KEYS.items():
        part = MadePart.find(tmp_path, key)
        assert part is not None
        (file,) = part.files
        assert (part.name, file.source, file.size) == (name, f"made of {name}", len(name))
        assert (part.root(tmp_path) / "file").read_text() == name
    assert sorted(path.name for path in (tmp_path / "parts").iterdir()) == sorted(KEYS.values())


def test_order(tmp_path: Path, recipes: list[str]) -> None:
    make_parts(tmp_path, ["coredns", "kubernetes", "runc"])
    assert recipes[0] == "toolchain"
    compiled = [step for step in recipes if step.startswith("compile")]
    assert compiled == ["compile runc", "compile kubernetes", "compile coredns"]
    assert recipes.index("fetch kubernetes") < recipes.index("compile kubernetes")


def test_trees_alone_need_no_toolchain(tmp_path: Path, recipes: list[str]) -> None:
    make_parts(tmp_path, ["load-balancer"])
    assert recipes == ["make load-balancer"]


def test_error_in_compiling_keeps_finished_parts(
    tmp_path: Path, recipes: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    good = go.compile_

    def compile_(job: Any) -> dict[str, str]:
        if job.name == "coredns":
            raise ImageError("Compiling coredns failed.", "See the log.")
        return good(job)

    monkeypatch.setattr(go, "compile_", compile_)
    with pytest.raises(ImageError, match="Compiling coredns failed"):
        make_parts(tmp_path, ["runc", "coredns"])
    assert [path.name for path in (tmp_path / "parts").iterdir()] == [KEYS["runc"]]


@pytest.mark.parametrize("failing", ["fetch", "make"])
def test_error_beside_a_compilation_ends_it(
    tmp_path: Path, recipes: list[str], monkeypatch: pytest.MonkeyPatch, failing: str
) -> None:
    compiling = threading.Event()

    def compile_(job: Any) -> dict[str, str]:
        compiling.set()
        # Stands for minutes of go: ends only because the error stops it.
        job.commands.run(["sleep", "600"], what="compiling", log=job.log)
        return {}

    def fail(job: Any, *_: Any) -> dict[str, str]:
        if job.name != "runc":
            assert compiling.wait(10)
            raise ImageError(f"{job.name} can't be reached.", "Check the network.")
        return {}

    monkeypatch.setattr(go, "compile_", compile_)
    monkeypatch.setattr(go if failing == "fetch" else debian, failing, fail)
    names = ["runc", "coredns" if failing == "fetch" else "load-balancer"]
    with pytest.raises(ImageError, match=rf"{names[1]} can't be reached"):
        make_parts(tmp_path, names)
    assert not list((tmp_path / "parts").iterdir())


def test_interrupt_stops_what_runs(
    tmp_path: Path, recipes: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupt(_: Any) -> dict[str, str]:
        raise KeyboardInterrupt

    monkeypatch.setattr(go, "compile_", interrupt)
    commands = Commands()
    with pytest.raises(KeyboardInterrupt):
        make_parts(tmp_path, ["runc"], commands)
    with pytest.raises(ImageError, match="Stopped"):
        commands.run(["true"], what="more", log=tmp_path / "log")
    assert not list((tmp_path / "parts").iterdir())
