# SPDX-License-Identifier: Apache-2.0
"""Whatever happens to either side, its machines are removed; with scripts in place of the real."""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import by_hand
import cluster
import ours
import pytest
from measured import Timed
from telling import Failed

SCRIPT = """\
#!/usr/bin/env bash
removed() {{ echo "$1" >>{log}; }}
trap 'removed by-its-trap' EXIT
trap 'exit 143' TERM
[ "${{1:-}}" != remove ] || {{ trap - EXIT; removed asked; exit 0; }}
echo begun >>{log}
{body}
"""


class Script:
    """In the place of by_hand.sh; ``log`` has what it did."""

    def __init__(self, directory: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self._file = directory / "by_hand.sh"
        self._log = directory / "log"
        monkeypatch.setattr(by_hand, "SCRIPT", self._file)

    def does(self, body: str) -> None:
        self._file.write_text(SCRIPT.format(log=self._log, body=body))

    @property
    def log(self) -> list[str]:
        return self._log.read_text().split() if self._log.exists() else []


@pytest.fixture
def script(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Script:
    return Script(tmp_path, monkeypatch)


def test_by_hand_to_its_end(script: Script) -> None:
    script.does("echo noise >&2; echo phase init 1.5; echo total 2.5")
    assert by_hand.run() == Timed(2.5, {"init": 1.5})
    assert script.log == ["begun", "by-its-trap"]


def test_by_hand_that_fails_says_what_the_script_said(script: Script) -> None:
    script.does("echo the second one did not join >&2; exit 7")
    with pytest.raises(Failed, match=r"status 7\nthe second one did not join"):
        by_hand.run()


def test_by_hand_that_hangs_is_ended_with_what_it_waits_for(
    script: Script, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(by_hand, "LIMIT", 1.0)
    script.does("sleep 60; echo total 60.0")
    begun = time.monotonic()
    with pytest.raises(Failed, match="not ended after 1 s"):
        by_hand.run()
    assert time.monotonic() - begun < 30
    assert script.log == ["begun", "by-its-trap", "asked"]


@pytest.fixture
def interruptible() -> Iterator[None]:
    """SIGINT interrupts, also where these tests were begun by a shell that had it ignored."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.mark.usefixtures("interruptible")
def test_by_hand_that_is_interrupted(script: Script) -> None:
    script.does("sleep 60; echo total 60.0")

    def interrupt() -> None:
        deadline = time.monotonic() + 30
        while script.log != ["begun"] and time.monotonic() < deadline:
            time.sleep(0.01)
        os.kill(os.getpid(), signal.SIGINT)

    thread = threading.Thread(target=interrupt)
    thread.start()
    with pytest.raises(KeyboardInterrupt):
        by_hand.run()
    thread.join()
    assert script.log == ["begun", "by-its-trap", "asked"]


@pytest.fixture
def commands(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A file with the words of each command that was run; ``fail`` beside it fails one."""
    log = tmp_path / "commands"
    command = tmp_path / "kubewright"
    command.write_text(
        f'#!/bin/sh\ncd {tmp_path}\necho "$@" >>{log}\nif [ -e fail ]; then rm fail; exit 1; fi\n'
    )
    command.chmod(0o755)
    monkeypatch.setattr(cluster, "COMMAND", command)
    return log


@pytest.mark.parametrize("error", [KeyboardInterrupt, AssertionError])
def test_our_cluster_is_removed_whatever_happens(
    tmp_path: Path, commands: Path, error: type[BaseException]
) -> None:
    with pytest.raises(error), ours.fresh(tmp_path / "one") as made:
        assert made.name == "kwbench"
        assert commands.read_text() == "destroy --yes\n"
        raise error
    assert commands.read_text() == "destroy --yes\n" * 2


def test_removing_is_tried_again(tmp_path: Path, commands: Path) -> None:
    with ours.fresh(tmp_path / "one"):
        (tmp_path / "fail").touch()
    assert commands.read_text() == "destroy --yes\n" * 3
