# SPDX-License-Identifier: Apache-2.0
"""Every file in tests/data/bad_specs is refused, with all its problems, in the right places."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml

from kubewright.spec.errors import SpecError
from kubewright.spec.loading import check, load
from kubewright.spec.rules import Surroundings, Unresolved

BAD = Path(__file__).parents[2] / "data" / "bad_specs"
EXPECTED: dict[str, list[dict[str, Any]]] = yaml.safe_load((BAD / "expected.yml").read_text())


def resolve(version: str) -> str:
    if version.startswith("1.37"):
        return "1.37.2"
    raise Unresolved(f"there is no Kubernetes {version}", "choose 1.37")


def problems(file: Path) -> list[Any]:
    around = Surroundings(providers={"local"}, resolve=resolve)
    with pytest.raises(SpecError) as caught:
        check(file.read_text(), file, around)
    return list(caught.value.problems)


def test_the_table_names_every_file() -> None:
    files = {file.name for file in BAD.glob("*.yml")} - {"expected.yml"}
    assert files == set(EXPECTED)
    assert len(files) > 30


@pytest.mark.parametrize("name", sorted(EXPECTED))
def test_a_bad_file(name: str) -> None:
    found = problems(BAD / name)
    places = [(problem.line, problem.column, problem.field) for problem in found]
    assert places == [(want["line"], want["column"], want["field"]) for want in EXPECTED[name]]
    for problem, want in zip(found, EXPECTED[name], strict=True):
        assert want["message"] in problem.message
        assert want["remedy"] in problem.remedy
        assert problem.remedy, "every problem says what to write instead"
        assert str(problem).startswith(f"{BAD / name}:{problem.line}:{problem.column}: ")


def test_no_message_shows_the_words_of_a_library() -> None:
    for name in EXPECTED:
        for problem in problems(BAD / name):
            assert "Input should" not in str(problem)
            assert "pydantic" not in str(problem)


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda path: None, "there is no such file"),
        (lambda path: path.mkdir(), "is a directory"),
        (lambda path: path.write_bytes(b"name: \xff\xfe"), "is not UTF-8"),
    ],
)
def test_a_file_that_cannot_be_read(tmp_path: Path, make: Any, words: str) -> None:
    path = tmp_path / "cluster.yml"
    make(path)
    with pytest.raises(SpecError, match=words):
        load(path, known_providers={"local"})


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("a: &x [*x]", "alias that contains itself"),
        ("a: 2026-02-31", "day is out of range"),
        ("? [a]\n: 1", "is not text"),
        ("a: !secret x", "could not determine a constructor"),
        ("a: \x07", "U\\+0007"),
    ],
)
def test_yaml_that_no_field_can_hold(text: str, words: str) -> None:
    with pytest.raises(SpecError, match=words):
        check(text, Path("cluster.yml"), Surroundings())
