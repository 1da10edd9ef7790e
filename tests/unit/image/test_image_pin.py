# SPDX-License-Identifier: Apache-2.0
"""Pins: which bytes upstream has, written once, from real servers."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml
from release_server import archive, program
from upstream_site import (
    KUBELET,
    NET,
    PROXY,
    RUNTIME,
    Site,
    refused,
)

from kubewright.image.catalogue import Catalogue
from kubewright.image.mirror import fill


def test_what_is_not_pinned_is_not_fetched(site: Site) -> None:
    error = refused(site.build)
    assert KUBELET.format(arch="amd64") in error.message
    assert "kubewright image pin 1.37.2" in error.remedy
    assert site.web.asked == []
    place = site.directory / "mirror"
    error = refused(lambda: fill("1.37", ["amd64"], place, site.origin, catalogue=site.catalogue()))
    assert "kubewright image pin 1.37.2" in error.remedy
    assert site.web.asked == []


def test_pins_are_hashes_and_digests_of_each_architecture(site: Site) -> None:
    added = site.pin()
    assert len(added) == 4
    pins = yaml.safe_load(site.pins.read_text())
    assert set(pins["files"]) == {KUBELET.format(arch="amd64"), RUNTIME.format(arch="amd64")}
    assert "publishes no sha256" in next(line for line in site.said if "runtime" in line)
    assert pins["images"][NET] == {"amd64": site.registry.digest("k8s/net/net:v2.0.0")}
    # The tag is an index of two platforms; the pin is the manifest of one.
    assert pins["images"][PROXY]["amd64"] != site.registry.digest("k8s/kube-proxy:v1.37.2")
    error = refused(lambda: site.pin("arm64"))
    assert f"{site.registry.host}/k8s/net/net" in error.message
    assert "for linux on amd64, not for linux on arm64" in error.message
    pins = yaml.safe_load(site.pins.read_text())
    assert set(pins["images"][PROXY]) == {"amd64", "arm64"}
    assert KUBELET.format(arch="arm64") in pins["files"]


def test_a_pin_that_exists_is_kept_and_not_fetched(site: Site) -> None:
    site.pin()
    before = site.pins.read_text()
    site.web.put(KUBELET.format(arch="amd64"), program("another kubelet"))
    asked = len(site.web.asked)
    assert site.pin() == []
    assert site.pins.read_text() == before
    assert len(site.web.asked) == asked


def test_a_published_checksum_that_differs_pins_nothing(site: Site) -> None:
    site.web.put(f"{KUBELET.format(arch='amd64')}.sha256", b"0" * 64)
    error = refused(site.pin)
    assert f"kubelet.sha256 says {'0' * 64}" in error.message
    assert not site.pins.exists()


@pytest.mark.parametrize(
    ("data", "says"),
    [
        (program("kubelet", "arm64"), "is a program for arm64, not a program for amd64"),
        (b"<html>Please log in</html>", "is no program, not a program for amd64"),
    ],
)
def test_what_is_no_program_of_the_architecture_is_not_pinned(
    site: Site, data: bytes, says: str
) -> None:
    address = KUBELET.format(arch="amd64")
    site.web.put(f"{address}.sha256", site.web.put(address, data).encode())
    error = refused(site.pin)
    assert says in error.message
    assert address in error.message
    assert not site.pins.exists()


@pytest.mark.parametrize(
    ("data", "says"),
    [
        (archive({"bin/other": program("x")}), "has no run in bin"),
        (b"no archive", "can't be unpacked"),
        (archive({"bin/run": program("x") * 5000})[:-2000], "can't be unpacked"),
    ],
)
def test_an_archive_without_the_program_is_not_pinned(site: Site, data: bytes, says: str) -> None:
    site.web.put(RUNTIME.format(arch="amd64"), data)
    error = refused(site.pin)
    assert says in error.message
    assert RUNTIME.format(arch="amd64") in error.message


def test_the_packaged_catalogue_has_all_programs_and_images_of_both_sources() -> None:
    catalogue = Catalogue.load()
    for version in catalogue.versions():
        for arch in ("amd64", "arm64"):
            modules, upstream = catalogue.release(version), catalogue.published(version, arch)
            installed = {name for name, part in modules.parts.items() if part.install}
            assert installed <= set(upstream.parts)
            for role in ("control_plane", "worker"):
                names = [upstream.image_name(name) for name in upstream.images_of(role)]
                assert names == [modules.image_name(name) for name in modules.images_of(role)]
                assert set(upstream.parts_of(role)) <= set(upstream.parts)


def test_addresses_of_upstream() -> None:
    release = Catalogue.load().published("1.37.2", "amd64")
    addresses = {
        item.address
        for part in release.parts.values()
        if part.recipe == "upstream"
        for item in part.downloads
    }
    github = "github.com"
    assert addresses == {
        "dl.k8s.io/v1.37.2/bin/linux/amd64/kubeadm",
        "dl.k8s.io/v1.37.2/bin/linux/amd64/kubectl",
        "dl.k8s.io/v1.37.2/bin/linux/amd64/kubelet",
        f"{github}/containerd/containerd/releases/download/v2.3.4/containerd-2.3.4-linux-amd64.tar.gz",
        f"{github}/containernetworking/plugins/releases/download/v1.9.1/cni-plugins-linux-amd64-v1.9.1.tgz",
        f"{github}/etcd-io/etcd/releases/download/v3.7.0/etcd-v3.7.0-linux-amd64.tar.gz",
        f"{github}/flannel-io/cni-plugin/releases/download/v1.9.1-flannel1/flannel-amd64",
        f"{github}/kubernetes-sigs/cri-tools/releases/download/v1.36.0/crictl-v1.36.0-linux-amd64.tar.gz",
        f"{github}/opencontainers/runc/releases/download/v1.4.3/runc.amd64",
    }


def test_pins_that_contradict_each_other_are_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))
    directory = tmp_path / "kubewright" / "pins"
    directory.mkdir(parents=True)
    for name, digit in (("1.36", "0"), ("1.37", "1")):
        pins = {"schema": 1, "files": {"dl.k8s.io/x": digit * 64}}
        (directory / f"{name}.pins.yml").write_text(yaml.safe_dump(pins))
    error = refused(Catalogue.load)
    assert str(directory / "1.37.pins.yml") in error.message
    assert "dl.k8s.io/x is pinned to a different sha256" in error.message
