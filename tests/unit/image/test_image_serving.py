# SPDX-License-Identifier: Apache-2.0
"""The server of images: over real connections, on loopback."""

from __future__ import annotations

import http.client
import subprocess
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from kubewright.image.builder import build
from kubewright.image.catalogue import Catalogue
from kubewright.image.errors import ImageError
from kubewright.image.index import Image
from kubewright.image.serving import server, wanted
from kubewright.image.signing import public_key, sign, signature_of
from kubewright.image.store import Store


@pytest.fixture
def store(tmp_path: Path, catalogue: Catalogue, made: list[str]) -> Store:
    """A store with one worker image in it."""
    build("1.37", ["worker"], cache=tmp_path, catalogue=catalogue)
    return Store(tmp_path, catalogue)


@dataclass
class Serving:
    store: Store
    port: int
    lines: list[str] = field(default_factory=list)

    @property
    def image(self) -> Image:
        return self.store.list()[0]

    def ask(
        self, path: str, method: str = "GET", **headers: str
    ) -> tuple[int, bytes, dict[str, str]]:
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=10)
        connection.request(method, path, headers=headers)
        response = connection.getresponse()
        found = response.status, response.read(), dict(response.getheaders())
        connection.close()
        return found


@pytest.fixture
def serving(store: Store) -> Iterator[Serving]:
    lines: list[str] = []
    with server(store, "127.0.0.1", 0, lines.append) as running:
        thread = threading.Thread(target=running.serve_forever, args=(0.02,))
        thread.start()
        yield Serving(store, running.server_port, lines)
        running.shutdown()
        thread.join()


def test_an_image_whole_and_in_parts(serving: Serving) -> None:
    content = serving.store.path(serving.image).read_bytes()
    path = f"/{serving.image.digest}.squashfs"
    status, body, headers = serving.ask(path)
    assert (status, body, headers["Content-Length"]) == (200, content, str(len(content)))
    status, body, headers = serving.ask(path, Range=f"bytes={len(content) - 7}-")
    assert (status, body) == (206, content[-7:])
    assert headers["Content-Range"] == f"bytes {len(content) - 7}-{len(content) - 1}/{len(content)}"
    status, body, headers = serving.ask(path, Range=f"bytes={len(content)}-")
    assert (status, body, headers["Content-Range"]) == (416, b"", f"bytes */{len(content)}")
    status, body, headers = serving.ask(path, "HEAD")
    assert (status, body, headers["Content-Length"]) == (200, b"", str(len(content)))
    assert any(f'"GET {path} HTTP/1.1" 206' in line for line in serving.lines)


def test_nothing_else_is_served(serving: Serving) -> None:
    image = serving.store.path(serving.image)
    for path in (
        "/",
        "/index.json",
        "/../index.json",
        "/%2e%2e/images/index.json",
        f"/{'0' * 64}.squashfs",
        f"/{image.name}/",
        f"/{image.name}?x",
        f"/{image.name}.sig",
    ):
        assert serving.ask(path)[:2] == (404, b""), path
    assert serving.ask(f"/{image.name}", "PUT")[0] == 501
    assert serving.ask("/\x1b[2J".replace("\x1b", "%1b"))[0] == 404
    assert not any("\x1b" in line for line in serving.lines)


def test_what_comes_and_goes_meanwhile(serving: Serving, tmp_path: Path) -> None:
    image = serving.image
    key = tmp_path / "key"
    command = ["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", "me", "-f", str(key)]
    subprocess.run(command, check=True)
    sign(serving.store.path(image), key)
    status, body, _ = serving.ask(f"/{image.digest}.squashfs.sig")
    assert status == 200 and body.startswith(b"-----BEGIN SSH SIGNATURE-----")
    serving.store.remove(image)
    assert serving.ask(f"/{image.digest}.squashfs")[0] == 404
    (tmp_path / "images/index.json").write_text("broken")
    assert serving.ask(f"/{image.digest}.squashfs")[0] == 500
    assert any("can't be read" in line for line in serving.lines)


def test_many_at_once_and_who_goes_away(serving: Serving) -> None:
    content = serving.store.path(serving.image).read_bytes()
    path = f"/{serving.image.digest}.squashfs"
    gone = http.client.HTTPConnection("127.0.0.1", serving.port, timeout=10)
    gone.request("GET", path)
    gone.close()
    with ThreadPoolExecutor(20) as pool:
        answers = list(pool.map(lambda _: serving.ask(path)[1], range(40)))
    assert answers == [content] * 40


def test_where_nobody_can_listen(store: Store, serving: Serving) -> None:
    with pytest.raises(ImageError, match=r"Can't listen on 127\.0\.0\.1, port"):
        server(store, "127.0.0.1", serving.port, print)
    with pytest.raises(ImageError, match=r"Can't listen on no\.such\.host\.invalid"):
        server(store, "no.such.host.invalid", 0, print)


@pytest.mark.parametrize(
    ("header", "meant"),
    [
        (None, (0, 10)),
        ("bytes=3-", (3, 10)),
        ("bytes=3-5", (3, 6)),
        ("bytes=3-99", (3, 10)),
        ("bytes=-4", (6, 10)),
        ("bytes=-99", (0, 10)),
        ("bytes=-0", None),
        ("bytes=10-", None),
        ("bytes=5-3", (0, 10)),
        ("bytes=-", (0, 10)),
        ("bytes=1-2,4-5", (0, 10)),
        ("lines=1-2", (0, 10)),
    ],
)
def test_ranges(header: str | None, meant: tuple[int, int] | None) -> None:
    assert wanted(header, 10) == meant


def test_signatures_are_what_ssh_keygen_verifies(store: Store, tmp_path: Path) -> None:
    image = store.path(store.list()[0])
    key = tmp_path / "key"
    command = ["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", "me", "-f", str(key)]
    subprocess.run(command, check=True)
    assert sign(image, key) == signature_of(image)
    assert sign(image, key).name == f"{image.stem}.squashfs.sig", "signing again is no question"
    line = public_key(key)
    assert line.startswith("ssh-ed25519 ") and line.endswith(" me")
    assert public_key(key.with_name("key.pub")) == line
    (tmp_path / "allowed").write_text(f"me {line}\n")
    verify = ["ssh-keygen", "-Y", "verify", "-f", str(tmp_path / "allowed"), "-I", "me"]
    with image.open("rb") as file:
        done = subprocess.run(
            [*verify, "-n", "kubewright-image", "-s", str(signature_of(image))],
            stdin=file,
            capture_output=True,
        )
    assert done.returncode == 0, done.stderr
    key.with_name("key.pub").unlink()
    assert public_key(key).startswith("ssh-ed25519 ")


def test_what_is_no_key(store: Store, tmp_path: Path) -> None:
    image = store.path(store.list()[0])
    (tmp_path / "key").write_text("no key")
    for attempt in (lambda: sign(image, tmp_path / "key"), lambda: public_key(tmp_path / "key")):
        with pytest.raises(ImageError, match=str(tmp_path / "key")):
            attempt()
    assert not signature_of(image).exists()
    with pytest.raises(ImageError, match=r"There is no .*gone"):
        sign(tmp_path / "gone", tmp_path / "key")
