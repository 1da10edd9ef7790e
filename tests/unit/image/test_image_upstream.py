# SPDX-License-Identifier: Apache-2.0
"""System images out of upstream's own files: pinned, mirrored and built, from real servers."""

from __future__ import annotations

import json
import tarfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path

import pytest
import yaml
from registry_server import PASSWORD, RegistryServer, image, running
from release_server import ReleaseServer, archive, program, served

from kubewright.image import Catalogue, Image, ImageError, Origin, Store, build, fill, pin, squashfs
from kubewright.image.catalogue import (
    ContainerImage,
    GoPart,
    Install,
    Release,
    Toolchain,
    Upstream,
    read_pins,
)
from kubewright.image.catalogue.upstream import Published
from kubewright.image.parts import MadePart

KUBELET = "dl.example.org/v1.37.2/bin/linux/{arch}/kubelet"
RUNTIME = "github.example.org/runtime/2.0.0/runtime-{arch}.tar.gz"
PROXY, NET = "registry.example.org/kube-proxy:v1.37.2", "ghcr.example.org/net/net:v2.0.0"
ROLES = ["control_plane", "worker"]


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
    assert "dl.k8s.io/x is pinned to another sha256" in error.message
