# SPDX-License-Identifier: Apache-2.0
"""``kubewright image pin``, ``mirror`` and ``build --mirror`` as a user types them."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

import pytest
from registry_server import RegistryServer, image, running
from release_server import ReleaseServer, archive, program, served

from kubewright.cli.app import run
from kubewright.image.catalogue import Catalogue, RegistryPart, UpstreamPart

VERSION = "1.37.2"


class Ended(NamedTuple):
    code: int
    out: str
    err: str


Command = Callable[..., Ended]


@pytest.fixture
def command(
    tmp_path: Path, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> Command:
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    monkeypatch.setenv("KUBEWRIGHT_CACHE_DIR", str(tmp_path / "cache"))
    monkeypatch.setenv("NO_COLOR", "1")
    monkeypatch.setenv("COLUMNS", "400")

    def call(*words: str) -> Ended:
        capfd.readouterr()
        code = run(list(words))
        return Ended(code, *capfd.readouterr())

    return call


@pytest.fixture(scope="module")
def registry(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RegistryServer]:
    directory = tmp_path_factory.mktemp("registry")
    image(directory / "image", b"a program")
    with running(directory / "server") as server:
        for part in Catalogue.load().published(VERSION, "amd64").parts.values():
            if isinstance(part, RegistryPart):
                server.push(directory / "image", part.name.partition("/")[2])
        yield server


@pytest.fixture
def web(
    tmp_path: Path, registry: RegistryServer, monkeypatch: pytest.MonkeyPatch
) -> Iterator[ReleaseServer]:
    """A mirror with a stand-in for every file that the packaged catalogue names."""
    monkeypatch.setenv("SSL_CERT_FILE", str(registry.certificates.authority))
    for module in ("kubewright.cli.image", "kubewright.image.builder"):
        monkeypatch.setattr(f"{module}.host_arch", lambda: "amd64")
    with served(ReleaseServer(tmp_path / "site")) as server:
        for part in Catalogue.load().published(VERSION, "amd64").parts.values():
            for item in part.downloads if isinstance(part, UpstreamPart) else ():
                data = program(item.files[0])
                if item.inside is not None:
                    data = archive(
                        {f"./{item.inside}/{name}": program(name) for name in item.files}
                    )
                sha256 = server.put(item.address, data)
                if item.checksum is not None:
                    name = item.address.rpartition("/")[2]
                    server.put(item.checksum, f"{sha256}  {name}\n".encode())
        yield server


def test_pin_then_mirror_then_nothing_is_missing(
    web: ReleaseServer, registry: RegistryServer, tmp_path: Path, command: Command
) -> None:
    refused = command("image", "build", VERSION, "--source", "mirror", "--mirror", web.url)
    assert refused.code == 1
    assert f"kubewright image pin {VERSION}" in refused.err
    place = ("--mirror", web.url, "--registry", registry.host, "-o", "json")
    pinned = command("image", "pin", VERSION, *place)
    assert pinned.code == 0, pinned.err
    said = json.loads(pinned.out)
    assert said["file"] == str(tmp_path / "config/kubewright/pins/1.37.pins.yml")
    assert len(said["added"]) == 9 + 8
    mirrored = command("image", "mirror", str(tmp_path / "mirror"), VERSION, *place)
    assert mirrored.code == 0, mirrored.err
    files = json.loads(mirrored.out)["files"]
    assert all((tmp_path / "mirror" / address).is_file() for address in files)
    again = command("image", "pin", VERSION, "--mirror", web.url)
    assert again.code == 0
    assert f"all of Kubernetes {VERSION} is pinned for amd64" in again.out


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["build", VERSION, "--source", "mirror"], "no mirror was given"),
        (["build", VERSION, "--mirror", "https://a:hidden-word@example.com"], "credentials"),
        (["build", VERSION, "--mirror", "http://[::1"], "not a URL"),
        (["build", VERSION, "--mirror", "~no-such-user/x"], "no home directory"),
        (["mirror", "~no-such-user/x", VERSION], "no home directory"),
        (["mirror", "x", VERSION, "--to-registry", "https://example.com"], "must have the form"),
        (["pin", VERSION, "--arch", "mips"], "unknown architecture 'mips'"),
        (["pin", "1.3"], "not in the catalogue"),
    ],
)
def test_what_was_typed_wrong_is_bad_input(command: Command, words: list[str], says: str) -> None:
    ended = command("image", *words)
    assert ended.code == 2
    assert says in ended.err
    assert "hidden-word" not in ended.err
