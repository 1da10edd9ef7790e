"""Take pictures of commands as a terminal shows them: docs/screens/*.svg.

Each scene runs a command in a terminal of 100 columns and 40 lines, and takes its picture when the
command has ended, or when the screen shows what the scene waits for. Without arguments the scenes
below are taken, in order, on the cluster of ./cluster.yml, which must be up. Usage:
    python tools/screenshots.py [SCENE ...]
    python tools/screenshots.py --name NAME [--when WORDS] -- COMMAND...
Exit code 1 when a scene did not come to the point where its picture is taken.
"""

from __future__ import annotations

import argparse
import fcntl
import os
import pty
import re
import select
import signal
import struct
import sys
import termios
import time
from collections.abc import Sequence
from dataclasses import dataclass
from io import StringIO
from pathlib import Path

import pyte
from rich.console import Console
from rich.style import Style
from rich.text import Text

ROOT = Path(__file__).parents[1]
SCREENS = ROOT / "docs" / "screens"
COLUMNS, LINES = 100, 40
#: Seconds that a scene may take: a first apply builds the system images.
LIMIT = 1800.0
#: Nobody draws when nothing has come for so long (s): a picture is not taken of half a screen.
STILL = 0.05


@dataclass(frozen=True)
class Words:
    """Waits for words: any of those with ``|`` between."""

    text: str

    def __call__(self, lines: Sequence[str]) -> bool:
        """Whether they are on a screen of these lines."""
        return any(words in line for line in lines for words in self.text.split("|"))

    def __str__(self) -> str:
        return repr(self.text)


@dataclass(frozen=True)
class Midway:
    """Waits until a run is in the middle of a phase, for a second or longer, with nodes at work.

    Above it are ``ended`` phases or more; it has ``nodes`` rows or more.
    """

    phase: str
    ended: int
    nodes: int

    def __call__(self, lines: Sequence[str]) -> bool:
        """Whether a screen of these lines shows it, as ``kubewright.cli.board`` draws it."""
        head = re.compile(rf"\S {re.escape(self.phase)}.*  (?!0:00\b)\d+:\d\d\b")
        at = next((number for number, line in enumerate(lines) if head.match(line)), len(lines))
        ended = [line for line in lines[:at] if re.match(r"\[ *[\d:]+\] .+: \d+ s(,|$| )", line)]
        rows = [line for line in lines[at:] if re.fullmatch(r"    \S+  .+ \d+:\d\d", line)]
        return len(ended) >= self.ended and len(rows) >= self.nodes

    def __str__(self) -> str:
        return f"{self.nodes} nodes in the middle of {self.phase!r}"


@dataclass(frozen=True)
class Scene:
    """A command, and when its picture is taken.

    ``when``: as soon as the lines of the screen are as it wants them; else at the end.
    ``answer``: what is typed at the first question. ``before`` and ``after``: commands that are
    not shown.
    """

    name: str
    command: tuple[str, ...]
    when: Words | Midway | None = None
    answer: str = ""
    before: tuple[str, ...] = ()
    after: tuple[str, ...] = ()


def _on(node: str, words: str) -> tuple[str, ...]:
    """A command on a machine of the local provider."""
    return ("podman", "exec", f"kubewright-{node}", "sh", "-c", words)


#: On the cluster that `make up` has made. What a scene breaks, it or the next one mends.
SCENES = (
    Scene("status", ("kubewright", "status")),
    Scene(
        "plan",
        ("kubewright", "plan", "--diff"),
        before=_on(
            "demo-web-1",
            "kubewright-maintenance sh -c "
            """'echo "# changed by hand" >>/etc/kubewright/containerd/config.toml'""",
        ),
    ),
    Scene(
        "apply",
        ("kubewright", "apply", "--yes"),
        when=Midway("Prepare the nodes", ended=4, nodes=2),
        before=(
            *(
                "sh",
                "-c",
                'for node; do podman exec "$node" systemctl stop kubelet containerd; done',
            ),
            *("sh", "kubewright-demo-web-1", "kubewright-demo-web-2"),
        ),
    ),
    Scene(
        "failure",
        ("kubewright", "apply", "--yes"),
        before=_on("demo-web-2", "systemctl stop ssh.socket ssh; pkill sshd; true"),
        after=_on("demo-web-2", "systemctl start ssh"),
    ),
)


class SceneError(Exception):
    """A scene did not come to its picture; the message says why."""


def play(scene: Scene, limit: float = LIMIT) -> pyte.Screen:
    """Run a scene's command in a terminal, and return the screen at the moment of its picture.

    :raises SceneError: the command ended, or the time was over, before that.
    """
    screen = pyte.Screen(COLUMNS, LINES)
    stream = pyte.ByteStream(screen)
    child, terminal = pty.fork()
    if child == 0:
        _become(scene.command)
    deadline = time.monotonic() + limit
    unanswered = bool(scene.answer)
    try:
        while (data := _read(terminal, deadline)) is not None:
            stream.feed(data)
            if unanswered and Words("[y/N]")(screen.display):
                os.write(terminal, f"{scene.answer}\n".encode())
                unanswered = False
            if scene.when and not _more(terminal) and scene.when(_lines(screen)):
                return screen
    finally:
        _end(child, terminal)
    if scene.when and not scene.when(_lines(screen)):
        raise SceneError(f"{scene.name}: it ended without {scene.when} on the screen")
    return screen


