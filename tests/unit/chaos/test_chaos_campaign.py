# SPDX-License-Identifier: Apache-2.0
"""A campaign without clusters: what is recorded, run, skipped, written, and the exit status."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import campaign
import pytest
from campaign import Wish
from content import Place
from points import Kill
from results import Outcome, Verdict


class Bench:
    """Records what it is given, and hands over verdicts by name."""

    def __init__(self, recording: str, verdicts: dict[str, Verdict] | None = None) -> None:
        self.recording = recording
        self.verdicts = verdicts or {}
        self.recorded = 0
        self.attempted: list[str] = []
        self.interrupt_at: int | None = None

    def record(self, path: Path) -> None:
        self.recorded += 1
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(self.recording)

    def attempt(self, kill: Kill, keep: Callable[[Outcome], None], evidence: Path) -> None:
        if self.interrupt_at == len(self.attempted):
            raise KeyboardInterrupt
        self.attempted.append(kill.name)
        verdict = self.verdicts.get(kill.name, "passed")
        keep(Outcome(kill.key, verdict, why="" if verdict == "passed" else "because"))


@pytest.fixture
def place(tmp_path: Path) -> Place:
    return Place(tmp_path, "0" * 64, 3, 2)


def run(place: Place, bench: Bench, wish: Wish = Wish()) -> int:  # noqa: B008
    return campaign.run(place, wish, bench)


def test_records_once_and_attempts_each_point(place: Place, recording: str) -> None:
    bench = Bench(recording)
    assert run(place, bench) == 0
    assert bench.recorded == 1
    assert len(bench.attempted) == 4


def test_goes_on_where_it_was_cut(
    place: Place, recording: str, capsys: pytest.CaptureFixture[str]
) -> None:
    first = Bench(recording)
    first.interrupt_at = 2
    with pytest.raises(KeyboardInterrupt):
        run(place, first)
    assert "2 passed, 2 not run" in capsys.readouterr().out
    second = Bench(recording)
    assert run(place, second) == 0
    assert second.recorded == 0
    assert not set(first.attempted) & set(second.attempted)
    assert len(second.attempted) == 2
    assert "2 passed earlier" in capsys.readouterr().err
    third = Bench(recording)
    assert run(place, third) == 0
    assert third.attempted == []


@pytest.mark.parametrize("verdict", ["failed", "not reached"])
def test_a_failure_is_told_and_run_again(place: Place, recording: str, verdict: Verdict) -> None:
    bench = Bench(recording, {"volume : Mount it": verdict})
    assert run(place, bench) == 1
    assert len(bench.attempted) == 4, "the others are tested all the same"
    again = Bench(recording)
    assert run(place, again) == 0
    assert again.attempted == ["volume : Mount it"]


def test_fresh_begins_anew(place: Place, recording: str) -> None:
    run(place, Bench(recording))
    bench = Bench(recording)
    assert run(place, bench, Wish(fresh=True)) == 0
    assert bench.recorded == 1
    assert len(bench.attempted) == 4


def test_only_a_part(place: Place, recording: str) -> None:
    bench = Bench(recording)
    assert run(place, bench, Wish(only="mount")) == 0
    assert bench.attempted == ["volume : Mount it"]
    assert run(place, bench, Wish(only="nowhere")) == 2
    assert run(place, bench, Wish(count=2)) == 0
    assert len(bench.attempted) <= 3


def test_the_written_table_has_all_points(place: Place, recording: str, tmp_path: Path) -> None:
    page = tmp_path / "chaos.md"
    assert run(place, Bench(recording), Wish(seed="5", count=1, table=page)) == 0
    text = page.read_text()
    assert "make chaos CHAOS_SEED=5" in text
    assert "4 points: 1 passed, 3 not run" in text
    assert text.count("| not run |") == 3


def test_listing_makes_no_cluster(
    place: Place, recording: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert campaign.list_points(place, Wish()) == 1
    assert str(place.recording) in capsys.readouterr().out
    run(place, Bench(recording), Wish(only="mount"))
    capsys.readouterr()
    assert campaign.list_points(place, Wish()) == 0
    told = capsys.readouterr().out
    assert "1 passed, 3 not run" in told
    assert "control_plane : Start it" in told


@pytest.mark.parametrize("words", [["--points", "0"], ["--seed", "../x"], ["--unknown"]])
def test_a_wrong_command_line_is_refused(words: list[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        campaign.main(words)
    assert ended.value.code == 2
