# SPDX-License-Identifier: Apache-2.0
"""Text from machines, without what would command a terminal."""

from __future__ import annotations

import time

import pytest

from kubewright.act.messages import failure_message, plain, system_error


@pytest.mark.parametrize(
    "sequence",
    [
        "\x1b[1;31m",
        "\x1b[?25l",
        "\x1b[>4;2m",
        "\x1b[2 q",
        "\x1b[3~",
        "\x9b31m",
        "\x1b]0;a title\x07",
        "\x1b]8;;http://x\x1b\\",
        "\x9d52;c;eA==\x9c",
        "\x1bPq#0\x1b\\",
        "\x1b^private\x1b\\",
        "\x1b_command\x1b\\",
        "\x1bXstring\x1b\\",
        "\x1bc",
        "\x1b(B",
        "\x1b7",
        "\x00\x07\x08\x0b\x0c\x0e\x1f\x7f",
        "\x84\x85\x9c",
        "\x1b\x1b[31m",
        "\x1b[\x1b[31m",
    ],
)
def test_what_a_terminal_obeys_goes(sequence: str) -> None:
    assert plain(f"a{sequence}b") == "ab"


def test_blanks_line_ends_and_letters_stay() -> None:
    assert plain("a\tb\r\nc\rd\ne [31m für ✗\xa0") == "a\tb\nc\nd\ne [31m für ✗\xa0"


@pytest.mark.parametrize("begin", ["\x1b]0;", "\x9d", "\x1bP", "\x1b["])
def test_a_sequence_without_its_end_hides_no_line(begin: str) -> None:
    assert plain(f"{begin}\nthe disk is full").endswith("\nthe disk is full")
    begun = time.process_time()
    assert "\x1b" not in plain(begin * 100_000)
    assert time.process_time() - begun < 2


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (OSError(28, "No space left on device"), "/near: No space left on device"),
        (OSError(28, "No space left on device", "/x"), "/x: No space left on device"),
        (OSError(122, "Disk quota exceeded"), "/near: Disk quota exceeded"),
        (OSError(5, "Input/output error"), "Input/output error"),
        (OSError("a sentence"), ""),
    ],
)
def test_a_full_disk_has_a_place(error: OSError, said: str) -> None:
    assert system_error(error, "/near") == said


def test_podmans_own_words_are_told() -> None:
    result = {
        "msg": "Container kubewright-a exited with code 125 when created",
        "stdout": "",
        "stderr": "Error: statfs /x: no such file or directory\n",
    }
    assert failure_message(result) == (
        "Container kubewright-a exited with code 125 when created: "
        "Error: statfs /x: no such file or directory"
    )
