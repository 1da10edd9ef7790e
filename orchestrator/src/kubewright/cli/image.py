# SPDX-License-Identifier: Apache-2.0
"""``kubewright image``: build, list, verify, sign, serve, clean up; pin and mirror upstream's."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any, TypeVar

import typer
from rich.table import Table

from kubewright.agreed import state
from kubewright.cli.exits import CommandError, ExitCode
from kubewright.cli.options import DEFAULT_FILE, File, Form, Yes
from kubewright.cli.output import Format, Output, counted
from kubewright.cli.progress import Progress
from kubewright.image.builder import build
from kubewright.image.catalogue import Catalogue
from kubewright.image.errors import ImageError
from kubewright.image.index import ROLES, Image
from kubewright.image.mirror import fill
from kubewright.image.origin import (
    MIRROR_VARIABLE,
    REGISTRY_VARIABLE,
    SOURCE_VARIABLE,
    UPSTREAM,
    Origin,
    SourceName,
    registry_option,
)
from kubewright.image.paths import expanded, host_arch
from kubewright.image.pin import pin
from kubewright.image.serving import server
from kubewright.image.signing import public_key, sign, signature_of
from kubewright.image.store import Store
from kubewright.image.unused import unused
from kubewright.spec import load
from kubewright.spec.version import release
from kubewright.store.images import clusters

_Read = TypeVar("_Read")
_images = typer.Typer(help="System images: everything a node needs to run Kubernetes.")

_Version = Annotated[
    str | None,
    typer.Argument(
        help='Kubernetes version, such as "1.37". Default: the version in the cluster file.'
    ),
]
_Mirror = Annotated[
    str | None,
    typer.Option(
        envvar=MIRROR_VARIABLE,
        help="A mirror with the upstream layout: a URL, or a directory on this machine.",
    ),
]
_Registry = Annotated[
    str | None,
    typer.Option(
        envvar=REGISTRY_VARIABLE,
        metavar="HOST[:PORT][/PREFIX]",
        help="The mirror's registry. Default: container images are next to the mirror's files.",
    ),
]
_Arches = Annotated[
    list[str] | None,
    typer.Option(
        "--arch", help="amd64 or arm64; can be repeated. Default: this machine's architecture."
    ),
]
_ARCHES = ("amd64", "arm64")


def register(app: typer.Typer) -> None:
    """Add the commands."""
    app.add_typer(_images, name="image", no_args_is_help=True)


@_images.command("build")
def build_images(
    version: _Version = None,
    file: File = DEFAULT_FILE,
    source: Annotated[
        SourceName | None,
        typer.Option(
            envvar=SOURCE_VARIABLE,
            help="Where to get the parts: Go modules (the default), a mirror of the upstream "
            "releases, or upstream itself.",
        ),
    ] = None,
    mirror: _Mirror = None,
    registry: _Registry = None,
    output: Form = Format.TEXT,
) -> None:
    """Build the system images of a Kubernetes version, for both node roles, unless they exist."""
    out = Output(output)
    origin = _origin(source, mirror, registry)
    wanted = _wanted(version, file)
    with Progress(out.notes) as progress:
        made = build(wanted, ROLES, lambda line, _: progress.line(line), origin=origin)
    store = Store()
    out.result([_data(store, image) for image in made], _table(made))


@_images.command("mirror")
def mirror_images(
    directory: Annotated[
        Path, typer.Argument(help="Directory to fill; any web server can serve it.")
    ],
    version: _Version = None,
    file: File = DEFAULT_FILE,
    to_registry: Annotated[
        str,
        typer.Option(
            metavar="HOST[:PORT][/PREFIX]", help="Also push the container images to this registry."
        ),
    ] = "",
    arch: _Arches = None,
    mirror: _Mirror = None,
    registry: _Registry = None,
    output: Form = Format.TEXT,
) -> None:
    """Fill a mirror with the upstream files and container images of a version.

    Downloads from the public servers or from another mirror. Existing files are verified and kept.
    """
    out = Output(output)
    origin = _origin(None, mirror, registry) or UPSTREAM
    target = _input(lambda: registry_option(to_registry))
    wanted, arches = _wanted(version, file), _arches(arch)
    place = _input(lambda: expanded(directory))
    with Progress(out.notes) as progress:
        done = fill(
            wanted,
            arches,
            place,
            origin,
            lambda line, _: progress.line(line),
            to_registry=target,
        )
    out.result(
        {
            "directory": str(place),
            "files": done.files,
            "images": done.images,
            "pushed": done.pushed,
        },
        f"{len(done.files)} files and {len(done.images)} images of Kubernetes {wanted}"
        f" are in {place}" + (f", the images in {target} too" if target else ""),
    )


@_images.command("pin")
def pin_images(
    version: _Version = None,
    file: File = DEFAULT_FILE,
    arch: _Arches = None,
    mirror: _Mirror = None,
    registry: _Registry = None,
    into: Annotated[
        Path | None,
        typer.Option(help="Directory for the pin files. Default: ~/.config/kubewright/pins."),
    ] = None,
    output: Form = Format.TEXT,
) -> None:
    """Pin the upstream files and images of a version by their sha256 and digests.

    Downloads each file, hashes it, and compares it with the sha256 that upstream publishes.
    """
    out = Output(output)
    origin = _origin(None, mirror, registry) or UPSTREAM
    wanted, arches = _wanted(version, file), _arches(arch)
    with Progress(out.notes) as progress:
        done = pin(wanted, arches, origin, lambda line, _: progress.line(line), into=into)
    out.result(
        {"file": str(done.file), "added": done.added},
        f"{len(done.added)} pins added to {done.file}"
        if done.added
        else f"all of Kubernetes {wanted} is pinned for {', '.join(arches)}",
    )


def _origin(source: str | None, mirror: str | None, registry: str | None) -> Origin | None:
    return _input(lambda: Origin.of(source, mirror, registry))


def _input(read: Callable[[], _Read]) -> _Read:
    """What was typed, read; what is wrong with it is the user's input."""
    try:
        return read()
    except ImageError as error:
        raise CommandError(error.message, remedy=error.remedy, code=ExitCode.BAD_INPUT) from error


