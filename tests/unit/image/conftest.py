# SPDX-License-Identifier: Apache-2.0
"""A tiny release, built in a second without a network; and the same as upstream publishes it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from registry_server import RegistryServer, running
from release_server import ReleaseServer, archive, program, served
from upstream_site import KUBELET, RUNTIME, Site, fill_registry

from kubewright.image import builder
from kubewright.image.catalogue import (
    Catalogue,
    ContainerImage,
    GoPart,
    Install,
    Release,
    Toolchain,
)
from kubewright.image.parts import MadePart


@pytest.fixture
def catalogue() -> Catalogue:
    part = GoPart(
        recipe="go",
        modules={"k8s.io/kubernetes": "kubernetes"},
        binaries={"kubelet": "k8s.io/kubernetes/cmd/kubelet"},
        install=[Install(files=["kubelet"], to="bin", roles=["control_plane", "worker"])],
    )
    image = ContainerImage(
        name="registry.k8s.io/kube-proxy",
        component="kubernetes",
        roles=["control_plane", "worker"],
        files={"usr/local/bin/kubelet": "kubernetes/kubelet"},
    )
    release = Release(
        kubernetes="1.37.2",
        revision=1,
        released="2026-01-01T00:00:00Z",
        toolchain=Toolchain(version="1.26.6", sha256={"amd64": "0" * 64}),
        versions={"kubernetes": "v1.37.2"},
        image_tags={},
        parts={"kubernetes": part},
        images={"kube-proxy": image},
    )
    return Catalogue([release])


@pytest.fixture
def made(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Replaces the recipes: programs are a few bytes. Lists the parts in the order of making."""
    names: list[str] = []

    def make_parts(
        release: Release, keys: dict[str, str], locked: object, arch: str, cache: Path, *_: object
    ) -> None:
        for name, key in keys.items():
            names.append(name)
            directory = cache / "parts" / f".work-{name}"
            files = directory / "files"
            files.mkdir(parents=True)
            (files / "kubelet").write_bytes(b"kubelet" * 50_000)
            (files / "kubelet").chmod(0o755)
            MadePart.record(name, key, 1.0, files, {"kubelet": "a test"}).commit(cache, directory)

    monkeypatch.setattr(builder, "make_parts", make_parts)
    monkeypatch.setattr("kubewright.image.prerequisites.check", lambda *_, **__: None)
    return names


@pytest.fixture(scope="session")
def open_registry(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RegistryServer]:
    """A registry with the images of the release; nobody pushes other ones under their names."""
    directory = tmp_path_factory.mktemp("registry")
    with running(directory / "server") as server:
        fill_registry(server, directory)
        yield server


@pytest.fixture(scope="session")
def closed_registry(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RegistryServer]:
    """The same, and it asks for a login."""
    directory = tmp_path_factory.mktemp("closed")
    with running(directory / "server", login=True) as server:
        fill_registry(server, directory)
        yield server


@pytest.fixture
def site(
    tmp_path: Path, open_registry: RegistryServer, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Site]:
    monkeypatch.setattr("kubewright.image.builder.host_arch", lambda: "amd64")
    monkeypatch.setenv("SSL_CERT_FILE", str(open_registry.certificates.authority))
    monkeypatch.setenv("REGISTRY_AUTH_FILE", str(tmp_path / "no-auth.json"))
    monkeypatch.setenv("NETRC", str(tmp_path / "netrc"))
    with served(ReleaseServer(tmp_path / "site")) as web:
        for arch in ("amd64", "arm64"):
            kubelet = KUBELET.format(arch=arch)
            sha256 = web.put(kubelet, program("kubelet", arch))
            web.put(f"{kubelet}.sha256", sha256.encode())
            runtime = {"./bin/run": program("run", arch), "./bin/README": b"no program"}
            web.put(RUNTIME.format(arch=arch), archive(runtime))
        yield Site(web, open_registry, tmp_path)
