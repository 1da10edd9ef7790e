# SPDX-License-Identifier: Apache-2.0
"""``kubewright node image``: the system images on nodes."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.table import Table

from kubewright.act import Result, Session
from kubewright.act.messages import named
from kubewright.cli import wanted
from kubewright.cli.operation import finish, run_playbook, tell_ended, work_done
from kubewright.cli.options import DEFAULT_FILE, File, Form, Yes
from kubewright.cli.output import Format, Output
from kubewright.cli.reset import Nodes, chosen
from kubewright.cli.state import own_state
from kubewright.locations import ClusterPaths
from kubewright.spec import Spec, load
from kubewright.store import images

LIST = "kubewright.cluster.node_image_list"
INSTALL = "kubewright.cluster.node_image_install"
ACTIVATE = "kubewright.cluster.node_image_activate"
ROLLBACK = "kubewright.cluster.node_image_rollback"
COLLECT = "kubewright.cluster.node_image_gc"
#: How an image is used, in the words of a table.
USES = ("active", "previous", "staged", "bad")

_nodes = typer.Typer(help="Single nodes of a cluster.")
_images = typer.Typer(help="The system images on nodes.")
_nodes.add_typer(_images, name="image", no_args_is_help=True)

Wanted = Annotated[
    str | None,
    typer.Argument(
        metavar="[IMAGE]",
        help=f"At least {wanted.LEAST_DIGITS} digits of an image's digest, from its beginning, or "
        "a Kubernetes version; by default the file's.",
    ),
]


def register(app: typer.Typer) -> None:
    """Add the commands."""
    app.add_typer(_nodes, name="node", no_args_is_help=True)


@dataclass(frozen=True)
class _Asked:
    """What a command was asked for."""

    spec: Spec
    file: Path
    out: Output
    nodes: tuple[str, ...]
    choice: wanted.Choice | None = None

    def run(self, operation: str, playbook: str) -> Result:
        """Run a playbook on the nodes; note which images they are given."""
        with Session(ClusterPaths.of(self.spec.name), operation) as session:
            tell_ended(session, self.out)
            told: dict[str, Any] = {"kubewright_target": ",".join(self.nodes)}
            if playbook != LIST:
                told["kubewright_epoch"] = session.next_epoch()
            if self.choice:
                told["kubewright_wanted_images"] = self.choice.variables
                images.note(session.paths.images, self.choice.digests)
            return run_playbook(session, self.out, playbook, self.file, told)

    def finish(self, result: Result, words: str) -> None:
        """Print what came of it."""
        data: dict[str, Any] = {"cluster": self.spec.name, "nodes": list(self.nodes)}
        if self.choice:
            data["images"] = self.choice.variables
        finish(result, self.out, data, f"{named(self.nodes)}: {words}; {work_done(result)}.")


def _asked(
    file: Path, nodes: list[str] | None, output: Format, image: str | None, *, needed: bool
) -> _Asked:
    spec, out = load(file), Output(output)
    own_state(spec, file, out)
    if not needed:
        return _Asked(spec, file, out, chosen(spec, nodes or []))
    choice = wanted.choose(spec, image)
    fitting = wanted.nodes(spec, choice, chosen(spec, nodes or []), named=bool(nodes))
    return _Asked(spec, file, out, fitting, choice)


@_images.command("list")
def list_images(file: File = DEFAULT_FILE, node: Nodes = None, output: Form = Format.TEXT) -> None:
    """List the images that nodes have, and how they are used."""
    asked = _asked(file, node, output, None, needed=False)
    result = asked.run("node image list", LIST)
    answers = {
        host: result.answers[host]["images"] for host in asked.nodes if host in result.answers
    }
    data = {"cluster": asked.spec.name, "images": answers}
    finish(result, asked.out, data, _table(answers), partial=bool(answers))


@_images.command("install")
def install_image(
    image: Wanted = None,
    file: File = DEFAULT_FILE,
    node: Nodes = None,
    output: Form = Format.TEXT,
) -> None:
    """Bring an image to nodes; what runs there goes on as it is."""
    asked = _asked(file, node, output, image, needed=True)
    asked.finish(asked.run("node image install", INSTALL), "the image is there")


@_images.command("activate")
def activate_image(
    image: Wanted = None,
    file: File = DEFAULT_FILE,
    node: Nodes = None,
    output: Form = Format.TEXT,
    yes: Yes = False,
) -> None:
    """Run nodes from an image that is installed on them, one node after another.

    containerd, the kubelet and the balancer are restarted; pods go on running.
    """
    asked = _asked(file, node, output, image, needed=True)
    if asked.choice:
        wanted.require_release(asked.spec, asked.choice)
    _confirm(asked, f"Activate {asked.choice} on {named(asked.nodes)}?", yes=yes)
    asked.finish(asked.run("node image activate", ACTIVATE), "the image is active")


@_images.command("rollback")
def roll_back_image(
    file: File = DEFAULT_FILE,
    node: Nodes = None,
    output: Form = Format.TEXT,
    yes: Yes = False,
) -> None:
    """Run nodes from the image that was active before.

    Done once for each image that was activated. The next apply activates what the file says.
    """
    asked = _asked(file, node, output, None, needed=False)
    _confirm(asked, f"Roll {named(asked.nodes)} back to the image before?", yes=yes)
    asked.finish(asked.run("node image rollback", ROLLBACK), "the image before is active")


@_images.command("gc")
def collect_images(
    file: File = DEFAULT_FILE,
    node: Nodes = None,
    output: Form = Format.TEXT,
    yes: Yes = False,
) -> None:
    """Remove images from nodes that are neither active nor previous, and that nothing runs from."""
    asked = _asked(file, node, output, None, needed=False)
    asked.out.confirm(f"Remove images that nobody needs from {named(asked.nodes)}?", yes=yes)
    asked.finish(asked.run("node image gc", COLLECT), "no images that nobody needs")


def _confirm(asked: _Asked, question: str, *, yes: bool) -> None:
    restarts = "containerd, the kubelet and the balancer are restarted; pods go on running"
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
