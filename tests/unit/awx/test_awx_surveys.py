# SPDX-License-Identifier: Apache-2.0
"""The questions that are made of argument specs."""

from __future__ import annotations

from pathlib import Path

import awx_surveys
import pytest
import yaml

SPECS = """
argument_specs:
  main:
    options:
      a_number: {type: int, default: 3, description: How many.}
      a_switch: {type: bool, default: false, description: [Whether., Or V(none).]}
      a_choice: {type: str, default: a, choices: [a, b], description: Which.}
      a_text: {type: str, default: x, description: What.}
      a_port: {type: int, default: 7443, description: All roles agree on it.}
      a_template: {type: str, default: "{{ other }}", description: Not known beforehand.}
      a_list: {type: list, elements: str, default: [x], description: Not flat.}
      a_dict: {type: dict, default: {}, description: Not flat.}
      a_required: {type: str, required: true, description: The play gives it.}
"""


@pytest.fixture
def questions(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, dict[str, object]]:
    meta = tmp_path / "role" / "meta"
    meta.mkdir(parents=True)
    (meta / "argument_specs.yml").write_text(SPECS)
    monkeypatch.setattr(awx_surveys, "SURVEYS", {"one": {"role": "main"}})
    monkeypatch.setattr(awx_surveys, "OWN", {})
    spec = awx_surveys.surveys(tmp_path)["one"]["spec"]
    return {each["variable"]: each for each in spec}


def test_flat_options_are_asked_in_awx_words(questions: dict[str, dict[str, object]]) -> None:
    assert {name: each["type"] for name, each in questions.items()} == {
        "a_number": "integer",
        "a_switch": "multiplechoice",
        "a_choice": "multiplechoice",
        "a_text": "text",
    }
    assert questions["a_switch"]["choices"] == ["true", "false"]
    assert questions["a_choice"]["choices"] == ["a", "b"]
    assert questions["a_switch"]["question_description"] == (
        "Whether. Or none. Empty: as the inventory says, else false."
    )


def test_no_answer_leaves_the_inventory_as_it_is(questions: dict[str, dict[str, object]]) -> None:
    for each in questions.values():
        assert each["required"] is False
        assert "default" not in each


def test_a_change_is_seen_and_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    target = tmp_path / "surveys.yml"
    target.write_text("other")
    monkeypatch.setattr(awx_surveys, "FILE", target)
    monkeypatch.setattr("sys.argv", ["awx_surveys.py", "--check"])
    assert awx_surveys.main() == 1
    assert "make surveys" in capsys.readouterr().out
    assert target.read_text() == "other"
    monkeypatch.setattr("sys.argv", ["awx_surveys.py"])
    assert awx_surveys.main() == 0
    assert yaml.safe_load(target.read_text())["kubewright_awx_surveys"]["site"]["spec"]
    monkeypatch.setattr("sys.argv", ["awx_surveys.py", "--check"])
    assert awx_surveys.main() == 0
