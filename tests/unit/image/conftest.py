# SPDX-License-Identifier: Apache-2.0
"""A catalogue of one tiny release, so that a whole build takes a second and no network."""

from __future__ import annotations

from pathlib import Path

import pytest

from kubewright.image import Catalogue, builder
from kubewright.image.catalogue import ContainerImage, GoPart, Install, Release, Toolchain
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