def _arches(asked: list[str] | None) -> list[str]:
    if unknown := [arch for arch in asked or [] if arch not in _ARCHES]:
        raise CommandError(
            f"unknown architecture {unknown[0]!r} of system images",
            remedy=f"Architectures: {', '.join(_ARCHES)}.",
            code=ExitCode.BAD_INPUT,
        )
    return list(dict.fromkeys(asked or [host_arch()]))


def _wanted(version: str | None, file: Path) -> str:
    return _asked(version) if version else release(load(file))


def _asked(version: str) -> str:
    catalogue = Catalogue.load()
    return _input(lambda: catalogue.resolve(version))


@_images.command("list")
def list_images(output: Form = Format.TEXT) -> None:
    """List the images on this machine."""
    out = Output(output)
    store = Store()
    found = store.list()
    out.result([_data(store, image) for image in found], _table(found))


@_images.command("verify")
def verify_images(output: Form = Format.TEXT) -> None:
    """Verify the sha256 of every image and of every file in it."""
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
    out.result(data, f"{len(verdicts)} of {len(verdicts)} images are intact")


@_images.command("sign")
def sign_images(
    key: Annotated[
        Path,
        typer.Argument(
            help="Private SSH key, or the public key if ssh-agent holds the private one."
        ),
    ],
    output: Form = Format.TEXT,
) -> None:
    """Sign this machine's images, for nodes that download them from a server."""
    out = Output(output)
    store = Store()
    found = store.list()
    if not found:
        raise CommandError(
            "this machine has no image to sign",
            remedy="Build them first: kubewright image build.",
        )
    line = _input(lambda: public_key(key))
    data = [{**_data(store, one), "signature": str(sign(store.path(one), key))} for one in found]
    out.result(
        {"signer": line, "images": data},
        f"{counted(len(found), 'image')} signed. For nodes, in the inventory:\n"
        f"system_volume_image_signers:\n  - {line}",
    )


