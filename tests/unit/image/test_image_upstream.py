# SPDX-License-Identifier: Apache-2.0
"""System images out of upstream's own files, from real servers."""

from __future__ import annotations

import json
import tarfile
from datetime import UTC, datetime
from pathlib import Path

import pytest
import yaml
from registry_server import PASSWORD, RegistryServer
from release_server import program
from upstream_site import (
    KUBELET,
    NET,
    PROXY,
    RUNTIME,
    Site,
    refused,
)

from kubewright.image import squashfs
from kubewright.image.builder import build
from kubewright.image.catalogue import (
    Release,
)
from kubewright.image.origin import Origin
from kubewright.image.parts import MadePart
from kubewright.image.store import Store


def test_an_image_of_a_mirror_has_the_same_shape(site: Site) -> None:
    site.pin()
    (made,) = site.build()
    assert made.source == "upstream"
    store = Store(site.cache, site.catalogue())
    assert store.verify(made).ok
    manifest = json.loads(squashfs.read(store.path(made), "manifest.json") or "")
    assert set(manifest) == {
        *("schema", "kubernetes", "revision", "arch", "role", "components", "files", "images"),
    }
    assert manifest["components"] == {
        "kubernetes": "v1.37.2",
        "net": "v2.0.0",
        "runtime": "v2.0.0",
    }
    assert manifest["images"] == [
        {"name": PROXY, "archive": "images/kube-proxy.tar"},
        {"name": NET, "archive": "images/net.tar"},
    ]
    pins = yaml.safe_load(site.pins.read_text())
    sources = {entry["path"]: entry["source"] for entry in manifest["files"]}
    assert sources == {
        "bin/kubelet": f"file {KUBELET.format(arch='amd64')}",
        "bin/run": f"file {RUNTIME.format(arch='amd64')} bin/run",
        "images/kube-proxy.tar": f"image {PROXY}@{pins['images'][PROXY]['amd64']}",
        "images/net.tar": f"image {NET}@{pins['images'][NET]['amd64']}",
    }
    modes = {entry["path"]: entry["mode"] for entry in manifest["files"]}
    assert (modes["bin/run"], modes["images/net.tar"]) == ("0755", "0644")


def test_the_archive_of_an_image_keeps_upstreams_bytes_under_its_name(site: Site) -> None:
    site.pin()
    site.build()
    digest = yaml.safe_load(site.pins.read_text())["images"][NET]["amd64"]
    paths = [
        path
        for path in site.cache.glob("parts/*/files/image.tar")
        if "image-net" in (path.parents[1] / "part.json").read_text()
    ]
    with tarfile.open(paths[0]) as tar:
        listed = tar.extractfile("index.json")
        assert listed is not None
        index = json.load(listed)
        (entry,) = index["manifests"]
        assert entry["digest"] == digest
        assert entry["annotations"]["io.containerd.image.name"] == NET
        names = set(tar.getnames())
    assert f"blobs/sha256/{digest.removeprefix('sha256:')}" in names
    assert len(names) == 5  # layout, index, manifest, config, layer


def test_a_second_build_asks_nobody(site: Site) -> None:
    site.pin()
    images = site.build()
    asked = len(site.web.asked)
    assert site.build() == images
    # What the environment does not say is taken from where the images came.
    assert build("1.37", ["worker"], cache=site.cache, catalogue=site.catalogue()) == images
    assert len(site.web.asked) == asked


