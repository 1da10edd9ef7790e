# SPDX-License-Identifier: Apache-2.0
"""A web server and a registry with a tiny release as upstream publishes it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import pytest
import yaml
from registry_server import RegistryServer, image
from release_server import ReleaseServer

from kubewright.image.builder import build
from kubewright.image.catalogue import (
    Catalogue,
    ContainerImage,
    GoPart,
    Install,
    Release,
    Toolchain,
    Upstream,
    read_pins,
)
from kubewright.image.catalogue.upstream import Published
from kubewright.image.errors import ImageError
from kubewright.image.index import Image
from kubewright.image.origin import Origin
from kubewright.image.pin import pin

KUBELET = "dl.example.org/v1.37.2/bin/linux/{arch}/kubelet"

RUNTIME = "github.example.org/runtime/2.0.0/runtime-{arch}.tar.gz"
PROXY, NET = "registry.example.org/kube-proxy:v1.37.2", "ghcr.example.org/net/net:v2.0.0"


def fill_registry(server: RegistryServer, directory: Path) -> None:
    image(directory / "proxy", b"proxy", ["amd64", "arm64"])
    image(directory / "net", b"net")
    server.push(directory / "proxy", "k8s/kube-proxy:v1.37.2", "--all")
    server.push(directory / "net", "k8s/net/net:v2.0.0")


@dataclass
class Site:
    """A web server and a registry with a tiny release, a cache, and where pins are written."""

    web: ReleaseServer
    registry: RegistryServer
    directory: Path
    said: list[str] = field(default_factory=list)

    @property
    def origin(self) -> Origin:
        return Origin("mirror", self.web.url, f"{self.registry.host}/k8s")

    @property
    def pins(self) -> Path:
        return self.directory / "pins" / "1.37.pins.yml"

    @property
    def cache(self) -> Path:
        return self.directory / "cache"

    def catalogue(self) -> Catalogue:
        """The release with the pins that are written by now."""
        return Catalogue([RELEASE], UPSTREAM, read_pins(self.pins))

    def pin(self, *arches: str) -> list[str]:
        done = pin(
            "1.37",
            arches or ["amd64"],
            self.origin,
            lambda line, _: self.said.append(line),
            into=self.pins.parent,
            cache=self.cache,
            catalogue=self.catalogue(),
        )
        return done.added

    def build(self, origin: Origin | None = None, cache: str = "cache") -> list[Image]:
        return build(
            "1.37",
            ["worker"],
            lambda line, _: self.said.append(line),
            cache=self.directory / cache,
            catalogue=self.catalogue(),
            origin=origin or self.origin,
        )

    def change_pins(self, change: Callable[[dict[str, dict[str, object]]], None]) -> None:
        data = yaml.safe_load(self.pins.read_text())
        change(data)
        self.pins.write_text(yaml.safe_dump(data))


def install(*files: str) -> list[Install]:
    return [Install(files=list(files), to="bin", roles=["control_plane", "worker"])]


RELEASE = Release(
    kubernetes="1.37.2",
    revision=1,
    released="2026-01-01T00:00:00Z",
    toolchain=Toolchain(version="1.26.6", sha256={"amd64": "0" * 64}),
    versions={"kubernetes": "v1.37.2", "runtime": "v1.0.0", "net": "v2.0.0"},
    image_tags={},
    upstream_versions={"runtime": "v2.0.0"},
    parts={
        "kubernetes": GoPart(
            recipe="go",
            modules={"k8s.io/kubernetes": "kubernetes"},
            binaries={
                "kubelet": "k8s.io/kubernetes/cmd/kubelet",
                "kube-proxy": "k8s.io/kubernetes/cmd/kube-proxy",
            },
            install=install("kubelet"),
        ),
        "runtime": GoPart(
            recipe="go",
            modules={"example.org/runtime": "runtime"},
            binaries={"run": "example.org/runtime/run"},
            install=install("*"),
        ),
    },
    images={
        "kube-proxy": ContainerImage(
            name="registry.example.org/kube-proxy",
            component="kubernetes",
            roles=["control_plane", "worker"],
            files={"kube-proxy": "kubernetes/kube-proxy"},
        ),
        "net": ContainerImage(
            name="ghcr.example.org/net/net",
            component="net",
            roles=["worker"],
            files={"kube-proxy": "kubernetes/kube-proxy"},
        ),
    },
)
UPSTREAM = Upstream(
    parts={
        "kubernetes": [
            Published(
                url="dl.example.org/{version}/bin/linux/{arch}/kubelet",
                files=["kubelet"],
                checksum="{url}.sha256",
            )
        ],
        "runtime": [
            Published(
                url="github.example.org/runtime/{number}/runtime-{arch}.tar.gz",
                inside="bin",
                files=["run"],
            )
        ],
    },
)


def refused(call: Callable[[], object]) -> ImageError:
    with pytest.raises(ImageError) as raised:
        call()
    return raised.value