@_images.command("serve")
def serve_images(
    listen: Annotated[
        str, typer.Option("--listen", help="Address and port to listen on.", metavar="ADDRESS:PORT")
    ] = "0.0.0.0:8440",
    output: Form = Format.TEXT,
) -> None:
    """Serve this machine's images over HTTP, for nodes that download them. Stop with Ctrl-C."""
    out = Output(output)
    store = Store()
    listed = store.list()
    found = [one for one in listed if store.present(one)]
    if missing := len(listed) - len(found):
        out.note(
            f"{counted(missing, 'image')} with an incomplete file, which nodes "
            "can't get (kubewright image build)",
            style="yellow",
        )
    unsigned = [one for one in found if not signature_of(store.path(one)).exists()]
    if unsigned:
        out.note(
            f"{counted(len(unsigned), 'image')} not signed: nodes refuse them "
            "(kubewright image sign)",
            style="yellow",
        )
    with server(store, *_place(listen), out.note) as serving:
        address, port = serving.server_address[:2]
        shown = f"[{address!s}]" if ":" in str(address) else str(address)
        url = f"http://{shown}:{port}"
        out.result(
            {"url": url, "images": [_data(store, one) for one in found]},
            f"Serving {counted(len(found), 'image')} on {url}. For nodes, in the inventory:\n"
            f"system_volume_image_url: http://<this machine>:{port}",
        )
        try:
            serving.serve_forever()
        except KeyboardInterrupt:
            out.note("no longer serving")


def _place(listen: str) -> tuple[str, int]:
    address, _, port = listen.rpartition(":")
    if not address or not port.isascii() or not port.isdigit() or int(port) > 65535:
        raise CommandError(
            f"--listen {listen} is not ADDRESS:PORT",
            remedy="Write it as 192.0.2.1:8440 or [2001:db8::1]:8440.",
            code=ExitCode.BAD_INPUT,
        )
    return address.strip("[]"), int(port)


@_images.command("gc")
def collect_images(
    output: Form = Format.TEXT,
    yes: Yes = False,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Only list the images that would be removed.")
    ] = False,
) -> None:
    """Remove images that no cluster uses, except the newest of each release.

    An image whose file is missing or truncated is always removed.
    """
    out = Output(output)
    store = Store()
    used = clusters(state.root())
    digests = {digest for given in used.values() for digest in given}
    gone = unused(store.list(), digests, store.present)
    size = sum(image.size for image in gone if store.present(image))
    words = f"{counted(len(gone), 'image')} of {size / 1e6:.0f} MB"
    if not gone:
        out.result({"removed": [], "bytes": 0}, "Nothing to remove.")
        return
    if not dry_run:
        out.notes.print(_table(gone))
        out.confirm(f"Remove {words}?", yes=yes)
        for image in gone:
            store.remove(image)
    data = [_data(store, image) for image in gone]
    out.result(
        {"removed" if not dry_run else "would_remove": data, "bytes": size},
        _table(gone) if dry_run else f"{words} removed.",
    )


def _data(store: Store, image: Image) -> dict[str, Any]:
    return {**image.model_dump(mode="json"), "path": str(store.path(image))}


def _table(images: list[Image]) -> Table:
    table = Table(
        "Kubernetes", "role", "revision", "arch", "source", "MB", "built", "digest", box=None
    )
    for image in images:
        table.add_row(
            image.kubernetes,
            image.role,
            str(image.revision),
            image.arch,
            image.source,
            f"{image.size / 1e6:.0f}",
            f"{image.built_at:%Y-%m-%d %H:%M}",
            image.digest[:12],
        )
    return table
