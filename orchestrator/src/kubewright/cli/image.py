# SPDX-License-Identifier: Apache-2.0
"""``kubewright image``: build, list and verify system images."""

from __future__ import annotations

from typing import Annotated, Any

import typer
from rich.table import Table

from kubewright.cli.exits import CommandError, ExitCode
from kubewright.cli.options import DEFAULT_FILE, File, Form
from kubewright.cli.output import Format, Output
from kubewright.cli.progress import Progress
from kubewright.image import ROLES, Catalogue, Image, ImageError, Store, build
from kubewright.spec import load
from kubewright.spec.version import resolve

_images = typer.Typer(help="System images: what a node needs to run Kubernetes.")


def register(app: typer.Typer) -> None:
    """Add the commands."""
    app.add_typer(_images, name="image", no_args_is_help=True)


@_images.command("build")
def build_images(
    version: Annotated[
        str | None, typer.Argument(help='Kubernetes version, "1.37"; by default the file\'s.')
    ] = None,
    file: File = DEFAULT_FILE,
    output: Form = Format.TEXT,
) -> None:
    """Build the images of a Kubernetes version, for both roles, unless they are there."""
    out = Output(output)
    wanted = _asked(version) if version else resolve(load(file).version)
    with Progress(out.notes) as progress:
        made = build(wanted, ROLES, lambda line, _: progress.line(line))
    store = Store()
    out.result([_data(store, image) for image in made], _table(made))


def _asked(version: str) -> str:
    catalogue = Catalogue.load()
    try:
        return str(catalogue.resolve(version))
    except ImageError as error:
        raise CommandError(error.message, remedy=error.remedy, code=ExitCode.BAD_INPUT) from error


@_images.command("list")
def list_images(output: Form = Format.TEXT) -> None:
    """List the images on this machine."""
    out = Output(output)
    store = Store()
    found = store.list()
    out.result([_data(store, image) for image in found], _table(found))


@_images.command("verify")
def verify_images(output: Form = Format.TEXT) -> None:
    """Hash every image and every file in it, and compare."""
    out = Output(output)
    store = Store()
    verdicts = [store.verify(image) for image in store.list()]
    data = [{**_data(store, one.image), "problems": list(one.problems)} for one in verdicts]
    bad = [f"{one.image.digest[:12]}: {text}" for one in verdicts for text in one.problems]
    if bad:
        raise CommandError(
            "\n".join(bad),
            remedy="Remove the files and build them again: kubewright image build.",
            data={"images": data},
        )
    out.result(data, f"{len(verdicts)} of {len(verdicts)} images are what they should be")


def _data(store: Store, image: Image) -> dict[str, Any]:
    return {**image.model_dump(mode="json"), "path": str(store.path(image))}


def _table(images: list[Image]) -> Table:
    table = Table("Kubernetes", "role", "revision", "arch", "MB", "built", "digest", box=None)
    for image in images:
        table.add_row(
            image.kubernetes,
            image.role,
            str(image.revision),
            image.arch,
            f"{image.size / 1e6:.0f}",
            f"{image.built_at:%Y-%m-%d %H:%M}",
            image.digest[:12],
        )
    return table
