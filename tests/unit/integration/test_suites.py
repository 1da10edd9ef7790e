# SPDX-License-Identifier: Apache-2.0
"""Which of the longer suites CI runs: what changed, whose turn it is, what fits."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).resolve().parents[3]
sys.path.append(str(REPOSITORY / "tools"))
import suites  # noqa: E402
from suites import Success, Suite  # noqa: E402

VOLUMES = Suite("volumes", 1200.0, ["roles/system_volume/*", "plugins/*_volume*"])
DRIFT = Suite("drift", 600.0, ["plugins/*"])
DISKS = Suite("disks", 60.0, ["tests/unit/plugins/loops.py"])
TABLE = [VOLUMES, DRIFT, DISKS]
EVERYTHING = ["roles/system_volume/tasks/main.yml", "plugins/x.py", "tests/unit/plugins/loops.py"]


def turns(changed: list[str], passed: dict[str, Success]) -> list[tuple[str, float]]:
    return [(suite.name, seconds) for suite, seconds in suites.waiting(TABLE, changed, passed)]


def test_only_suites_of_what_changed_wait() -> None:
    assert turns(["docs/cluster.md"], {}) == []
    assert turns(["docs/cluster.md", "plugins/module_utils/_kube/client.py"], {}) == [
        ("drift", 600.0)
    ]
    assert turns(["plugins/module_utils/_volume/plan.py"], {}) == [
        ("volumes", 1200.0),
        ("drift", 600.0),
    ]


def test_on_a_new_machine_the_tables_order_counts() -> None:
    assert [name for name, _ in turns(EVERYTHING, {})] == ["volumes", "drift", "disks"]


def test_one_that_never_passed_comes_first_then_the_oldest_success() -> None:
    passed = {"volumes": Success(at=200.0, seconds=900.0), "drift": Success(at=100.0, seconds=1.0)}
    assert turns(EVERYTHING, passed) == [("disks", 60.0), ("drift", 1.0), ("volumes", 900.0)]


def test_the_first_that_fits_runs_and_a_long_one_does_not_hold_up_others() -> None:
    waiting = suites.waiting(TABLE, EVERYTHING, {})
    assert suites.first_that_fits(waiting, 1200.0) == VOLUMES
    assert suites.first_that_fits(waiting, 1199.0) == DRIFT
    assert suites.first_that_fits(waiting, 100.0) == DISKS
    assert suites.first_that_fits(waiting, 59.0) is None


@pytest.mark.parametrize(("used", "left"), [(0, 40), (9, 36), (26, 19), (45, 0), (50, 0)])
def test_what_make_test_took_is_not_there_for_suites(used: float, left: float) -> None:
    assert suites.budget(used * 60) == left * 60


def test_a_success_is_remembered_beside_others(tmp_path: Path) -> None:
    record = tmp_path / "cache" / "suites.json"
    assert suites.read_record(record) == {}
    suites.write_record(record, "drift", Success(1.0, 2.0))
    suites.write_record(record, "disks", Success(3.0, 4.0))
    suites.write_record(record, "drift", Success(5.0, 6.0))
    assert suites.read_record(record) == {"drift": Success(5.0, 6.0), "disks": Success(3.0, 4.0)}
    assert [path.name for path in record.parent.iterdir()] == ["suites.json"]


class Lab:
    """A table whose suites end with a status of the test's choice, beside a record of its own."""

    def __init__(self, directory: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.record = directory / "suites.json"
        self.statuses = {"volumes": 0, "drift": 0, "disks": 0}
        self.made: list[str] = []
        self.clock = 0.0
        monkeypatch.setattr(suites, "RECORD", self.record)
        monkeypatch.setattr(suites, "changed_files", lambda: set(EVERYTHING))
        monkeypatch.setattr(suites.subprocess, "run", self.make)
        monkeypatch.setattr(suites.time, "monotonic", lambda: self.clock)

    def make(self, command: list[str], **_: object) -> subprocess.CompletedProcess[str]:
        assert command[0] == "make"
        self.made.append(command[1])
        self.clock += next(suite.seconds for suite in TABLE if suite.name == command[1])
        return subprocess.CompletedProcess(command, self.statuses[command[1]])


@pytest.fixture
def lab(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Lab:
    return Lab(tmp_path, monkeypatch)


def test_what_does_not_fit_any_more_is_left_out_and_told(
    lab: Lab, capsys: pytest.CaptureFixture[str]
) -> None:
    other = Suite("other", 1.0, ["nothing"])
    assert suites.run([*TABLE, other], 1300.0)
    assert lab.made == ["volumes", "disks"]
    assert set(suites.read_record(lab.record)) == {"volumes", "disks"}
    said = capsys.readouterr().out
    assert re.search(r"^volumes +passed, 20\.0 min$", said, re.MULTILINE)
    assert re.search(r"^drift +left out, no time: 10\.0 min are needed$", said, re.MULTILINE)
    assert re.search(r"^other +left out, nothing of it changed$", said, re.MULTILINE)


def test_the_next_time_it_is_the_other_ones_turn(lab: Lab) -> None:
    suites.run(TABLE, 1300.0)
    lab.made.clear()
    suites.run(TABLE, 1300.0)
    assert lab.made[0] == "drift"


def test_one_that_fails_fails_the_run_and_keeps_its_turn(
    lab: Lab, capsys: pytest.CaptureFixture[str]
) -> None:
    lab.statuses["volumes"] = 2
    assert not suites.run(TABLE, 3000.0)
    assert lab.made == ["volumes", "drift", "disks"], "the others are tried"
    assert set(suites.read_record(lab.record)) == {"drift", "disks"}
    assert re.search(r"^volumes +failed, 20\.0 min$", capsys.readouterr().out, re.MULTILINE)


def repository_files() -> list[str]:
    listed = subprocess.run(
        ["git", "ls-files"], cwd=REPOSITORY, capture_output=True, text=True, check=True
    )
    return listed.stdout.splitlines()


def test_each_suite_of_the_table_is_a_target_of_make_and_fits_into_the_time() -> None:
    makefile = (REPOSITORY / "Makefile").read_text()
    for suite in suites.read_table(suites.TABLE.read_text()):
        assert f"\n{suite.name}: install ##" in makefile
        # Nine minutes is what `make test` takes.
        assert suite.seconds <= suites.budget(9 * 60), suite.name


def test_each_pattern_of_the_table_means_something() -> None:
    files = repository_files()
    for suite in suites.read_table(suites.TABLE.read_text()):
        for pattern in suite.paths:
            alone = Suite(suite.name, 0.0, [pattern])
            assert any(alone.covers(path) for path in files), f"{suite.name}: {pattern}"


def test_what_runs_on_nodes_or_decides_about_them_is_in_a_suite() -> None:
    table = suites.read_table(suites.TABLE.read_text())
    parts = ("plugins/", "roles/", "playbooks/", "orchestrator/src/", "molecule/")
    for path in repository_files():
        if path.startswith(parts) and not path.endswith(("README.md", "/.gitignore")):
            assert any(suite.covers(path) for suite in table), path
