# SPDX-License-Identifier: Apache-2.0
"""A small tree out of Debian packages: what the catalogue keeps and the libraries it needs."""

from __future__ import annotations

import fnmatch
import posixpath
import re
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from kubewright.image.catalogue import DebianPart
from kubewright.image.errors import ImageError
from kubewright.image.recipes import elf, packages
from kubewright.image.recipes.job import Job

RECIPE = 1

_AUTHORITIES = "usr/share/ca-certificates/mozilla/*.crt"
_LIBRARY = re.compile(r"^usr/lib(64)?/([^/]+-linux-gnu/)?[^/]+\.so[.0-9]*$")
# A program with its own loader and libraries: those of the host are others, or too old.
_CALL = """\
#!/bin/sh
tree=${{0%/*}}/..
exec "$tree/{loader}" --argv0 "${{0##*/}}" --library-path "{libraries}" "$tree/{program}" "$@"
"""
# How a system with merged /usr looks; programs and their loader are found by these names.
_USR_LINKS = {"bin": "usr/bin", "lib": "usr/lib", "lib64": "usr/lib64", "sbin": "usr/sbin"}


@dataclass(frozen=True)
class Item:
    """A file (``data``) or a link (``target``) of a package."""

    source: str
    mode: int = 0o644
    data: bytes = b""
    target: str | None = None


def make(job: Job[DebianPart], pinned: dict[str, packages.Pinned]) -> dict[str, str]:
    """Write the tree; ``pinned`` are the packages of this part's closure."""
    archive = packages.Archive(job.cache, job.arch, job.commands)
    available: dict[str, Item] = {}
    for name, path in archive.fetch(pinned).items():
        source = f"debian {name} {pinned[name].version}"
        for inside, member, data in packages.members(path):
            if member.islnk():
                original = available[packages.merged(member.linkname)]
                available[inside] = original
            else:
                target = member.linkname if member.issym() else None
                available[inside] = Item(source, member.mode & 0o755, data, target)
    chosen = choose(available, [*job.part.keep, *job.part.programs.values()])
    calls = {
        f"run/{name}": Item("kubewright", 0o755, call(chosen, program).encode())
        for name, program in job.part.programs.items()
    }
    if job.part.certificates:
        chosen[job.part.certificates] = _bundle(available)
    for inside, text in job.part.files.items():
        chosen[inside] = Item("kubewright", data=text.encode())
    for inside, target in job.part.links.items():
        chosen[inside] = Item("kubewright", target=target)
    chosen |= calls
    if job.part.keep or calls:
        chosen |= {inside: Item("kubewright", target=to) for inside, to in _USR_LINKS.items()}
    _write(job.files, chosen, job.part.directories)
    return {inside: item.source for inside, item in chosen.items() if item.target is None}


def choose(available: dict[str, Item], patterns: Iterable[str]) -> dict[str, Item]:
    """Files that match ``patterns``, and whatever these need to run: loader, libraries, links.

    Raises ImageError for a pattern that nothing matches and for a library that no package has.
    """
    chosen: dict[str, Item] = {}
    pending: list[str] = []
    for pattern in patterns:
        matching = [path for path in available if fnmatch.fnmatchcase(path, pattern)]
        if not matching:
            raise ImageError(
                f"No Debian package of this part contains a file {pattern}.",
                "The catalogue does not match this Debian release; it was made for Debian 12.",
            )
        pending += matching
    libraries = _libraries(available)
    while pending:
        path = pending.pop()
        if path in chosen:
            continue
        item = available.get(path)
        if item is None:
            raise ImageError(
                f"{path} is needed, but no package of this part contains it.",
                "Add the package that contains it to the part in the catalogue.",
            )
        chosen[path] = item
        if item.target is not None:
            pending.append(resolve(path, item.target))
            continue
        needed = elf.needs(item.data)
        if needed is not None:
            pending += [packages.merged(needed.interpreter)] if needed.interpreter else []
            pending += [libraries.get(name, name) for name in needed.libraries]
    return chosen


def call(chosen: dict[str, Item], program: str) -> str:
    """Return a script that calls a program of the tree from outside, wherever the tree lies."""
    needed = elf.needs(chosen[program].data)
    if needed is None or not needed.interpreter:
        raise ImageError(f"{program} can't be called from outside: it has no loader.", "Link it.")
    loader = packages.merged(needed.interpreter)
    while (target := chosen[loader].target) is not None:
        loader = resolve(loader, target)
    places = sorted({posixpath.dirname(path) for path in chosen if _LIBRARY.match(path)})
    libraries = ":".join(f"$tree/{place}" for place in places)
    return _CALL.format(loader=loader, libraries=libraries, program=program)


def resolve(path: str, target: str) -> str:
    """Where the link ``path`` points to, below / with /usr merged."""
    joined = posixpath.normpath(posixpath.join("/", posixpath.dirname(path), target))
    return packages.merged(joined)


def _libraries(available: dict[str, Item]) -> dict[str, str]:
    """soname -> path, for the directories that the loader searches without being told."""
    standard = re.compile(r"^usr/lib(64)?/([^/]+-linux-gnu/)?[^/]+$")
    return {posixpath.basename(path): path for path in available if standard.match(path)}


def _bundle(available: dict[str, Item]) -> Item:
    names = sorted(path for path in available if fnmatch.fnmatchcase(path, _AUTHORITIES))
    if not names:
        raise ImageError(
            "Debian's package ca-certificates contains no CAs.",
            "Check which source it comes from: `apt-cache policy ca-certificates`.",
        )
    data = b"".join(available[name].data.rstrip(b"\n") + b"\n" for name in names)
    return Item(available[names[0]].source, data=data)


def _write(root: Path, chosen: dict[str, Item], directories: Iterable[str]) -> None:
    for inside in directories:
        (root / inside).mkdir(parents=True, exist_ok=True)
    for inside, item in chosen.items():
        path = root / inside
        path.parent.mkdir(parents=True, exist_ok=True)
        if item.target is not None:
            path.symlink_to(item.target)
        else:
            path.write_bytes(item.data)
            path.chmod(item.mode)
    for path in (root, *root.rglob("*")):
        if path.is_dir() and not path.is_symlink():
            path.chmod(0o1777 if path.name == "tmp" else 0o755)
