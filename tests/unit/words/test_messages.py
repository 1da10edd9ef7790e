# SPDX-License-Identifier: Apache-2.0
"""The list of all messages, which is read aloud when one changes."""

from __future__ import annotations

import re
import sys
from pathlib import Path

import pytest

sys.path.append(str(Path(__file__).resolve().parents[3] / "tools"))

import messages

#: A text of each kind, planted into a tree like ours.
PLANTED = {
    "orchestrator/src/kubewright/cli/one.py": (
        '"""A docstring is not shown."""\n'
        "def fail(node, why):\n"
        '    """Neither is this one."""\n'
        '    yield Error(f"the node {node.name} does not answer: "\n'
        '                f"{\', \'.join(why)}", remedy="Power it on.")\n'
    ),
    "plugins/modules/two.py": (
        'DOCUMENTATION = r"""\n'
        "short_description: Reboot one machine\n"
        "options:\n"
        "  timeout: {description: Seconds to wait for the reboot.}\n"
        '"""\n'
        'module.fail_json(msg="The machine was not " + what)\n'
    ),
    "roles/three/tasks/main.yml": (
        "- name: Drain\n"
        "  ansible.builtin.assert:\n"
        "    that: it is not gone\n"
        "    fail_msg: The node {{ name }} is not drained.\n"
    ),
    "roles/three/meta/argument_specs.yml": (
        "argument_specs:\n  main:\n    options:\n"
        "      three_grace: {type: int, description: Seconds to leave.}\n"
    ),
    "roles/three/refusals.yml": "- pattern: no such host at all\n  text: Its name is unknown.\n",
    "roles/three/files/run.sh": 'echo "the network is missing" >&2\n',
    "docs/schema/four.json": '{"properties": {"size": {"description": "Number of nodes."}}}',
    "Makefile": "up: install ## A cluster on this machine\n",
}
FOUND = {
    "orchestrator/src/kubewright/cli/one.py": [
        "Power it on.",
        "the node {name} does not answer: {why}",
    ],
    "plugins/modules/two.py": [
        "Reboot one machine",
        "Seconds to wait for the reboot.",
        "The machine was not {what}",
    ],
    "roles/three/tasks/main.yml": ["Drain", "The node {{ name }} is not drained."],
    "roles/three/meta/argument_specs.yml": ["Seconds to leave."],
    "roles/three/refusals.yml": ["Its name is unknown."],
    "roles/three/files/run.sh": ["the network is missing"],
    "docs/schema/four.json": ["Number of nodes."],
    "Makefile": ["make up: A cluster on this machine"],
}


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    """A tree with a text of each kind."""
    for name, text in PLANTED.items():
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return tmp_path


def test_the_list_is_current() -> None:
    """Read aloud what `make messages` changes in it, and rewrite what makes you stop."""
    assert messages.LIST.read_text() == messages.text(), "run `make messages`"


def test_a_text_of_each_kind_is_found(tree: Path) -> None:
    assert messages.entries(tree) == FOUND


@pytest.mark.parametrize("name", sorted(FOUND))
def test_each_text_that_changes_changes_the_list(tree: Path, name: str) -> None:
    before = messages.entries(tree)
    path = tree / name
    for text in FOUND[name]:
        word = text.replace("make up: ", "").split()[0]
        path.write_text(re.sub(rf"\b{word}\b", f"{word}s", PLANTED[name], count=1))
        after = messages.entries(tree)
        assert after[name] != before[name], text
        assert {**after, name: before[name]} == before


def test_each_command_and_option_is_there() -> None:
    told = dict(messages.of_command())
    assert "  --yes/-y: Do not ask for confirmation." in told["kubewright apply"]
    assert told["kubewright node image gc"][0].startswith("Remove images from nodes")


@pytest.mark.parametrize("text", ["", "## plugins/modules/two.py\n"])
def test_a_list_that_differs_is_refused(
    text: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(messages, "ROOT", tmp_path)
    monkeypatch.setattr(messages, "LIST", tmp_path / "messages.txt")
    messages.LIST.write_text(text)
    monkeypatch.setattr(sys, "argv", ["messages.py", "--check"])
    assert messages.main() == 1
    assert "run `make messages`" in capsys.readouterr().out
    monkeypatch.setattr(sys, "argv", ["messages.py"])
    assert messages.main() == 0
    monkeypatch.setattr(sys, "argv", ["messages.py", "--check"])
    assert messages.main() == 0
