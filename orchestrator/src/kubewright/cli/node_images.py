# SPDX-License-Identifier: Apache-2.0
"""``kubewright node image``: the system images on nodes."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.table import Table

from kubewright.act import Result
from kubewright.act.messages import named
from kubewright.cli.options import DEFAULT_FILE, File, Form, Yes
from kubewright.cli.outcome import finish, work_done
from kubewright.cli.output import Format, Output
from kubewright.cli.reset import Nodes
from kubewright.cli.state import opened
from kubewright.cli.watching import Terminal
from kubewright.operate import Cluster, wanted
from kubewright.operate.node_images import Work, on_nodes
from kubewright.spec import load

#: How an image is used, in the words of a table.
USES = ("active", "previous", "staged", "bad")

_images = typer.Typer(help="Manage the system images on nodes.")

Wanted = Annotated[
    str | None,
    typer.Argument(
        metavar="[IMAGE]",
        help=f"The first {wanted.LEAST_DIGITS} or more digits of an image's digest, or a "
        "Kubernetes "
        "version. Default: the version in the cluster file.",
    ),
]


def register(nodes: typer.Typer) -> None:
    """Add the commands to those for nodes."""
    nodes.add_typer(_images, name="image", no_args_is_help=True)


@dataclass(frozen=True)
class _Asked:
    """What a command was asked for."""

    cluster: Cluster
    out: Output
    nodes: tuple[str, ...]
    choice: wanted.Choice | None = None

    def run(self, work: Work) -> Result:
        """Do it on the nodes."""
        return on_nodes(work, self.cluster, Terminal(self.out), self.nodes, self.choice)

    def finish(self, result: Result, words: str) -> None:
        """Print what came of it."""
        data: dict[str, Any] = {"cluster": self.cluster.name, "nodes": list(self.nodes)}
        if self.choice:
            data["images"] = self.choice.variables
        finish(result, self.out, data, f"{named(self.nodes)}: {words}; {work_done(result)}.")


def _asked(
    file: Path, nodes: list[str] | None, output: Format, image: str | None, *, needed: bool
) -> _Asked:
    spec, out = load(file), Output(output)
    cluster = opened(spec, file, out)
    if not needed:
        return _Asked(cluster, out, cluster.chosen(nodes or []))
    choice = wanted.choose(spec, image)
    fitting = wanted.nodes(cluster.roster(), choice, cluster.chosen(nodes or []), named=bool(nodes))
    return _Asked(cluster, out, fitting, choice)


@_images.command("list")
def list_images(file: File = DEFAULT_FILE, node: Nodes = None, output: Form = Format.TEXT) -> None:
    """List the images on each node, and how they are used."""
    asked = _asked(file, node, output, None, needed=False)
    result = asked.run(Work.LIST)
    answers = {
        host: result.answers[host]["images"] for host in asked.nodes if host in result.answers
    }
    data = {"cluster": asked.cluster.name, "images": answers}
    finish(result, asked.out, data, _table(answers), partial=bool(answers))


@_images.command("install")
def install_image(
    image: Wanted = None,
    file: File = DEFAULT_FILE,
    node: Nodes = None,
    output: Form = Format.TEXT,
) -> None:
    """Copy an image to nodes without activating it. Nothing is restarted."""
    asked = _asked(file, node, output, image, needed=True)
    asked.finish(asked.run(Work.INSTALL), "the image is installed")


@_images.command("activate")
def activate_image(
    image: Wanted = None,
    file: File = DEFAULT_FILE,
    node: Nodes = None,
    output: Form = Format.TEXT,
    yes: Yes = False,
) -> None:
    """Switch nodes to an image that is installed on them, one node at a time.

    Restarts containerd, the kubelet and the load balancer; pods keep running.
    """
    asked = _asked(file, node, output, image, needed=True)
    if asked.choice:
        wanted.require_release(asked.cluster.spec, asked.choice)
    _confirm(asked, f"Activate {asked.choice} on {named(asked.nodes)}?", yes=yes)
    asked.finish(asked.run(Work.ACTIVATE), "the image is active")


@_images.command("rollback")
def roll_back_image(
    file: File = DEFAULT_FILE,
    node: Nodes = None,
    output: Form = Format.TEXT,
    yes: Yes = False,
) -> None:
    """Switch nodes back to the image that was active before.

    Works once per activated image. The next apply activates the cluster file's image again.
    """
    asked = _asked(file, node, output, None, needed=False)
    _confirm(asked, f"Roll {named(asked.nodes)} back to the previous image?", yes=yes)
    asked.finish(asked.run(Work.ROLLBACK), "the previous image is active")


@_images.command("gc")
def collect_images(
    file: File = DEFAULT_FILE,
    node: Nodes = None,
    output: Form = Format.TEXT,
    yes: Yes = False,
) -> None:
    """Remove images from nodes, except the active and the previous one and those still in use."""
    asked = _asked(file, node, output, None, needed=False)
    asked.out.confirm(f"Remove unused images from {named(asked.nodes)}?", yes=yes)
    asked.finish(asked.run(Work.COLLECT), "no unused images")


def _confirm(asked: _Asked, question: str, *, yes: bool) -> None:
    restarts = "containerd, the kubelet and the load balancer are restarted; pods keep running"
    asked.out.note(f"{', '.join(asked.nodes)}: {restarts}", style="yellow")
    asked.out.confirm(question, yes=yes)


def _table(answers: Mapping[str, list[Mapping[str, Any]]]) -> Table:
    names = ("node", "digest", "Kubernetes", "role", "revision", "MB", "is", "in use")
    table = Table(*names, box=None)
    for host, found in answers.items():
        for image in found or [{}]:
            table.add_row(
                host,
                str(image.get("digest") or "none")[:12],
                str(image.get("kubernetes") or "?") if image else "",
                str(image.get("role") or "?") if image else "",
                str(image.get("revision") or "?") if image else "",
                f"{image['size'] / 1e6:.0f}" if image else "",
                ", ".join(use for use in USES if image.get(use)),
                "yes" if image.get("in_use") else "",
            )
    return table
