# SPDX-License-Identifier: Apache-2.0
"""The catalogue: what ships is whole, and faults are named."""

from __future__ import annotations

import shutil
from importlib import resources
from pathlib import Path

import pytest
import yaml

from kubewright.image.catalogue import Catalogue
from kubewright.image.errors import ImageError

# 1.37.2: what `kubeadm config images list --kubernetes-version v1.37.2` printed. 1.36.4: from the
# constants of its cmd/kubeadm/app/constants (DefaultEtcdVersion, CoreDNSVersion, PauseVersion).
KUBEADM_IMAGES = {
    "1.37.2": {
        "registry.k8s.io/kube-apiserver:v1.37.2",
        "registry.k8s.io/kube-controller-manager:v1.37.2",
        "registry.k8s.io/kube-scheduler:v1.37.2",
        "registry.k8s.io/kube-proxy:v1.37.2",
        "registry.k8s.io/coredns/coredns:v1.14.6",
        "registry.k8s.io/pause:3.10.2",
        "registry.k8s.io/etcd:3.7.0-0",
    },
    "1.36.4": {
        "registry.k8s.io/kube-apiserver:v1.36.4",
        "registry.k8s.io/kube-controller-manager:v1.36.4",
        "registry.k8s.io/kube-scheduler:v1.36.4",
        "registry.k8s.io/kube-proxy:v1.36.4",
        "registry.k8s.io/coredns/coredns:v1.14.2",
        "registry.k8s.io/pause:3.10.2",
        "registry.k8s.io/etcd:3.6.8-0",
    },
}


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    """A copy of the packaged catalogue that a test may spoil."""
    with resources.as_file(resources.files("kubewright.image.catalogue")) as packaged:
        for path in packaged.glob("*.yml"):
            shutil.copy(path, tmp_path)
    return tmp_path


def change(path: Path, keys: list[str], value: object) -> None:
    data = yaml.safe_load(path.read_text())
    inner = data
    for key in keys[:-1]:
        inner = inner[key]
    inner[keys[-1]] = value
    path.write_text(yaml.safe_dump(data))


@pytest.mark.parametrize(
    ("asked", "found"),
    [("1.37", "1.37.2"), ("1.37.2", "1.37.2"), ("v1.36.4", "1.36.4"), ("1.36", "1.36.4")],
)
def test_resolve(asked: str, found: str) -> None:
    assert Catalogue.load().resolve(asked) == found


@pytest.mark.parametrize("asked", ["1.3", "1", "1.37.99", "latest", "", "1.37.2.1"])
def test_unknown_version_lists_the_known_ones(asked: str) -> None:
    with pytest.raises(ImageError) as raised:
        Catalogue.load().resolve(asked)
    assert "1.37.2, 1.36.4" in raised.value.remedy
    assert repr(asked) in raised.value.message


def test_newest_patch_is_by_number(directory: Path) -> None:
    release = {"revision": 1, "released": "2026-01-01T00:00:00Z"}
    change(directory / "1.37.yml", ["releases"], {"1.37.9": release, "1.37.10": release})
    assert Catalogue.load(directory).resolve("1.37") == "1.37.10"


@pytest.mark.parametrize("version", KUBEADM_IMAGES)
def test_control_plane_has_the_images_that_kubeadm_asks_for(version: str) -> None:
    release = Catalogue.load().release(version)
    ours = {release.image_name(name) for name in release.images_of("control_plane")}
    assert ours == KUBEADM_IMAGES[version] | {"ghcr.io/flannel-io/flannel:v0.28.10"}


@pytest.mark.parametrize("version", KUBEADM_IMAGES)
def test_worker_has_a_part_of_it(version: str) -> None:
    release = Catalogue.load().release(version)
    assert set(release.images_of("worker")) == {"kube-proxy", "pause", "coredns", "flannel"}
    assert "etcd" not in release.parts_of("worker")
    assert set(release.parts_of("worker")) < set(release.parts_of("control_plane"))
    assert set(release.parts_of("control_plane")) == set(release.parts)


def test_programs_of_each_role() -> None:
    release = Catalogue.load().release("1.37")
    programs = {
        role: {
            file
            for part in release.parts.values()
            for install in part.install
            if role in install.roles and install.to == "bin"
            for file in install.files
        }
        for role in ("control_plane", "worker")
    }
    both = {"containerd", "containerd-shim-runc-v2", "ctr", "runc", "crictl"}
    both |= {"kubelet", "kubeadm", "kubectl"}
    assert programs == {"worker": both, "control_plane": both | {"etcdctl", "etcdutl"}}


def test_ldflags_name_the_release() -> None:
    release = Catalogue.load().release("1.36")
    flags = release.ldflags(release.parts["kubernetes"])  # type: ignore[arg-type]
    assert "version.gitVersion=v1.36.4 " in flags
    assert "version.gitMinor=36 " in flags
    assert "{" not in flags


@pytest.mark.parametrize(
    ("file", "keys", "value", "named"),
    [
        ("1.37.yml", ["minor"], "1.38", "1.37.2 is not of minor 1.38"),
        ("1.37.yml", ["versions"], {"etcd": "v3.7.0"}, "has no version of"),
        ("1.37.yml", ["image_tags"], {"etdc": "3.7.0-0"}, "unknown images: etdc"),
        ("1.37.yml", ["toolchain", "sha256", "amd64"], "abc", "toolchain.sha256.amd64"),
        ("1.37.yml", ["surprise"], 1, "surprise"),
        ("parts.yml", ["images", "etcd", "files"], {"e": "etcd/etdc"}, "takes etcd/etdc"),
        ("parts.yml", ["images", "etcd", "base"], "runc", "no debian part"),
        ("parts.yml", ["parts", "runc", "binaries"], {"runc": "a.b/c"}, "is in none of"),
        ("parts.yml", ["parts", "load-balancer", "keep"], ["../x"], "not a path inside"),
    ],
)
def test_faults_are_named_with_the_file(
    directory: Path, file: str, keys: list[str], value: object, named: str
) -> None:
    change(directory / file, keys, value)
    with pytest.raises(ImageError) as raised:
        Catalogue.load(directory)
    assert str(directory / file) in raised.value.message
    assert named in raised.value.message


def test_broken_yaml_is_an_image_error(directory: Path) -> None:
    (directory / "1.36.yml").write_text("{")
    with pytest.raises(ImageError, match=r"1\.36\.yml"):
        Catalogue.load(directory)