def test_the_build_that_was_asked_for_last_is_the_one_in_use(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    days = iter(datetime(2026, 1, day, tzinfo=UTC) for day in range(1, 29))
    for module in ("builder", "store"):
        monkeypatch.setattr(f"kubewright.image.{module}.now", lambda: next(days))
    site.pin()
    site.build()

    def compiled(
        release: Release, keys: dict[str, str], locked: object, arch: str, cache: Path, *_: object
    ) -> None:
        for name, key in keys.items():
            directory = cache / "parts" / f".work-{name}"
            (directory / "files").mkdir(parents=True)
            programs = release.parts[name].binaries  # type: ignore[union-attr]
            for binary in programs:
                (directory / "files" / binary).write_text("compiled")
            MadePart.record(
                name, key, 1.0, directory / "files", dict.fromkeys(programs, "a module")
            ).commit(cache, directory)

    monkeypatch.setattr("kubewright.image.builder.make_parts", compiled)

    def newest() -> str:
        return max(Store(site.cache).list(), key=lambda image: image.built_at).source

    def in_use() -> str:
        (found,) = build("1.37", ["worker"], cache=site.cache, catalogue=site.catalogue())
        other = Store(site.cache, site.catalogue()).find("1.37", "worker")
        assert found == other
        return found.source

    assert (newest(), in_use()) == ("upstream", "upstream")
    site.build(Origin("modules"))
    assert (newest(), in_use()) == ("modules", "modules")
    site.build()
    assert (newest(), in_use()) == ("upstream", "upstream")
    assert len(Store(site.cache).list()) == 2


def test_a_file_of_another_architecture_is_refused_at_building_too(site: Site) -> None:
    site.pin()
    address = KUBELET.format(arch="amd64")
    sha256 = site.web.put(address, program("kubelet", "arm64"))
    site.change_pins(lambda pins: pins["files"].update({address: sha256}))
    error = refused(lambda: site.build(cache="other"))
    assert f"kubelet of {address} is a program for arm64, not a program for amd64" in error.message


def test_an_image_of_another_architecture_is_refused(site: Site) -> None:
    site.pin()
    refused(lambda: site.pin("arm64"))

    def exchange(pins: dict[str, dict[str, object]]) -> None:
        both = pins["images"][PROXY]
        assert isinstance(both, dict)
        both["amd64"] = both["arm64"]

    site.change_pins(exchange)
    error = refused(site.build)
    assert f"{PROXY}@sha256:" in error.message
    assert "is an image for linux on arm64, not for linux on amd64" in error.message
    assert "image pin --arch amd64" in error.remedy


def test_an_image_that_the_registry_lacks(site: Site) -> None:
    site.pin()
    other = Origin("mirror", site.web.url, f"{site.registry.host}/elsewhere")
    error = refused(lambda: site.build(other))
    assert f"{site.registry.host}/elsewhere/" in error.message
    assert "image mirror DIRECTORY --to-registry" in error.remedy


def test_a_registry_that_asks_for_a_login(
    site: Site, closed_registry: RegistryServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    site.pin()
    monkeypatch.setenv("SSL_CERT_FILE", str(closed_registry.certificates.authority))
    origin = Origin("mirror", site.web.url, f"{closed_registry.host}/k8s")
    error = refused(lambda: site.build(origin))
    assert f"{closed_registry.host}/k8s/" in error.message
    assert f"skopeo login {closed_registry.host}" in error.remedy
    assert "REGISTRY_AUTH_FILE" in error.remedy
    monkeypatch.setenv("REGISTRY_AUTH_FILE", str(closed_registry.auth))
    (made,) = site.build(origin)
    assert Store(site.cache).verify(made).ok
    written = b"".join(path.read_bytes() for path in (site.cache / "logs").iterdir())
    assert PASSWORD.encode() not in written
    assert (
        json.loads(closed_registry.auth.read_text())["auths"][closed_registry.host]["auth"].encode()
        not in written
    )
    assert PASSWORD not in " ".join(site.said)


def test_a_registry_whose_certificate_is_not_trusted(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    site.pin()
    monkeypatch.delenv("SSL_CERT_FILE")
    error = refused(site.build)
    assert f"{site.registry.host}/k8s/" in error.message
    assert "SSL_CERT_FILE" in error.remedy


def test_a_registry_that_does_not_answer(site: Site) -> None:
    site.pin()
    error = refused(lambda: site.build(Origin("mirror", site.web.url, "127.0.0.1:1/k8s")))
    assert "127.0.0.1:1 could not be reached" in error.remedy
