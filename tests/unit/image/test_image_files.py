# SPDX-License-Identifier: Apache-2.0
"""Release files from a real server on loopback: whole and as pinned, or an error in words."""

from __future__ import annotations

import hashlib
import os
import socket
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from release_server import Certificates, ReleaseServer, served

from kubewright.image.errors import ImageError
from kubewright.image.files import Files
from kubewright.image.origin import Origin

ADDRESS = "dl.example.org/v1/bin/kubelet"
# Larger than what passes through in one read.
DATA = os.urandom(3 << 20)
PIN = hashlib.sha256(DATA).hexdigest()


@pytest.fixture
def server(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[ReleaseServer]:
    monkeypatch.setenv("NETRC", str(tmp_path / "netrc"))
    with served(ReleaseServer(tmp_path / "site")) as one:
        one.put(ADDRESS, DATA)
        yield one


@pytest.fixture
def target(tmp_path: Path) -> Path:
    return tmp_path / "got" / "kubelet"


def fetch(server: ReleaseServer, target: Path, pin: str = PIN) -> None:
    Files(Origin("mirror", server.url)).fetch(ADDRESS, target, pin)


def refused(call: Callable[[], object]) -> ImageError:
    with pytest.raises(ImageError) as raised:
        call()
    return raised.value


def partial(target: Path) -> Path:
    return target.with_name(f".{target.name}.part")


def login(tmp_path: Path, password: str) -> None:
    (tmp_path / "netrc").write_text(f"machine 127.0.0.1 login reader password {password}\n")


def test_a_mirror_has_upstreams_layout_and_a_file_comes_once(
    server: ReleaseServer, target: Path
) -> None:
    fetch(server, target)
    fetch(server, target)
    assert target.read_bytes() == DATA
    assert server.asked == [("dl.example.org/v1/bin/kubelet", None)]
    assert [path.name for path in target.parent.iterdir()] == ["kubelet"]


def test_other_bytes_than_pinned_are_thrown_away(server: ReleaseServer, target: Path) -> None:
    error = refused(lambda: fetch(server, target, "0" * 64))
    assert f"{server.url}/{ADDRESS} has sha256 {PIN}, but the catalogue pins {'0' * 64}" in str(
        error
    )
    assert "image mirror" in error.remedy
    assert list(target.parent.iterdir()) == []


def test_a_file_that_changed_on_disk_is_fetched_again(server: ReleaseServer, target: Path) -> None:
    target.parent.mkdir()
    target.write_bytes(DATA[:-1] + bytes([DATA[-1] ^ 1]))
    fetch(server, target)
    assert target.read_bytes() == DATA


def test_a_missing_file_is_named(server: ReleaseServer, target: Path) -> None:
    (server.directory / ADDRESS).unlink()
    error = refused(lambda: fetch(server, target))
    assert f"kubelet is missing: there is no {server.url}/{ADDRESS}" in error.message
    assert "kubewright image mirror" in error.remedy
    assert not target.exists()


def test_a_cut_is_resumed_where_the_server_can(server: ReleaseServer, target: Path) -> None:
    server.cuts[ADDRESS] = [1_500_000, 700_000]
    fetch(server, target)
    assert target.read_bytes() == DATA
    (_, first), (_, second), (_, third) = server.asked
    assert (first, second, third) == (None, "bytes=1500000-", "bytes=2200000-")


def test_a_cut_is_an_error_where_the_server_can_not(server: ReleaseServer, target: Path) -> None:
    server.ranges = False
    server.cuts[ADDRESS] = [1_500_000]
    error = refused(lambda: fetch(server, target))
    assert (
        f"connection was interrupted while kubelet was downloaded from {server.url}/{ADDRESS}"
        in error.message
    )
    assert f"1500000 of {len(DATA)} bytes" in error.message
    assert "range requests" in error.remedy
    assert list(target.parent.iterdir()) == []
    fetch(server, target)
    assert target.read_bytes() == DATA


def test_a_server_that_always_cuts_is_given_up_and_the_next_run_goes_on(
    server: ReleaseServer, target: Path
) -> None:
    server.cuts[ADDRESS] = [1_000_000, 0, 0, 0]
    error = refused(lambda: fetch(server, target))
    assert "1000000" in error.message
    assert "resumes there" in error.remedy
    assert not target.exists()
    assert partial(target).stat().st_size == 1_000_000
    fetch(server, target)
    assert target.read_bytes() == DATA
    assert server.asked[-1] == (ADDRESS, "bytes=1000000-")


def test_a_beginning_of_another_file_is_not_built_upon(server: ReleaseServer, target: Path) -> None:
    target.parent.mkdir()
    partial(target).write_bytes(b"what an earlier command left")
    fetch(server, target)
    assert target.read_bytes() == DATA


@pytest.mark.parametrize("left", [DATA, DATA + b"more"])
def test_a_download_that_was_complete(server: ReleaseServer, target: Path, left: bytes) -> None:
    target.parent.mkdir()
    partial(target).write_bytes(left)
    fetch(server, target)
    assert target.read_bytes() == DATA


def test_a_file_that_changes_between_two_parts_is_not_mixed(
    server: ReleaseServer, target: Path
) -> None:
    server.cuts[ADDRESS] = [1_000_000]
    newer = os.urandom(len(DATA))
    files = Files(Origin("mirror", server.url))
    get = files._get

    def change_after_the_first(address: str, headers: dict[str, str]) -> object:
        if headers:
            server.put(ADDRESS, newer)
        return get(address, headers)

    files._get = change_after_the_first  # type: ignore[assignment,method-assign]
    found = files.fetch(ADDRESS, target, None)
    assert found == hashlib.sha256(newer).hexdigest()
    assert target.read_bytes() == newer


def test_a_login_is_asked_for(server: ReleaseServer, target: Path, tmp_path: Path) -> None:
    server.login = "reader:right-word"
    error = refused(lambda: fetch(server, target))
    assert f"{server.url}/{ADDRESS} asks for a login, and none is known" in error.message
    assert "~/.netrc" in error.remedy
    assert "machine 127.0.0.1" in error.remedy
    login(tmp_path, "wrong-word")
    error = refused(lambda: fetch(server, target))
    assert "rejects the login in ~/.netrc" in error.message
    assert "wrong-word" not in str(error)
    login(tmp_path, "right-word")
    fetch(server, target)
    assert target.read_bytes() == DATA


def test_a_certificate_of_ones_own_authority(
    tmp_path: Path, target: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = Certificates.make(tmp_path)
    monkeypatch.delenv("SSL_CERT_FILE", raising=False)
    with served(ReleaseServer(tmp_path / "site"), made.context()) as server:
        server.put(ADDRESS, DATA)
        error = refused(lambda: fetch(server, target))
        assert f"{server.url}/{ADDRESS} can't be trusted" in error.message
        assert "SSL_CERT_FILE" in error.remedy
        assert server.asked == []
        monkeypatch.setenv("SSL_CERT_FILE", str(made.authority))
        fetch(server, target)
    assert target.read_bytes() == DATA


def test_nobody_answers(tmp_path: Path, target: Path) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{free.getsockname()[1]}"
        files = Files(Origin("mirror", url))
        error = refused(lambda: files.fetch(ADDRESS, target, PIN))
    assert f"kubelet could not be downloaded from {url}/{ADDRESS}" in error.message
    assert "Traceback" not in str(error)


@pytest.mark.parametrize("status", [403, 404, 500])
def test_secrets_of_a_redirect_are_not_told(
    server: ReleaseServer, target: Path, status: int
) -> None:
    server.redirects[f"/{ADDRESS}"] = f"{server.url}/store?signature=hidden-word"
    server.statuses["store"] = status
    error = refused(lambda: fetch(server, target))
    assert ADDRESS in error.message
    assert str(status) in error.message
    assert "hidden-word" not in str(error)


def test_secrets_of_a_redirect_that_leads_nowhere(server: ReleaseServer, target: Path) -> None:
    server.redirects[f"/{ADDRESS}"] = "http://127.0.0.1:1/store?signature=hidden-word"
    error = refused(lambda: fetch(server, target))
    assert ADDRESS in error.message
    assert "hidden-word" not in str(error)


def test_a_directory_is_a_mirror_too(tmp_path: Path, target: Path) -> None:
    site = ReleaseServer(tmp_path / "site")
    site.put(ADDRESS, DATA)
    files = Files(Origin("mirror", str(site.directory)))
    files.fetch(ADDRESS, target, PIN)
    assert target.read_bytes() == DATA
    target.unlink()
    assert PIN in str(refused(lambda: files.fetch(ADDRESS, target, "0" * 64)))
    (site.directory / ADDRESS).unlink()
    error = refused(lambda: files.fetch(ADDRESS, target, PIN))
    assert f"there is no {site.directory / ADDRESS}" in error.message
    assert list(target.parent.iterdir()) == []


@pytest.mark.parametrize(
    "text",
    [
        f"{PIN}\n",
        f"{PIN}  kubelet\n",
        f"{'0' * 64}  kubeadm\n{PIN} *kubelet\n",
        f"{'0' * 64}  ./kubeadm\n{PIN}  ./kubelet\n",
    ],
    ids=["alone", "named", "binary", "below"],
)
def test_forms_of_published_checksums(server: ReleaseServer, text: str) -> None:
    server.put("dl.example.org/sums", text.encode())
    files = Files(Origin("mirror", server.url))
    assert files.published_sha256("dl.example.org/sums", ADDRESS) == PIN


@pytest.mark.parametrize("cut", [0, 20])
def test_a_checksum_that_was_cut(server: ReleaseServer, cut: int) -> None:
    server.put("dl.example.org/sums", f"{PIN}\n".encode())
    server.cuts["dl.example.org/sums"] = [cut]
    files = Files(Origin("mirror", server.url))
    error = refused(lambda: files.published_sha256("dl.example.org/sums", ADDRESS))
    assert "connection was interrupted while sums was downloaded from" in error.message
    assert f"{cut} of 65 bytes arrived" in error.message
    assert "starts over" in error.remedy
    assert files.published_sha256("dl.example.org/sums", ADDRESS) == PIN


def test_what_is_pinned_begins_anew_and_that_is_said(server: ReleaseServer, target: Path) -> None:
    files = Files(Origin("mirror", server.url), pinning=True)
    server.cuts[ADDRESS] = [1_000_000, 0, 0, 0]
    error = refused(lambda: files.fetch(ADDRESS, target, None))
    assert "starts over" in error.remedy and "resumes there" not in error.remedy
    server.statuses[ADDRESS] = 500
    error = refused(lambda: files.fetch(ADDRESS, target, None))
    assert "what was pinned is kept" in error.remedy
    server.redirects[f"/{ADDRESS}"] = "http://127.0.0.1:1/"
    error = refused(lambda: files.fetch(ADDRESS, target, None))
    assert "what was pinned is kept" in error.remedy and "was downloaded" not in error.remedy


def test_a_page_that_is_no_checksum(server: ReleaseServer) -> None:
    server.put("dl.example.org/sums", b"<html>Sorry!</html>")
    files = Files(Origin("mirror", server.url))
    error = refused(lambda: files.published_sha256("dl.example.org/sums", ADDRESS))
    assert f"{server.url}/dl.example.org/sums has no sha256 for kubelet" in error.message


@pytest.mark.parametrize(
    ("source", "mirror", "registry", "says"),
    [
        ("mirror", None, None, "no mirror was given"),
        (None, None, "registry.example.com", "was given"),
        ("modules", "https://mirror.example.com", None, "uses neither"),
        ("upstream", None, "registry.example.com", "uses neither"),
        ("elsewhere", None, None, "Unknown source 'elsewhere'"),
        ("mirror", "https://me:hidden-word@mirror.example.com/k8s", None, "credentials"),
        ("mirror", "https://mirror.example.com/?x=1", None, "not a URL"),
        ("mirror", "ftp://mirror.example.com/", None, "not a URL"),
        ("mirror", "http://[::1", None, "not a URL"),
        ("mirror", "~no-such-user/mirror", None, "~no-such-user/mirror has no home directory"),
        ("mirror", "/no/such/directory", None, "not a directory"),
        ("mirror", "https://mirror.example.com", "https://registry.example.com", "the form"),
        ("mirror", "https://mirror.example.com", "me:hidden-word@registry", "the form"),
    ],
)
def test_origins_that_are_refused(
    source: str | None, mirror: str | None, registry: str | None, says: str
) -> None:
    error = refused(lambda: Origin.of(source, mirror, registry))
    assert says in error.message
    assert "hidden-word" not in str(error)


def test_where_things_are() -> None:
    name, digest = "registry.k8s.io/coredns/coredns:v1", f"sha256:{'1' * 64}"
    upstream = Origin("upstream")
    assert upstream.place("dl.k8s.io/v1/x") == "https://dl.k8s.io/v1/x"
    assert upstream.image(name, digest) == f"registry.k8s.io/coredns/coredns@{digest}"
    mirror = Origin.of(None, "https://mirror.example.com/all/", "registry.example.com:5000/k8s/")
    assert mirror is not None
    assert mirror.place("dl.k8s.io/v1/x") == "https://mirror.example.com/all/dl.k8s.io/v1/x"
    assert mirror.image(name) == "registry.example.com:5000/k8s/coredns/coredns:v1"
    assert Origin.of(None, None, None) is None
    assert Origin.from_environment({"KUBEWRIGHT_IMAGE_SOURCE": "upstream"}) == upstream