def _lines(screen: pyte.Screen) -> list[str]:
    return [line.rstrip() for line in screen.display]


def _become(command: tuple[str, ...]) -> None:
    """In the child: the command, in a terminal that knows 256 colours and Ctrl-C."""
    # A shell that has begun us in the background has it ignored.
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    fcntl.ioctl(0, termios.TIOCSWINSZ, struct.pack("HHHH", LINES, COLUMNS, 0, 0))
    environment = {**os.environ, "TERM": "xterm-256color", "COLUMNS": str(COLUMNS)}
    environment["LINES"] = str(LINES)
    environment.pop("NO_COLOR", None)
    try:
        os.execvpe(command[0], command, environment)
    except OSError as error:
        os.write(2, f"{command[0]}: {error.strerror}\n".encode())
        os._exit(127)


def _read(terminal: int, deadline: float) -> bytes | None:
    """Return what comes next, None at the end."""
    ready, _, _ = select.select([terminal], [], [], max(0.0, deadline - time.monotonic()))
    if not ready:
        raise SceneError("the time was over")
    try:
        return os.read(terminal, 65536) or None
    except OSError:  # Linux says EIO when the last process has closed its side
        return None


def _more(terminal: int) -> bool:
    """Whether more comes at once: the screen is still being drawn."""
    return bool(select.select([terminal], [], [], STILL)[0])


def _end(child: int, terminal: int) -> None:
    """End the command as Ctrl-C does, so that it ends its own run, and wait for it."""
    try:
        os.killpg(child, signal.SIGINT)
    except ProcessLookupError:
        pass
    # Who is not read from may wait for ever to write.
    try:
        while os.read(terminal, 65536):
            pass
    except OSError:
        pass
    os.close(terminal)
    os.waitpid(child, 0)


def picture(screen: pyte.Screen, title: str, identity: str) -> str:
    """Return a screen as SVG, without the empty lines at its end."""
    rows = [_row(screen, number) for number in range(screen.lines)]
    while rows and not rows[-1].plain.strip():
        rows.pop()
    console = Console(
        record=True,
        file=StringIO(),
        width=screen.columns,
        height=screen.lines,
        force_terminal=True,
        color_system="truecolor",
        no_color=False,
        legacy_windows=False,
        highlight=False,
    )
    for row in rows:
        console.print(row, no_wrap=True, overflow="crop")
    return console.export_svg(title=title, unique_id=identity)


def _row(screen: pyte.Screen, number: int) -> Text:
    row = Text()
    for column in range(screen.columns):
        cell = screen.buffer[number][column]
        row.append(cell.data, style=_style(cell))
    row.rstrip()
    return row


def _style(cell: pyte.screens.Char) -> Style:
    return Style(
        color=_colour(cell.fg),
        bgcolor=_colour(cell.bg),
        bold=cell.bold or None,
        italic=cell.italics or None,
        underline=cell.underscore or None,
        reverse=cell.reverse or None,
    )


def _colour(name: str) -> str | None:
    """Return pyte's name of a colour as rich's: hexadecimal ones lack their mark."""
    if name == "default":
        return None
    if len(name) == 6 and all(digit in "0123456789abcdef" for digit in name.lower()):
        return f"#{name}"
    # What terminals call yellow is brown to pyte.
    return name.replace("brown", "yellow").replace("bright", "bright_")


def take(scene: Scene, directory: Path, limit: float = LIMIT) -> Path:
    """Play a scene and write its picture; return the file."""
    _quietly(scene.before)
    try:
        screen = play(scene, limit)
    finally:
        _quietly(scene.after)
    directory.mkdir(parents=True, exist_ok=True)
    path = directory / f"{scene.name}.svg"
    text = picture(screen, " ".join(scene.command), f"screen-{scene.name}")
    path.write_text(text, encoding="utf-8")
    return path


def _quietly(words: tuple[str, ...]) -> None:
    if words and (status := os.waitstatus_to_exitcode(_run(words))):
        raise SceneError(f"{' '.join(words)} ended with {status}")


def _run(words: tuple[str, ...]) -> int:
    child = os.posix_spawnp(words[0], words, os.environ)
    return os.waitpid(child, 0)[1]


def main(arguments: Sequence[str] | None = None) -> int:
    """Take the scenes that are asked for."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("scenes", nargs="*", help="names of scenes, or a command after --name")
    parser.add_argument("--name", help="take one picture of the command that follows")
    parser.add_argument("--when", default="", help="words on the screen, with | between")
    parser.add_argument("--into", type=Path, default=SCREENS, help="directory of the pictures")
    options = parser.parse_args(arguments)
    if options.name:
        when = Words(options.when) if options.when else None
        wanted = [Scene(options.name, tuple(options.scenes), when=when)]
    else:
        known = {scene.name: scene for scene in SCENES}
        if unknown := [name for name in options.scenes if name not in known]:
            parser.error(f"no such scene: {', '.join(unknown)}; there are {', '.join(known)}")
        wanted = [known[name] for name in options.scenes or known]
    for scene in wanted:
        try:
            print(take(scene, options.into))
        except SceneError as error:
            print(f"Error: {error}", file=sys.stderr)
            return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
