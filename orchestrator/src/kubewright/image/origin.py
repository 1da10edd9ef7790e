# SPDX-License-Identifier: Apache-2.0
"""Where a build takes things from: Go modules, a mirror of upstream's releases, upstream itself.

A mirror has upstream's own layout: ``https://dl.k8s.io/v1.37.2/bin`` is
``<mirror>/dl.k8s.io/v1.37.2/bin``, and ``registry.k8s.io/kube-proxy`` is ``<registry>/kube-proxy``.
"""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, Self, get_args
from urllib.parse import urlsplit

from kubewright.image.errors import ImageError
from kubewright.image.paths import expanded

#: What a user names.
SourceName = Literal["modules", "mirror", "upstream"]
#: What an image is made of: a mirror has what upstream has, byte for byte.
Kind = Literal["modules", "upstream"]

SOURCES: tuple[SourceName, ...] = get_args(SourceName)
KINDS: tuple[Kind, ...] = get_args(Kind)
#: The same as the command's options, for all commands that build.
SOURCE_VARIABLE = "KUBEWRIGHT_IMAGE_SOURCE"
MIRROR_VARIABLE = "KUBEWRIGHT_IMAGE_MIRROR"
REGISTRY_VARIABLE = "KUBEWRIGHT_IMAGE_REGISTRY"

_REGISTRY = re.compile(r"^[A-Za-z0-9.-]+(:\d+)?(/[a-z0-9]+([._-]+[a-z0-9]+)*)*$")
_DOCS = "docs/air-gapped.md"


@dataclass(frozen=True)
class Origin:
    """``mirror`` is a URL or an absolute directory, ``registry`` a ``host[:port][/prefix]``."""

    source: SourceName = "modules"
    mirror: str = ""
    registry: str = ""

    @classmethod
    def of(cls, source: str | None, mirror: str | None, registry: str | None) -> Self | None:
        """What the user said; None when that is nothing.

        A mirror that is named without a source means itself. Raises ImageError for anything else
        that does not fit together, and for credentials in a URL.
        """
        if not (source or mirror or registry):
            return None
        named = source or "mirror"
        for known in SOURCES:
            if known == named:
                break
        else:
            raise ImageError(f"Unknown source {named!r}.", f"Sources: {', '.join(SOURCES)}.")
        if known != "mirror" and (mirror or registry):
            raise ImageError(
                f"A mirror or a registry was given, but the source {known} uses neither.",
                "Use --source mirror, or omit the mirror.",
            )
        if known == "mirror" and not mirror:
            raise ImageError(
                "The source is a mirror, but no mirror was given.",
                f"Give its URL or directory with --mirror, or in {MIRROR_VARIABLE} ({_DOCS}).",
            )
        return cls(known, _place(mirror or ""), _registry(registry or ""))

    @classmethod
    def from_environment(cls, environ: Mapping[str, str] | None = None) -> Self | None:
        """What the environment says; None when it says nothing. Raises ImageError as :meth:`of`."""
        env = os.environ if environ is None else environ
        return cls.of(
            env.get(SOURCE_VARIABLE), env.get(MIRROR_VARIABLE), env.get(REGISTRY_VARIABLE)
        )

    @property
    def kind(self) -> Kind:
        return "modules" if self.source == "modules" else "upstream"

    @property
    def by_registry(self) -> bool:
        """Whether container images come from a registry; else they lie beside the files."""
        return self.source == "upstream" or bool(self.registry)

    def place(self, address: str) -> str:
        """The URL, or the path, of upstream's file ``<host>/<path>``."""
        return f"{self.mirror or 'https:/'}/{address}"

    def image(self, name: str, digest: str = "") -> str:
        """Where the registry has upstream's image ``<host>/<repository>:<tag>``.

        By its digest where one is given, else by its tag.
        """
        host, _, rest = name.partition("/")
        repository, _, tag = rest.partition(":")
        end = f"@{digest}" if digest else f":{tag}"
        return f"{self.registry or host}/{repository}{end}"


MODULES = Origin()
UPSTREAM = Origin("upstream")


def host_of(reference: str) -> str:
    """The host of a URL or of an image reference, with its port."""
    return (reference.split("://", 1)[-1]).split("/", 1)[0]


def image_directory(name: str, digest: str) -> str:
    """Where a mirror without a registry has an image: below its name, in skopeo's `dir` form."""
    return f"{name.rpartition(':')[0]}/{digest.removeprefix('sha256:')}"


def registry_option(text: str) -> str:
    """A registry as it was typed, checked. Raises ImageError."""
    return _registry(text)


def _place(text: str) -> str:
    if "://" not in text:
        path = expanded(Path(text))
        if text and not path.is_dir():
            raise ImageError(
                f"The mirror {path} is not a directory.",
                "Give a directory filled by `kubewright image mirror`, or a URL (https://...).",
            )
        return str(path) if text else ""
    no_url = ImageError(
        f"The mirror {text!r} is not a URL to download from.",
        "It looks like https://mirror.example.com/kubernetes, or is a directory.",
    )
    try:
        parts = urlsplit(text)
    except ValueError as fault:  # such as [ without ], or what is no IPv6 address in them
        raise no_url from fault
    if parts.username is not None or parts.password is not None:
        raise ImageError(
            "The mirror's URL contains credentials, which other users can see in the process list.",
            f"Remove them from the URL, and put them into ~/.netrc: machine {parts.hostname} login "
            "...",
        )
    if parts.scheme not in ("http", "https") or not parts.hostname or parts.query or parts.fragment:
        raise no_url
    return text.rstrip("/")


def _registry(text: str) -> str:
    text = text.rstrip("/")
    if text and not _REGISTRY.match(text):
        raise ImageError(
            "The registry must have the form host[:port][/prefix].",
            "It looks like registry.example.com/kubernetes, without https:// and"
            " without credentials (use `skopeo login` for those).",
        )
    return text
