# SPDX-License-Identifier: Apache-2.0
"""Debian packages as data: which ones a set of packages needs, and their files, without installing.

The package lists are our own copy (below the cache), so neither root nor the state of the host's
lists matters; the sources and keys are the host's, and apt checks signatures as always.
"""

from __future__ import annotations

import io
import re
import subprocess
import tarfile
from collections.abc import Iterable, Iterator
from pathlib import Path, PurePosixPath

from pydantic import BaseModel, ConfigDict

from kubewright.image.commands import Commands
from kubewright.image.errors import ImageError
from kubewright.image.paths import sha256_file

# Needed by maintainer scripts only, and those never run here; or without any file of use.
_NOT_NEEDED = {
    "adduser",
    "debconf",
    "debconf-2.0",
    "dpkg",
    "gcc-12-base",
    "init-system-helpers",
    "libcap2-bin",
    "lsb-base",
    "openssl",
    "sysvinit-utils",
    "tar",
}
# Debian's directories that are links into /usr on every installed system.
_MERGED = ("bin", "lib", "lib32", "lib64", "libx32", "sbin")


class Pinned(BaseModel):
    """One exact package file."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    version: str
    sha256: str


class Archive:
    """The host's Debian sources, read through apt's own tools."""

    def __init__(self, cache: Path, arch: str, commands: Commands) -> None:
        self._cache = cache
        self._arch = arch
        self._commands = commands
        state = cache / "apt"
        for directory in ("lists/partial", "archives/partial"):
            (state / directory).mkdir(parents=True, exist_ok=True)
        self._options = [
            *("-o", f"Dir::State::Lists={state / 'lists'}"),
            *("-o", f"Dir::Cache={state}"),
            # What the host has installed must not decide which version is the candidate.
            *("-o", "Dir::State::status=/dev/null"),
            *("-o", f"APT::Architecture={arch}"),
            *("-o", f"APT::Architectures={arch}"),
            *("-o", "APT::Sandbox::User=root"),
            *("-o", "Acquire::Languages=none"),
        ]
        self._log = cache / "logs" / "debian-packages.log"

    def update(self) -> None:
        """Fetch the package lists. A third party's broken source does no harm."""
        self._log.unlink(missing_ok=True)
        try:
            self._commands.run(
                ["apt-get", *self._options, "-q", "update"],
                what="reading Debian's package lists",
                log=self._log,
            )
        except ImageError:
            if self._show(["libc6"]) == {}:
                raise

    def closure(self, wanted: Iterable[str]) -> dict[str, Pinned]:
        """``wanted`` and everything that they depend on, at the candidate versions.

        Of alternatives the first that exists is taken. Raises ImageError for a wanted package
        that no source has.
        """
        roots = list(wanted)
        found: dict[str, Pinned] = {}
        pending = [[name] for name in roots]
        while pending:
            names = {name for group in pending for name in group} - found.keys() - _NOT_NEEDED
            stanzas = self._show(sorted(names)) if names else {}
            following: list[list[str]] = []
            for group in pending:
                if any(name in found for name in group):
                    continue
                name = next((name for name in group if name in stanzas), None)
                if name is None:
                    continue
                stanza = stanzas[name]
                found[name] = Pinned(version=stanza["Version"], sha256=stanza["SHA256"])
                following += dependencies(stanza)
            pending = following
        if missing := [name for name in roots if name not in found]:
            raise ImageError(
                f"No configured Debian source has the package {', '.join(missing)}.",
                "Check /etc/apt/sources.list and /etc/apt/sources.list.d;"
                f" apt's output is in {self._log}.",
            )
        return dict(sorted(found.items()))

    def fetch(self, pinned: dict[str, Pinned]) -> dict[str, Path]:
        """Files of the packages, downloaded where they are not in the cache yet."""
        target = self._cache / "downloads" / "debian"
        target.mkdir(parents=True, exist_ok=True)
        paths = {name: target / f"{pin.sha256}.deb" for name, pin in pinned.items()}
        missing = [name for name, path in paths.items() if not path.exists()]
        if missing:
            incoming = target / "incoming"
            incoming.mkdir(exist_ok=True)
            self._commands.run(
                ["apt-get", *self._options, "-q", "download"]
                + [f"{name}={pinned[name].version}" for name in missing],
                what=f"downloading {len(missing)} Debian packages",
                log=self._log,
                cwd=incoming,
            )
            for path in incoming.glob("*.deb"):
                path.replace(target / f"{sha256_file(path)}.deb")
        for name, path in paths.items():
            if not path.exists():
                raise ImageError(
                    f"Debian's package {name} {pinned[name].version} differs from"
                    " what its package list says.",
                    "Run the command again; if it keeps happening, use another mirror.",
                )
        return paths

    def _show(self, names: list[str]) -> dict[str, dict[str, str]]:
        command = ["apt-cache", *self._options, "show", "--no-all-versions", *names]
        done = subprocess.run(
            command, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False
        )
        stanzas = [parse_stanza(text) for text in done.stdout.split("\n\n") if text.strip()]
        return {stanza["Package"]: stanza for stanza in stanzas}


def parse_stanza(text: str) -> dict[str, str]:
    """Fields of one control stanza; continuation lines are joined with newlines."""
    fields: dict[str, str] = {}
    last = ""
    for line in text.strip("\n").split("\n"):
        if line[:1].isspace():
            fields[last] += f"\n{line.strip()}"
        else:
            last, _, value = line.partition(":")
            fields[last] = value.strip()
    return fields


def dependencies(stanza: dict[str, str]) -> list[list[str]]:
    """``libc6 (>= 2.34), a | b:any`` -> ``[["libc6"], ["a", "b"]]``."""
    groups = []
    for field in ("Pre-Depends", "Depends"):
        for group in filter(None, (item.strip() for item in stanza.get(field, "").split(","))):
            names = [
                re.split(r"[\s(:\[]", choice.strip(), maxsplit=1)[0] for choice in group.split("|")
            ]
            groups.append(names)
    return groups


def members(deb: Path) -> Iterator[tuple[str, tarfile.TarInfo, bytes]]:
    """Files and links of a package: path below / with /usr merged, header, contents."""
    process = subprocess.run(["dpkg-deb", "--fsys-tarfile", deb], capture_output=True, check=False)
    if process.returncode != 0:
        raise ImageError(
            f"Debian's package {deb} can't be read: {process.stderr.decode(errors='replace')}.",
            "Delete the file and run the command again.",
        )
    with tarfile.open(fileobj=io.BytesIO(process.stdout)) as tar:
        for member in tar:
            if member.isfile() or member.islnk():
                file = tar.extractfile(member)
                yield merged(member.name), member, file.read() if file else b""
            elif member.issym():
                yield merged(member.name), member, b""


def merged(path: str) -> str:
    """``./lib/x`` and ``/lib/x`` -> ``usr/lib/x``: how an installed system sees it."""
    clean = str(PurePosixPath("/", path)).lstrip("/")
    first, _, rest = clean.partition("/")
    return f"usr/{clean}" if first in _MERGED and rest else clean
