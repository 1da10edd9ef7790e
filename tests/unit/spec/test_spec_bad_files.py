# SPDX-License-Identifier: Apache-2.0
"""Every file in tests/data/bad_specs is refused, with all its problems, in the right places."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import pytest
import yaml

from kubewright.image.catalogue import Catalogue
from kubewright.spec import kubelet, kubelet_fields, source
from kubewright.spec.errors import SpecError
from kubewright.spec.loading import check, load
from kubewright.spec.rules import Surroundings, Unresolved

BAD = Path(__file__).parents[2] / "data" / "bad_specs"
EXPECTED: dict[str, list[dict[str, Any]]] = yaml.safe_load((BAD / "expected.yml").read_text())


def resolve(version: str, _cluster: str) -> str:
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


NINE_LINES = "a0: &a0 [x]\n" + "".join(
    f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 9)}]\n" for n in range(1, 9)
)
NINE_MERGES = "a0: &a0 {x: 1}\n" + "".join(
    f"a{n}: &a{n} {{<<: [{', '.join([f'*a{n - 1}'] * 9)}]}}\n" for n in range(1, 9)
)
CHAIN = "a0: &a0 [x]\n" + "".join(f"a{n}: &a{n} [*a{n - 1}]\n" for n in range(1, 3000))


@pytest.mark.timeout(20)
@pytest.mark.parametrize(
    ("text", "line", "words"),
    [
        (NINE_LINES, 5, "with the alias \\*a3, aliases repeat more than 10,000 values; write"),
        (NINE_MERGES, 5, "with the alias \\*a3, aliases repeat more than 10,000 values; write"),
        (CHAIN, None, "aliases repeat more than 10,000 values; write"),
        ("a:\n  " + "[" * 3000 + "]" * 3000, 2, "nested more than 32 levels deep; reduce"),
        ("a:\n  " + "{b: " * 3000 + "}" * 3000, 2, "nested more than 32 levels deep; reduce"),
        ("".join(f"{' ' * n}a:\n" for n in range(3000)), 33, "nested more than 32 levels deep"),
    ],
    ids=["aliases", "merges", "chain", "lists", "mappings", "indented"],
)
def test_a_small_text_that_would_be_a_large_value(text: str, line: int | None, words: str) -> None:
    begun = time.process_time()
    with pytest.raises(SpecError, match=words) as caught:
        check(text, Path("cluster.yml"), Surroundings())
    assert time.process_time() - begun < 0.5
    assert line in (None, caught.value.problems[0].line)


def test_anchors_and_merges_of_a_common_size_are_read() -> None:
    text = "a: &a {x: [1, 2]}\nb: {<<: *a, y: *a}\n"
    assert source.parse(text)[0].data == {
        "a": {"x": [1, 2]},
        "b": {"x": [1, 2], "y": {"x": [1, 2]}},
    }


@pytest.mark.parametrize(
    "name",
    ["enableServer", "healthzBindAddress", "healthzPort", "port", "registerNode", "providerID"],
)
def test_what_a_node_needs_of_its_kubelet_can_not_be_set(name: str) -> None:
    with pytest.raises(SpecError) as caught:
        check(f"control_plane: {{kubelet_args: {{{name}: 0}}}}\n", Path("x"), Surroundings())
    field = f"control_plane.kubelet_args.{name}"
    (problem,) = (one for one in caught.value.problems if one.field == field)
    assert f"{name} can't be set: " in problem.message
    assert problem.remedy == f"remove {name}"


@pytest.mark.parametrize(
    ("duration", "taken"),
    [
        *((good, True) for good in ("30s", "1h15m", "1.5h", ".5s", "100us", "0", "-1s")),
        *((bad, False) for bad in ("30", "1 min", "s", "1d", "1h 2m", "", ".s")),
    ],
)
def test_durations_as_the_kubelet_reads_them(duration: str, taken: bool) -> None:
    where = ("kubelet_args", "syncFrequency")
    found = [*kubelet.findings(where, "syncFrequency", duration, "1.37")]
    assert [one.location for one in found] == ([] if taken else [where])


@pytest.mark.parametrize(
    ("taints", "taken"),
    [
        ([{"key": "dedicated", "value": "gpu", "effect": "NoSchedule"}], True),
        ([{"key": "dedicated", "effect": "NoExecute"}], True),
        ([{"key": "example.com/gpu", "value": "a_b.c", "effect": "NoSchedule"}], True),
        ([{"key": "dedicated", "value": "", "effect": "NoSchedule"}], True),
        ([{"key": "two words", "effect": "NoSchedule"}], False),
        ([{"key": "Example.com/gpu", "effect": "NoSchedule"}], False),
        ([{"key": "a/b/c", "effect": "NoSchedule"}], False),
        ([{"key": "k" * 64, "effect": "NoSchedule"}], False),
        ([{"key": "dedicated", "value": "two words", "effect": "NoSchedule"}], False),
        ([{"key": "dedicated", "value": "v" * 64, "effect": "NoSchedule"}], False),
        ([{"key": "dedicated"}], False),
        ([{"key": "", "effect": "NoSchedule"}], False),
        ([{"key": "dedicated", "effect": "Never"}], False),
        ([{"key": "dedicated", "effect": "NoSchedule", "operator": "Exists"}], False),
        ({"key": "dedicated"}, False),
    ],
)
def test_taints_as_the_kubelet_reads_them(taints: Any, taken: bool) -> None:
    found = [*kubelet.findings(("x",), "registerWithTaints", taints, "1.37")]
    assert all("write a list of taints, such as [{key: " in one.remedy for one in found)
    assert bool(found) is not taken


@pytest.mark.parametrize(("pods", "taken"), [(110, True), (253, True), (254, False)])
def test_a_node_has_an_address_for_each_pod(pods: int, taken: bool) -> None:
    found = [*kubelet.findings(("x",), "maxPods", pods, "1.37")]
    said = (
        "254 is more than a node has addresses for: its /24 of pod_cidr has 254, one of "
        "which the bridge uses"
    )
    assert [one.message for one in found] == ([] if taken else [said])
    assert [one.remedy for one in found] == ([] if taken else ["write 253 or less"])


@pytest.mark.parametrize(
    ("version", "said"),
    [
        ("1.37.2", ""),
        ("1.36", "the kubelet of Kubernetes 1.36 has no setting defaultPodSysctls"),
        # Told as a version, and its own fields nobody knows.
        ("1.99", ""),
        ("new", ""),
    ],
)
def test_each_minor_has_its_own_fields(version: str, said: str) -> None:
    where = ("kubelet_args", "defaultPodSysctls")
    found = [*kubelet.findings(where, "defaultPodSysctls", {"a": "1"}, version)]
    assert [one.message for one in found] == ([said] if said else [])
    assert [one.remedy for one in found] == (["remove it: only 1.37 has it"] if said else [])


def test_the_fields_of_every_minor_of_the_catalogue_are_known() -> None:
    releases = Catalogue.load().versions()
    assert set(kubelet_fields.minors()) == {version.rpartition(".")[0] for version in releases}
    for minor in kubelet_fields.minors():
        assert {"maxPods", *kubelet.OURS} <= kubelet_fields.fields(minor).keys()


def test_no_control_character_of_the_file_reaches_a_terminal() -> None:
    text = 'name: "de\\x1b[31mmo"\nversion: "1\\n2"\n"po\\x9bols": []\nplugin: "für"\n'
    with pytest.raises(SpecError) as caught:
        check(text, Path("cluster.yml"), Surroundings())
    told = str(caught.value)
    assert r"name: 'de\x1b[31mmo' is not" in told
    assert r"version: '1\n2' is not" in told
    assert r"po\x9bols: is not a known field" in told
    assert "'für' is not" in told
    assert not any(
        character < " " or "\x7f" <= character < "\xa0" for character in told.replace("\n", "")
    )
    assert len(told.splitlines()) == len(caught.value.problems)


@pytest.mark.parametrize("version", ["true", "false"])
def test_a_version_that_is_no_number(version: str) -> None:
    with pytest.raises(SpecError) as caught:
        check(f"version: {version}\n", Path("cluster.yml"), Surroundings())
    (problem,) = (one for one in caught.value.problems if one.field == "version")
    assert problem.message == f"is true or false ({version})"
    assert '"1.37"' in problem.remedy
    assert "zeros" not in str(problem)


def test_a_missing_file_names_what_tells_how_to_write_one(tmp_path: Path) -> None:
    with pytest.raises(SpecError, match=r"docs/cluster\.md"):
        load(tmp_path / "cluster.yml")
