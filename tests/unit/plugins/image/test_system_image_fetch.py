# SPDX-License-Identifier: Apache-2.0
"""Images by address: a real server, real signatures, real squashfs files that the kernel mounts."""

from __future__ import annotations

import errno
import os
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from ansible_collections.kubewright.cluster.plugins.module_utils._base import atomic
from ansible_collections.kubewright.cluster.plugins.module_utils._image import download, images
from image_server import Served, Signer, serving
from images import Made, make

RunModule = Callable[..., dict[str, Any]]
MIB = 1 << 20

pytestmark = pytest.mark.skipif(os.getuid() != 0, reason="mounts, and images belong to root")


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("kw-images")


@pytest.fixture(scope="module")
def image(place: Path) -> Made:
    return make(place, "worker", filling=3 * MIB)


@pytest.fixture(scope="module")
def signer(place: Path) -> Signer:
    return Signer.make(place, "builder")


@pytest.fixture
def volume(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A directory that counts as the mounted volume."""
    path = tmp_path / "system"
    path.mkdir()
    monkeypatch.setattr(images.Store, "is_mounted", lambda store: store.volume == path)
    return path


@pytest.fixture
def served(tmp_path: Path, image: Made, signer: Signer) -> Iterator[Served]:
    with serving(tmp_path) as found:
        publish(found, image, signer)
        yield found


def publish(served: Served, image: Made, signer: Signer, **more: Any) -> None:
    served.files[f"{image.digest}.squashfs"] = image.content
    served.files[f"{image.digest}.squashfs.sig"] = signer.sign(image.content, **more)


@pytest.fixture
def fetch(
    run_module: RunModule, volume: Path, served: Served, image: Made, signer: Signer
) -> RunModule:
    def call(**more: Any) -> dict[str, Any]:
        usual = {"digest": image.digest, "state": "present", "role": "worker"}
        server = {"url": served.url, "signers": [signer.public], "volume": str(volume)}
        return run_module("system_image", **{**usual, **server, **more})

    return call


def left(volume: Path) -> list[int]:
    """Sizes of what transfers have left."""
    return [path.stat().st_size for path in (volume / "incoming").glob("*")]


def test_staged_then_active(
    fetch: RunModule, volume: Path, image: Made, served: Served, run_module: RunModule
) -> None:
    result = fetch()
    assert (result["changed"], result["installed"], result["activated"]) == (True, True, False)
    assert (volume / "images" / f"{image.digest}.squashfs").read_bytes() == image.content
    assert not (volume / "active").exists(), "what runs is not touched"
    assert left(volume) == []
    assert fetch()["changed"] is False
    assert served.images() == [(0, len(image.content))]
    active = run_module("system_image", digest=image.digest, volume=str(volume))
    assert (active["installed"], active["activated"]) == (False, True)
    assert len(served.images()) == 1


def test_no_proxy_of_the_machine_is_asked(
    fetch: RunModule, served: Served, volume: Path, image: Made, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("no_proxy", "NO_PROXY"):
        monkeypatch.delenv(name, raising=False)
    for name in ("http_proxy", "all_proxy"):
        monkeypatch.setenv(name, "http://127.0.0.1:1")
    assert fetch(url=served.url)["changed"] is True
    assert (volume / "images" / f"{image.digest}.squashfs").read_bytes() == image.content


def test_a_check_fetches_nothing(fetch: RunModule, served: Served, volume: Path) -> None:
    assert fetch(check=True)["changed"] is True
    assert (served.asked, list(volume.iterdir())) == ([], [])


def test_goes_on_where_it_was_cut(
    fetch: RunModule, served: Served, volume: Path, image: Made
) -> None:
    served.cut_after = MIB // 2
    cut = fetch()
    assert (
        f"was interrupted after {MIB // 2} bytes" in cut["msg"]
        and "the download resumes" in cut["msg"]
    )
    assert left(volume) == [MIB // 2]
    # Each connection brings more than is too little to try again.
    served.cut_after = MIB + MIB // 2
    served.asked.clear()
    assert fetch()["installed"] is True
    starts = [start for start, _ in served.images()]
    assert len(starts) > 1 and starts[0] == 0, "less than a whole piece is sent again"
    assert starts == sorted(set(starts))
    assert (volume / "images" / f"{image.digest}.squashfs").read_bytes() == image.content


def test_the_next_run_begins_where_the_last_one_ended(
    fetch: RunModule, served: Served, volume: Path, image: Made, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(download, "PROGRESS_BYTES", 1 << 30)
    served.cut_after = 2 * MIB + 7
    assert "was interrupted" in fetch()["msg"]
    os.utime(next((volume / "incoming").iterdir()), (1, 1))  # long ago
    served.cut_after = None
    assert fetch()["installed"] is True
    assert served.images()[1] == (2 * MIB, len(image.content) - 2 * MIB)


def test_a_server_without_ranges(
    fetch: RunModule, served: Served, volume: Path, image: Made
) -> None:
    (volume / "incoming").mkdir()
    (volume / "incoming" / f"{image.digest}.old").write_bytes(image.content[: 2 * MIB])
    served.ranges = False
    assert fetch()["installed"] is True
    assert served.images() == [(0, len(image.content))]


@pytest.mark.parametrize("there", [b"x" * MIB, b"x" * (16 * MIB)])
def test_a_beginning_that_is_damaged_is_fetched_again(
    fetch: RunModule, served: Served, volume: Path, image: Made, there: bytes
) -> None:
    (volume / "incoming").mkdir()
    (volume / "incoming" / f"{image.digest}.old").write_bytes(there)
    assert fetch()["installed"] is True
    assert served.images()[-1] == (0, len(image.content))
    assert left(volume) == []


def test_silence_ends_it(
    fetch: RunModule, served: Served, volume: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(download, "SILENCE_SECONDS", 0.3)
    served.cut_after, served.silent = MIB, True
    monkeypatch.setattr(download, "PROGRESS_BYTES", 2 * MIB)
    said = fetch()["msg"]
    assert "has been silent for 0.3 s" in said and "kept" in said
    assert left(volume) == [MIB]


def test_another_file_under_its_name(fetch: RunModule, served: Served, volume: Path) -> None:
    name = next(iter(served.files))
    served.files[name] = served.files[name][:-1] + b"x"
    assert "The transferred file is not the image" in fetch()["msg"]
    assert left(volume) == [] and list((volume / "images").iterdir()) == []


def test_signatures_that_are_not_good(
    fetch: RunModule, served: Served, volume: Path, image: Made, signer: Signer, tmp_path: Path
) -> None:
    stranger = Signer.make(tmp_path, "stranger")
    for key, namespace in ((stranger, "kubewright-image"), (signer, "file")):
        publish(served, image, key, namespace=namespace)
        assert "signature is not valid" in fetch()["msg"], namespace
        assert left(volume) == [] and list((volume / "images").iterdir()) == []
    served.files[f"{image.digest}.squashfs.sig"] = signer.sign(b"another image")
    assert "signature is not valid" in fetch()["msg"]
    publish(served, image, stranger)
    assert fetch(signers=[signer.public, stranger.public])["installed"] is True


def test_no_signature_nothing_is_fetched(
    fetch: RunModule, served: Served, image: Made, volume: Path
) -> None:
    assert "no signers are set" in fetch(signers=[])["msg"]
    assert "not a public SSH key" in fetch(signers=["not a key\nssh-ed25519 AAAA"])["msg"]
    assert served.asked == []
    del served.files[f"{image.digest}.squashfs.sig"]
    said = fetch()["msg"]
    assert "must be signed" in said and "404" in said
    assert served.images() == [] and not (volume / "incoming").exists()
    served.files[f"{image.digest}.squashfs.sig"] = b"x" * (1 << 20)
    assert "it is something else" in fetch()["msg"]


@pytest.mark.parametrize(
    ("manifest", "said"),
    [
        ({"arch": "riscv64"}, "for a worker of Kubernetes 1.37.2 on riscv64, and this machine is"),
        ({"role": "control_plane"}, "and this node is a worker"),
        ({"schema": 2}, "not of schema 1"),
    ],
)
def test_images_for_others(
    fetch: RunModule,
    served: Served,
    signer: Signer,
    volume: Path,
    tmp_path: Path,
    manifest: dict[str, Any],
    said: str,
) -> None:
    other = make(tmp_path, "other", **manifest)
    publish(served, other, signer)
    assert said in fetch(digest=other.digest)["msg"]
    assert left(volume) == [] and list((volume / "images").iterdir()) == []
    mounts = Path("/proc/self/mounts").read_text()
    assert str(volume) not in mounts


def test_what_is_no_squashfs(
    fetch: RunModule, served: Served, signer: Signer, tmp_path: Path
) -> None:
    path = tmp_path / "text"
    path.write_bytes(b"a text " * 1000)
    digest = subprocess.run(["sha256sum", path], capture_output=True, text=True).stdout[:64]
    publish(served, Made(path, digest), signer)
    assert "can't be mounted: it is not a system image" in fetch(digest=digest)["msg"]


def test_an_image_that_the_server_does_not_have(
    fetch: RunModule, served: Served, image: Made, volume: Path
) -> None:
    del served.files[f"{image.digest}.squashfs"]
    said = fetch()["msg"]
    assert f"{served.url}/{image.digest}.squashfs: the server answers 404 (Not Found)" in said
    assert "must be signed" not in said
    served.files[f"{image.digest}.squashfs"] = image.content
    served.length = False
    assert "does not report the file's size" in fetch()["msg"]


def test_no_server(fetch: RunModule) -> None:
    assert "can't be reached from the node: [Errno 111]" in fetch(url="http://127.0.0.1:1")["msg"]
    assert "can't be reached" in fetch(url="http://no.such.host.invalid")["msg"]


def test_a_certificate_that_is_not_trusted(
    fetch: RunModule, tmp_path: Path, image: Made, signer: Signer, monkeypatch: pytest.MonkeyPatch
) -> None:
    with serving(tmp_path, tls=True) as secure:
        publish(secure, image, signer)
        assert "certificate is not trusted: self-signed" in fetch(url=secure.url)["msg"]
        assert secure.asked == []
        monkeypatch.setenv("SSL_CERT_FILE", str(tmp_path / "certificate.pem"))
        assert fetch(url=secure.url)["installed"] is True


def test_redirects(
    fetch: RunModule,
    served: Served,
    tmp_path: Path,
    image: Made,
    signer: Signer,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    with serving(tmp_path, tls=True) as secure:
        publish(secure, image, signer)
        monkeypatch.setenv("SSL_CERT_FILE", str(tmp_path / "certificate.pem"))
        secure.redirect = served.url
        said = fetch(url=secure.url)["msg"]
        assert "https may redirect only to https" in said
        assert served.asked == []
    served.redirect = "ftp://127.0.0.1"
    assert "http may redirect only to https or http" in fetch()["msg"]
    with serving(tmp_path) as other:
        publish(other, image, signer)
        served.redirect = other.url
        assert fetch()["installed"] is True


@pytest.mark.parametrize(
    "url",
    [
        "http://user:very-secret@127.0.0.1/images",
        "http://127.0.0.1/images?token=very-secret",
        "http://127.0.0.1/images#very-secret",
        "file:///very-secret",
        "http:very-secret",
        "http://[very-secret/images",
    ],
)
def test_addresses_with_secrets_are_refused_and_not_repeated(url: str, fetch: RunModule) -> None:
    result = fetch(url=url)
    assert "must be http://HOST" in result["msg"]
    assert "very-secret" not in result["msg"]


def test_shown_without_secrets() -> None:
    assert download.shown("https://a:b@c:1/d?e=f#g") == "https://c:1/d"


def test_full_disk(
    fetch: RunModule, served: Served, volume: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A volume that has not enough room, at first and half-way."""
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=1536k", "kw", volume], check=True)
    try:
        said = fetch()["msg"]
        assert "bytes more and" in said and "node image gc" in said
        assert left(volume) == []
        monkeypatch.setattr(images.Store, "require_room", lambda *_: None)
        said = fetch()["msg"]
        assert "The disk is full" in said and "the download resumes" in said
        assert MIB < sum(left(volume)) < 2 * MIB
        subprocess.run(["mount", "-o", "remount,size=20m", volume], check=True)
        assert fetch()["installed"] is True
        assert served.images()[-1][0] == MIB
    finally:
        subprocess.run(["umount", "--lazy", volume], check=True)


def test_other_errors_of_the_disk_name_the_file(
    fetch: RunModule, monkeypatch: pytest.MonkeyPatch
) -> None:
    write = atomic.write_all

    def fail(fd: int, data: bytes) -> None:
        if "/incoming/" in str(Path(f"/proc/self/fd/{fd}").readlink()):
            raise OSError(errno.EIO, "Input/output error")
        write(fd, data)

    monkeypatch.setattr(atomic, "write_all", fail)
    said = fetch()["msg"]
    assert "/incoming/" in said and "Input/output error" in said
