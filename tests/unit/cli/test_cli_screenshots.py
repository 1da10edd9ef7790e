# SPDX-License-Identifier: Apache-2.0
"""Pictures of a terminal, of commands that stand for ours."""

from __future__ import annotations

import re
import sys
import time
from pathlib import Path

import pytest

sys.path.append(str(Path(__file__).resolve().parents[3] / "tools"))

import screenshots
from screenshots import Midway, Scene, SceneError, Words, main, picture, play, take

pytestmark = pytest.mark.timeout(60)

#: Draws over its own line, in colours, and says how large its terminal is.
FAKE = """\
printf 'gone\\r\\033[2K\\033[1;31mred\\033[0m '
printf '\\033[92mgreen\\033[0m \\033[38;5;208morange\\033[0m\\n'
stty size
"""


def shell(words: str) -> tuple[str, ...]:
    return ("sh", "-c", words)


def words_of(svg: str) -> str:
    return re.sub(r"<[^>]*>", "", svg).replace("&#160;", " ")


def test_the_screen_at_the_end() -> None:
    screen = play(Scene("end", shell(FAKE)))
    assert [line.rstrip() for line in screen.display[:3]] == ["red green orange", "40 100", ""]
    svg = picture(screen, "a title", "screen-x")
    assert svg.startswith("<svg")
    assert "a title" in words_of(svg)
    assert "redgreenorange" in words_of(svg).replace(" ", "")
    assert "gone" not in svg
    assert "#ff8700" in svg
    assert picture(screen, "a title", "screen-x") == svg


def test_the_screen_in_the_middle_and_the_command_is_ended(tmp_path: Path) -> None:
    begun = time.monotonic()
    mark = tmp_path / "interrupted"
    words = (
        f"trap 'touch {mark}; exit 130' INT; echo begin; echo at work; while :; do sleep 0.1; done"
    )
    screen = play(Scene("middle", shell(words), when=Words("never|at work")))
    assert "at work" in "\n".join(screen.display)
    assert mark.exists(), "as by Ctrl-C"
    assert time.monotonic() - begun < 30


#: A run as ansible-runner would tell it, on the board of the command; its clock runs faster.
RUN = """\
import sys, time
from rich.console import Console
from kubewright.act import HostResult, HostStarted, PhaseStarted, TaskStarted
from kubewright.cli.progress import Progress

with Progress(Console(), clock=lambda: 10 * time.monotonic()) as tell:
    for phase in sys.argv[1:]:
        tell(PhaseStarted(phase))
        tell(TaskStarted(phase, "Work"))
        for node in ("web-1", "web-2"):
            tell(HostStarted("Work", node))
        if phase != sys.argv[-1]:
            for node in ("web-1", "web-2"):
                tell(HostResult(phase, "Work", node, "changed"))
    while True:
        time.sleep(0.05)
"""


def test_the_middle_of_a_run() -> None:
    phases = ["Machines", "Probe the nodes", "Decide", "Prepare the nodes"]
    run = (sys.executable, "-c", RUN, *phases)
    screen = play(Scene("run", run, when=Midway("Prepare", ended=3, nodes=2)), limit=30)
    told = [line.rstrip() for line in screen.display if line.strip()]
    assert [line.partition("] ")[2].partition(":")[0] for line in told[:3]] == phases[:3]
    assert re.match(r"\S Prepare the nodes  0:0[1-9]", told[3])
    for line, node in zip(told[4:], ("web-1", "web-2"), strict=True):
        assert re.fullmatch(rf" +{node}  Work +0:0\d", line)
    # One more phase has to end; another one; one more node has to be at work.
    for other in (Midway("Prepare", 4, 2), Midway("Look", 1, 2), Midway("Prepare", 3, 3)):
        assert not other([line.rstrip() for line in screen.display])


def test_the_first_second_of_a_phase_is_no_middle() -> None:
    lines = ["[ 0:02] Machines: 1 s, 1 host", "* Look  0:00  2 hosts", "    a  Work  0:00"]
    assert not Midway("Look", 1, 1)(lines)
    lines[1] = "* Look  0:01  2 hosts"
    assert Midway("Look", 1, 1)(lines)


def test_a_question_is_answered() -> None:
    words = "printf 'Apply these changes? [y/N] '; read answer; echo \"said $answer\""
    assert "said y" in "\n".join(play(Scene("ask", shell(words), answer="y")).display)


def test_a_scene_that_does_not_come() -> None:
    with pytest.raises(SceneError, match="ended without 'never'"):
        play(Scene("x", shell("echo no"), when=Words("never")))
    with pytest.raises(SceneError, match="the time was over"):
        play(Scene("x", shell("sleep 60"), when=Words("never")), limit=0.2)


def test_a_command_that_is_not_there() -> None:
    assert "No such file" in play(Scene("x", ("/nowhere/kubewright",))).display[0]


def test_what_is_around_a_scene_is_not_shown(tmp_path: Path) -> None:
    scene = Scene(
        "around",
        shell(f"cat {tmp_path}/file"),
        before=shell(f"echo before > {tmp_path}/file"),
        after=shell(f"rm {tmp_path}/file"),
    )
    path = take(scene, tmp_path / "screens")
    assert path == tmp_path / "screens" / "around.svg"
    assert "before" in words_of(path.read_text())
    assert not (tmp_path / "file").exists()
    with pytest.raises(SceneError, match="ended with 3"):
        take(Scene("x", shell("true"), before=shell("exit 3")), tmp_path)


def test_the_command_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--into", str(tmp_path), "--name", "one", "--", "echo", "hello"]) == 0
    assert "hello" in words_of((tmp_path / "one.svg").read_text())
    assert main(["--into", str(tmp_path), "--name", "x", "--when", "never", "--", "true"]) == 1
    assert "ended without" in capsys.readouterr().err
    with pytest.raises(SystemExit):
        main(["nothing-of-the-kind"])


def test_the_phases_that_scenes_wait_for_are_plays() -> None:
    site = Path(screenshots.ROOT, "playbooks/site.yml").read_text()
    waited = [scene.when.phase for scene in screenshots.SCENES if isinstance(scene.when, Midway)]
    assert waited
    assert [phase for phase in waited if f"\n- name: {phase}" not in site] == []


def test_each_scene_has_its_own_name() -> None:
    names = [scene.name for scene in screenshots.SCENES]
    assert sorted(set(names)) == sorted(names)
    assert {"plan", "apply", "failure", "status"} <= set(names)
