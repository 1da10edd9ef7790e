# SPDX-License-Identifier: Apache-2.0
"""Output that is closed, full, or of an encoding without our characters: never a traceback."""

from __future__ import annotations

import json
import os
import shlex
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import yaml

from kubewright.cli.failures import described
from kubewright.cli.output import Format, serialised

pytestmark = pytest.mark.timeout(60)

#: The command with a status page that has marks, boxes and an umlaut.
STATUS = """\
import kubewright.cli.status as status
from kubewright.observe import Snapshot
status.troubles = lambda spec, snapshot, remedy: ("the node für-1 is not ready",)
status.tree = lambda spec, version, snapshot: "demo"
Snapshot.as_dict = lambda self: {}
status.take = lambda spec, paths: object.__new__(Snapshot)
from kubewright.cli import main
main()
"""


@dataclass(frozen=True)
class Shell:
    """Runs the command with redirections, as a person does."""

    directory: Path

    def __call__(
        self, words: str, *, program: str = "-m kubewright", encoding: str = "utf-8"
    ) -> subprocess.CompletedProcess[bytes]:
        return subprocess.run(
            ["sh", "-c", f"exec {shlex.quote(sys.executable)} {program} {words}"],
            cwd=self.directory,
            env={**os.environ, "PYTHONIOENCODING": encoding},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            check=False,
        )


@pytest.fixture
def shell(world: Any) -> Shell:
    (world.directory / "status.py").write_text(STATUS)
    return Shell(world.directory)


# A start of the command takes a second: each kind of output and each fault, not all pairs of them.
@pytest.mark.parametrize(
    ("form", "redirection", "words"),
    [
        ("text", ">/dev/full", b"can't write the result to stdout: No space left on device"),
        ("json", ">/dev/full", b"can't write the result to stdout: No space left on device"),
        ("text", ">&-", b"stdout is closed"),
        ("yaml", "1</dev/null", b"can't write the result to stdout: Bad file descriptor"),
    ],
)
def test_stdout_that_takes_nothing(shell: Shell, form: str, redirection: str, words: bytes) -> None:
    ended = shell(f"validate -o {form} {redirection}")
    assert ended.returncode == 1
    assert ended.stderr.startswith(b"Error: " + words)
    assert len(ended.stderr.splitlines()) == 1
    assert b"Traceback" not in ended.stderr
    assert b"Exception ignored" not in ended.stderr
    assert b"please report" not in ended.stderr


@pytest.mark.parametrize("words", ["validate --help", "schema"])
def test_stdout_that_takes_no_help(shell: Shell, words: str) -> None:
    ended = shell(f"{words} >/dev/full")
    assert ended.returncode == 1
    assert ended.stderr.startswith(b"Error: ")
    said, *remedy = ended.stderr.splitlines()
    assert b"stdout" in said and b"No space left on device" in said
    assert remedy in ([], [b"Free some space (`df -h`), then run the command again."])


def test_stdout_that_takes_no_log(world: Any, shell: Shell) -> None:
    directory = world.paths.runs / "20260101T030405-00000001"
    directory.mkdir(parents=True)
    (directory / "log.txt").write_text("a line\n" * 100_000)
    ended = shell("logs >/dev/full")
    assert ended.returncode == 1
    assert ended.stderr == b"Error: can't write the result to stdout: No space left on device\n"
    ended = shell("logs | head -n 1")
    assert (ended.stdout, ended.stderr) == (b"a line\n", b"")


@pytest.mark.parametrize(
    ("words", "redirection"),
    [
        ("validate", "2>/dev/full"),
        ("validate", "2>&-"),
        ("validate", ">&- 2>&-"),
        ("validate -f nothing.yml -o json", "2>&-"),
        ("validate -f nothing.yml -o json", ">/dev/full 2>&1"),
        ("nonsense", "2>/dev/full"),
    ],
)
def test_stderr_that_takes_nothing(shell: Shell, words: str, redirection: str) -> None:
    ended = shell(f"{words} {redirection}")
    assert ended.returncode in (0, 1, 2)
    assert (ended.returncode == 0) is (words == "validate" and redirection.startswith("2>"))
    assert ended.stderr == b""
    assert b"Traceback" not in ended.stdout


def test_a_closed_stdin_can_not_say_yes(shell: Shell) -> None:
    ended = shell("apply <&-")
    assert ended.returncode == 4
    assert b"stdin is not a terminal" in ended.stderr


@pytest.mark.parametrize("encoding", ["latin-1", "utf-8"])
def test_every_encoding_is_told_the_status(shell: Shell, encoding: str) -> None:
    ended = shell("status", program="status.py", encoding=encoding)
    assert ended.returncode == 3, ended.stderr
    assert b"is not ready" in ended.stdout
    assert (b"\\u2717" in ended.stdout) is (encoding != "utf-8")
    for form, parse in (("json", json.loads), ("yaml", yaml.safe_load)):
        ended = shell(f"status -o {form}", program="status.py", encoding=encoding)
        assert ended.returncode == 3, ended.stderr
        told = parse(ended.stdout.decode(encoding))
        assert told["troubles"] == ["the node für-1 is not ready"]


@pytest.mark.parametrize(
    ("form", "parse"), [(Format.JSON, json.loads), (Format.YAML, yaml.safe_load)]
)
def test_documents_are_right_in_every_encoding(form: Format, parse: Callable[[str], Any]) -> None:
    data = {"name": "für 🦀 ✗"}
    text = serialised(data, form)
    assert text.isascii()
    assert parse(text) == data


def test_a_write_that_fails_is_no_fault_of_ours(world: Any) -> None:
    remedy = "Free some space (`df -h`), then run the command again."
    told = described(OSError(28, "No space left on device"))
    near = f"stdout, {world.directory / 'state'} or {world.directory / 'cache'}"
    assert told.message == f"{near}: No space left on device"
    assert (told.remedy, told.code) == (remedy, 1)
    told = described(OSError(122, "Disk quota exceeded", "/x/y"))
    assert (told.message, told.remedy) == ("/x/y: Disk quota exceeded", remedy)
    told = described(OSError(13, "no", "/x"))
    assert (told.message, told.remedy) == ("/x: no", "")
    assert described(OSError(5, "Input/output error")).message == "Input/output error"


def test_hints_can_be_pasted(world: Any, recorded: Any, command: Callable[..., Any]) -> None:
    file = world.directory / "two words" / "cluster.yml"
    file.parent.mkdir()
    file.write_text(world.file.read_text())
    quoted = shlex.quote(str(file))
    assert f"kubewright apply -f {quoted} starts" in command("history", "list", "-f", str(file)).err
    assert f"kubewright apply -f {quoted} starts" in command("history", "show", "-f", str(file)).err
    ended = command("apply", "--yes", "-f", str(file))
    assert f"kubewright kubeconfig -f {quoted} > " in ended.out
