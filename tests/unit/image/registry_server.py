# SPDX-License-Identifier: Apache-2.0
"""Debian's docker-registry on a free port of loopback, with TLS; and small images for it."""

from __future__ import annotations

import base64
import gzip
import hashlib
import io
import json
import os
import socket
import subprocess
import tarfile
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml
from release_server import Certificates

USER, PASSWORD = "puller", "s3cret-word"
# bcrypt of PASSWORD.
_HTPASSWD = f"{USER}:$2b$04$bKdC63tHF.d40R3MpcHJaub5eQSqKzYets29Yst3v216pdb6vKmVm\n"
_MANIFEST = "application/vnd.oci.image.manifest.v1+json"
_INDEX = "application/vnd.oci.image.index.v1+json"


@dataclass(frozen=True)
class RegistryServer:
    """``host`` with its port; ``log`` is what the process says; ``auth`` is a file of logins."""

    host: str
    log: Path
    certificates: Certificates
    auth: Path

    def push(self, layout: Path, name: str, *options: str) -> None:
        """Put an image of an OCI layout under a name, ``kube-proxy:v1``."""
        _skopeo(self, "copy", *options, f"oci:{layout}:image", f"docker://{self.host}/{name}")

    def digest(self, name: str) -> str:
        """What the registry itself says of a name."""
        raw = _skopeo(self, "inspect", "--raw", f"docker://{self.host}/{name}")
        return f"sha256:{hashlib.sha256(raw).hexdigest()}"


@contextmanager
def running(directory: Path, *, login: bool = False) -> Iterator[RegistryServer]:
    """Start it, wait until it answers, end it."""
    directory.mkdir(parents=True)
    certificates = Certificates.make(directory)
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        host = f"127.0.0.1:{free.getsockname()[1]}"
    tls = {"certificate": str(certificates.certificate), "key": str(certificates.key)}
    config: dict[str, Any] = {
        "version": "0.1",
        "storage": {"filesystem": {"rootdirectory": str(directory / "data")}},
        "http": {"addr": host, "tls": tls},
    }
    if login:
        (directory / "htpasswd").write_text(_HTPASSWD)
        config["auth"] = {"htpasswd": {"realm": "images", "path": str(directory / "htpasswd")}}
    (directory / "config.yml").write_text(yaml.safe_dump(config))
    given = base64.b64encode(f"{USER}:{PASSWORD}".encode()).decode()
    (directory / "auth.json").write_text(json.dumps({"auths": {host: {"auth": given}}}))
    log = directory / "log"
    with log.open("wb") as output:
        process = subprocess.Popen(
            ["docker-registry", "serve", str(directory / "config.yml")],
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            env={"PATH": os.environ["PATH"], "OTEL_TRACES_EXPORTER": "none"},
        )
    try:
        _await(host, process, log)
        yield RegistryServer(host, log, certificates, directory / "auth.json")
    finally:
        process.terminate()
        process.wait()


def image(layout: Path, contents: bytes, architectures: Sequence[str] = ("amd64",)) -> list[str]:
    """Write an OCI layout with one image, an index if there are several; their digests."""
    (layout / "blobs/sha256").mkdir(parents=True)
    manifests = []
    for arch in architectures:
        tar = io.BytesIO()
        with tarfile.open(fileobj=tar, mode="w") as file:
            item = tarfile.TarInfo("program")
            item.size = len(contents)
            file.addfile(item, io.BytesIO(contents))
        packed = gzip.compress(tar.getvalue(), mtime=0)
        diff = f"sha256:{hashlib.sha256(tar.getvalue()).hexdigest()}"
        config = {
            "architecture": arch,
            "os": "linux",
            "rootfs": {"type": "layers", "diff_ids": [diff]},
        }
        manifest = {
            "schemaVersion": 2,
            "mediaType": _MANIFEST,
            "config": _blob(layout, _json(config), "application/vnd.oci.image.config.v1+json"),
            "layers": [_blob(layout, packed, "application/vnd.oci.image.layer.v1.tar+gzip")],
        }
        platform = {"os": "linux", "architecture": arch}
        manifests.append({**_blob(layout, _json(manifest), _MANIFEST), "platform": platform})
    top = manifests[0]
    if len(manifests) > 1:
        index = {"schemaVersion": 2, "mediaType": _INDEX, "manifests": manifests}
        top = _blob(layout, _json(index), _INDEX)
    top = {**top, "annotations": {"org.opencontainers.image.ref.name": "image"}}
    (layout / "index.json").write_bytes(_json({"schemaVersion": 2, "manifests": [top]}))
    (layout / "oci-layout").write_text('{"imageLayoutVersion": "1.0.0"}')
    return [str(item["digest"]) for item in manifests]


def _blob(layout: Path, data: bytes, media_type: str) -> dict[str, Any]:
    digest = hashlib.sha256(data).hexdigest()
    (layout / "blobs/sha256" / digest).write_bytes(data)
    return {"mediaType": media_type, "digest": f"sha256:{digest}", "size": len(data)}


def _json(value: Mapping[str, Any]) -> bytes:
    return json.dumps(value, sort_keys=True).encode()


def _skopeo(server: RegistryServer, *words: str) -> bytes:
    environment = {
        **os.environ,
        "SSL_CERT_FILE": str(server.certificates.authority),
        "REGISTRY_AUTH_FILE": str(server.auth),
    }
    done = subprocess.run(["skopeo", *words], env=environment, capture_output=True, check=False)
    assert done.returncode == 0, done.stderr.decode()
    return done.stdout


def _await(host: str, process: subprocess.Popen[bytes], log: Path) -> None:
    deadline = time.monotonic() + 30
    name, _, port = host.partition(":")
    while time.monotonic() < deadline and process.poll() is None:
        try:
            socket.create_connection((name, int(port)), 1).close()
            return
        except OSError:
            time.sleep(0.05)
    raise AssertionError(f"docker-registry does not answer: {log.read_text()}")
