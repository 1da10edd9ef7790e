# SPDX-License-Identifier: Apache-2.0
"""logs; what the shell completes; complaints about the command line as a document."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from kubewright.act import Failure, failures
from kubewright.act.remedies import remedy
from kubewright.cli.options import complete_file
from kubewright.store import Journal, Started

RUNS = ["20260101T030405-00000001", "20260102T030405-00000002"]
LOG = """\
TASK [Load :smile: [the] images] ***
fatal: [demo-cp-1]: FAILED! => {"msg": "No space left on device"}
"""


@pytest.fixture
def runs(world: Any) -> None:
    """Two runs: an older one that failed, and one whose log is not kept."""
    journal = Journal(world.paths.journal)
    world.paths.runs.mkdir(parents=True)
    for run in RUNS:
        journal.started(Started(run, "kubewright.cluster.site", "apply", 1, 1, "boot", "2026"))
    journal.finished(RUNS[0], "failed")
    (world.paths.runs / RUNS[0]).mkdir()
    (world.paths.runs / RUNS[0] / "log.txt").write_text(LOG)
    failed = Failure("demo-cp-1", "Load :smile: [the] images", "No space left on device")
    failures.write(world.paths.runs / RUNS[0] / "failures.jsonl", [failed])


def test_the_log_as_it_is(runs: None, command: Callable[..., Any]) -> None:
    ended = command("logs", "20260101")
    assert (ended.code, ended.out) == (0, LOG)
    told = json.loads(command("logs", RUNS[0], "-o", "json").out)
    assert (told["run"], told["status"]) == (RUNS[0], "failed")
    assert told["lines"] == LOG.splitlines()


@pytest.mark.parametrize("end", ["", "\n"])
def test_a_line_ends_with_a_line_feed_alone(
    world: Any, runs: None, command: Callable[..., Any], monkeypatch: pytest.MonkeyPatch, end: str
) -> None:
    text = "ok\x85a\u2028b\x0cc\rd\n\n:smile: [red] für" + end
    (world.paths.runs / RUNS[0] / "log.txt").write_bytes(text.encode())
    monkeypatch.setattr("kubewright.cli.logs.BLOCK", 3)
    assert command("logs", RUNS[0]).out == text.removesuffix("\n") + "\n"
    told = json.loads(command("logs", RUNS[0], "-o", "json").out)
    assert told["lines"] == text.removesuffix("\n").split("\n")


def test_a_log_that_cannot_be_read(world: Any, runs: None, command: Callable[..., Any]) -> None:
    log = world.paths.runs / RUNS[0] / "log.txt"
    log.unlink()
    log.mkdir()
    for words in ((), ("-o", "json")):
        ended = command("logs", RUNS[0], *words)
        assert ended.code == 1
        assert f"Error: {log}: Is a directory" in ended.err


def test_only_what_failed(runs: None, command: Callable[..., Any]) -> None:
    words = remedy("No space left on device")
    ended = command("logs", RUNS[0], "--failed")
    assert ended.out.splitlines() == [
        "demo-cp-1: Load :smile: [the] images",
        "  No space left on device",
        f"  {words}",
    ]
    told = yaml.safe_load(command("logs", RUNS[0], "--failed", "-o", "yaml").out)
    assert told["failures"] == [
        {
            "host": "demo-cp-1",
            "task": "Load :smile: [the] images",
            "message": "No space left on device",
            "remedy": words,
        }
    ]


def test_a_run_in_which_nothing_failed(world: Any, runs: None, command: Callable[..., Any]) -> None:
    failures.write(world.paths.runs / RUNS[0] / "failures.jsonl", [])
    ended = command("logs", RUNS[0], "--failed", "-o", "json")
    assert (ended.code, json.loads(ended.out)["failures"]) == (0, [])
    assert f"no task failed in the run {RUNS[0]} (failed)" in ended.err


def test_a_run_that_failed_before_any_task(
    world: Any, runs: None, command: Callable[..., Any]
) -> None:
    why = "[ERROR]: the playbook could not be found"
    failures.write(world.paths.runs / RUNS[0] / "failures.jsonl", [Failure("", "", why)])
    ended = command("logs", RUNS[0], "--failed")
    assert (ended.code, ended.err) == (0, "")
    assert ended.out == f"before any task\n  {why}\n"
    told = json.loads(command("logs", RUNS[0], "--failed", "-o", "json").out)
    assert told["failures"] == [{"host": "", "task": "", "message": why, "remedy": ""}]


def test_what_failed_in_a_run_of_an_older_version_is_in_its_log(
    world: Any, runs: None, command: Callable[..., Any]
) -> None:
    record = world.paths.runs / RUNS[0] / "failures.jsonl"
    record.unlink()
    ended = command("logs", RUNS[0], "--failed")
    assert ended.code == 1
    assert f"{RUNS[0]} (failed) is not recorded" in ended.err
    assert str(record.with_name("log.txt")) in ended.err
    record.write_text('{"schema": 2}\n')
    assert "failures.jsonl does not have schema 1" in command("logs", RUNS[0], "--failed").err


def test_what_has_failed_in_a_run_that_was_killed(
    world: Any, runs: None, command: Callable[..., Any]
) -> None:
    directory = world.paths.runs / RUNS[1]
    directory.mkdir()
    (directory / "log.txt").write_text("TASK [T] ***\n")
    assert json.loads(command("logs", "--failed", "-o", "json").out)["failures"] == []
    failures.add(directory / "failures.jsonl", Failure("a", "T", "the first\u2028line"))
    with (directory / "failures.jsonl").open("a") as file:
        file.write('{"host": "b", "ta')
    (told,) = json.loads(command("logs", "--failed", "-o", "json").out)["failures"]
    assert (told["host"], told["message"]) == ("a", "the first\u2028line")
    assert (directory / "failures.jsonl").stat().st_mode & 0o777 == 0o600


def test_the_newest_by_default_and_a_log_that_is_gone(
    runs: None, command: Callable[..., Any]
) -> None:
    ended = command("logs")
    assert (ended.code, ended.out) == (1, "")
    assert f"the run {RUNS[1]} (unfinished) has no log" in ended.err


@pytest.mark.parametrize(("word", "code"), [("2025", 2), ("2026", 2)])
def test_a_run_that_nobody_knows(
    runs: None, command: Callable[..., Any], word: str, code: int
) -> None:
    assert command("logs", word).code == code


def completed(
    command: Callable[..., Any], monkeypatch: pytest.MonkeyPatch, *words: str
) -> list[str]:
    """What bash is offered for the last word."""
    monkeypatch.setenv("COMP_WORDS", " ".join(["kubewright", *words]))
    monkeypatch.setenv("COMP_CWORD", str(len(words)))
    monkeypatch.setenv("_KUBEWRIGHT_COMPLETE", "complete_bash")
    return list(command().out.split())


def test_the_shell_completes_runs(
    world: Any, runs: None, command: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    assert completed(command, monkeypatch, "logs", "2026") == RUNS[::-1]
    assert completed(command, monkeypatch, "history", "show", RUNS[0][:8]) == [RUNS[0]]
    other = world.directory / "other.yml"
    other.write_text(world.file.read_text().replace("demo", "other"))
    assert completed(command, monkeypatch, "logs", "-f", str(other), "2026") == []
    assert completed(command, monkeypatch, "logs", "-f", "nothing.yml", "2026") == []


@pytest.mark.parametrize("what", ["runs.known_runs", "reset.known_nodes"])
def test_a_fault_completes_nothing(
    world: Any,
    runs: None,
    command: Callable[..., Any],
    monkeypatch: pytest.MonkeyPatch,
    what: str,
) -> None:
    def broken(*_: object) -> None:
        raise ZeroDivisionError("by zero")

    words = ("logs", "2026") if what.startswith("runs") else ("reset", "--node", "demo")
    assert completed(command, monkeypatch, *words) != []
    monkeypatch.setattr(f"kubewright.cli.{what}", broken)
    assert completed(command, monkeypatch, *words) == []


def test_the_shell_completes_commands_and_files(
    world: Any, command: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    assert completed(command, monkeypatch, "lo") == ["logs"]
    assert completed(command, monkeypatch, "plan", "-f", "cl") == ["cluster.yml"]


def test_files_that_are_offered(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "deep" / "er").mkdir(parents=True)
    for name in ("a.yml", "a.txt", ".hidden.yml", "deep/b.yaml", "deep/c.json"):
        (tmp_path / name).write_text("")
    monkeypatch.chdir(tmp_path)
    assert complete_file("") == ["a.yml", "deep/"]
    assert complete_file("d") == ["deep/b.yaml", "deep/er/"]
    assert complete_file(f"{tmp_path}/a") == [f"{tmp_path}/a.yml"]
    assert complete_file(".h") == [".hidden.yml"]
    assert complete_file("deep/er/") == []
    assert complete_file("nowhere/x") == []


@pytest.mark.parametrize(
    ("words", "said", "remedy"),
    [
        ("nonsense -o FORM", "nonsense", "kubewright --help"),
        ("validate --nonsense -o FORM", "--nonsense", "kubewright validate --help"),
        ("logs -o FORM --file", "requires an argument", "kubewright --help"),
        ("history list -o FORM --last many", "--last", "kubewright history list --help"),
        ("history -o FORM", "-o", "kubewright history --help"),
    ],
)
@pytest.mark.parametrize(("form", "parse"), [("json", json.loads), ("yaml", yaml.safe_load)])
def test_a_program_is_told_what_is_wrong_with_its_words(
    command: Callable[..., Any],
    words: str,
    said: str,
    remedy: str,
    form: str,
    parse: Callable[[str], Any],
) -> None:
    ended = command(*words.replace("FORM", form).split())
    assert ended.code == 2
    error = parse(ended.out)["error"]
    assert error["exit_code"] == 2
    assert said in error["message"]
    assert remedy in error["remedy"]
    assert f"Error: {error['message']}" in ended.err


def test_the_ends_of_commands_are_the_same_for_a_program(
    world: Any, command: Callable[..., Any]
) -> None:
    assert command("validate", "-o", "json", "--help").code == 0
    assert command("validate", "-o", "json", "-f", "nothing.yml").code == 2
    assert command("validate", "-o", "json").code == 0


def test_the_schema_in_another_form(command: Callable[..., Any]) -> None:
    assert yaml.safe_load(command("schema", "-o", "yaml").out) == json.loads(command("schema").out)
