# SPDX-License-Identifier: Apache-2.0
"""Filling a mirror from another one, and using it: whole files and images, or none."""

from __future__ import annotations

import json

import pytest
import yaml
from registry_server import RegistryServer
from release_server import ReleaseServer, program, served
from upstream_site import (
    KUBELET,
    NET,
    Site,
    refused,
)

from kubewright.image.mirror import fill
from kubewright.image.origin import Origin
from kubewright.image.store import Store


def test_a_mirror_in_a_directory_gives_the_same_image(site: Site) -> None:
    site.pin()
    (expected,) = site.build()
    place = site.directory / "mirror"
    done = fill("1.37", ["amd64"], place, site.origin, cache=site.cache, catalogue=site.catalogue())
    assert len(done.files) == len(done.images) == 2
    assert (place / KUBELET.format(arch="amd64")).read_bytes() == program("kubelet")
    (made,) = site.build(Origin("mirror", str(place)), cache="other")
    assert made.digest == expected.digest
    # Any web server will do, without a registry.
    with served(ReleaseServer(place)) as web:
        (made,) = site.build(Origin("mirror", web.url), cache="third")
    assert made.digest == expected.digest


def test_a_full_mirror_is_kept_and_fills_a_registry_without_its_source(
    site: Site, closed_registry: RegistryServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    site.pin()
    place = site.directory / "mirror"
    options = {"cache": site.cache, "catalogue": site.catalogue()}
    fill("1.37", ["amd64"], place, site.origin, **options)  # type: ignore[arg-type]
    monkeypatch.setenv("SSL_CERT_FILE", str(closed_registry.certificates.authority))
    monkeypatch.setenv("REGISTRY_AUTH_FILE", str(closed_registry.auth))
    target = f"{closed_registry.host}/air"
    done = fill(
        "1.37",
        ["amd64"],
        place,
        Origin("mirror", "http://127.0.0.1:1"),
        to_registry=target,
        **options,  # type: ignore[arg-type]
    )
    digest = yaml.safe_load(site.pins.read_text())["images"][NET]["amd64"]
    assert f"{target}/net/net:v2.0.0-amd64@{digest}" in done.pushed
    assert closed_registry.digest("air/net/net:v2.0.0-amd64") == digest
    (made,) = site.build(Origin("mirror", str(place), target), cache="other")
    assert Store(site.directory / "other").verify(made).ok


def test_a_damaged_file_of_a_mirror_is_replaced(site: Site) -> None:
    site.pin()
    place = site.directory / "mirror"

    def again() -> None:
        fill("1.37", ["amd64"], place, site.origin, cache=site.cache, catalogue=site.catalogue())

    again()
    digest = yaml.safe_load(site.pins.read_text())["images"][NET]["amd64"]
    directory = place / "ghcr.example.org/net/net" / digest.removeprefix("sha256:")
    blob = max(directory.iterdir(), key=lambda path: len(path.name))
    for path in (place / KUBELET.format(arch="amd64"), blob):
        path.write_bytes(b"damaged")
    again()
    assert (place / KUBELET.format(arch="amd64")).read_bytes() == program("kubelet")
    assert blob.read_bytes() != b"damaged"
    assert not [path for path in place.rglob("*") if path.name.endswith(".part")]


def test_half_an_image_never_has_its_name(site: Site) -> None:
    site.pin()
    place = site.directory / "mirror"
    catalogue = site.catalogue()
    fill("1.37", ["amd64"], place, site.origin, cache=site.cache, catalogue=catalogue)
    digest = yaml.safe_load(site.pins.read_text())["images"][NET]["amd64"]
    whole = place / "ghcr.example.org/net/net" / digest.removeprefix("sha256:")
    manifest = json.loads((whole / "manifest.json").read_text())
    (whole / manifest["layers"][0]["digest"].removeprefix("sha256:")).unlink()
    second = site.directory / "second"
    origin = Origin("mirror", str(place))
    error = refused(
        lambda: fill("1.37", ["amd64"], second, origin, cache=site.cache, catalogue=catalogue)
    )
    assert "is missing" in error.message
    assert not (second / whole.relative_to(place)).exists()
    error = refused(lambda: site.build(origin, cache="other"))
    assert "is missing" in error.message
    assert Store(site.directory / "other").list() == []
