# SPDX-License-Identifier: Apache-2.0
"""Container images in registries, by skopeo: it knows logins, registries' settings and retries.

Images are kept in skopeo's `dir` form, since that alone leaves a manifest as it is: its digest is
what the catalogue pins. ``manifest.json``, and each blob under its sha256.
"""

from __future__ import annotations

import hashlib
import json
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from kubewright.image.commands import Commands
from kubewright.image.errors import ImageError
from kubewright.image.files import Files
from kubewright.image.origin import host_of, image_directory
from kubewright.image.paths import sha256_file

OCI_MANIFEST = "application/vnd.oci.image.manifest.v1+json"
DOCKER_MANIFEST = "application/vnd.docker.distribution.manifest.v2+json"
_DIGEST = re.compile(r"^sha256:([0-9a-f]{64})$")
_VERSION_FILE = "Directory Transport Version: 1.1\n"
# Words of skopeo and of registries -> what to do. {host} is the registry's.
_REMEDIES: tuple[tuple[tuple[str, ...], str], ...] = (
    (
        ("unauthorized", "authentication required", "is denied", "no basic auth credentials"),
        "{host} asks for a login: run `skopeo login {host}`. It is kept in the file that"
        " REGISTRY_AUTH_FILE names, or in $XDG_RUNTIME_DIR/containers/auth.json; Docker's"
        " login (~/.docker/config.json) works too.",
    ),
    (
        ("x509:", "certificate"),
        "The certificate of {host} is not trusted. If it is signed by your own CA, set"
        " SSL_CERT_FILE to the CA certificate, or add it to the system's trust store "
        "(update-ca-certificates).",
    ),
    (
        ("HTTP response to HTTPS client",),
        "{host} does not use TLS. Give it a certificate, or allow"
        " that in /etc/containers/registries.conf (insecure = true).",
    ),
    (
        ("manifest unknown", "name unknown", "not found", "NAME_UNKNOWN", "MANIFEST_UNKNOWN"),
        "The image is not in {host}. Fill it: kubewright image mirror DIRECTORY --to-registry.",
    ),
    (
        ("dial tcp", "no such host", "i/o timeout", "connection refused", "TLS handshake timeout"),
        "{host} could not be reached: check the network, the name and the proxy settings"
        " (https_proxy, no_proxy), and run the command again.",
    ),
)


@dataclass(frozen=True)
class Manifest:
    """The manifest of one image for one platform: its bytes, and digests of config and layers."""

    data: bytes
    media_type: str
    config: str
    layers: tuple[str, ...]

    @classmethod
    def parse(cls, data: bytes, name: str) -> Manifest:
        """Raises ImageError, with the image's ``name``, for anything but such a manifest."""
        try:
            document = json.loads(data)
            media_type = str(document.get("mediaType", OCI_MANIFEST))
            config = _hex(document["config"]["digest"])
            layers = tuple(_hex(layer["digest"]) for layer in document["layers"])
        except (ValueError, KeyError, TypeError, AttributeError) as fault:
            raise _unusable(name) from fault
        if media_type not in (OCI_MANIFEST, DOCKER_MANIFEST):
            raise _unusable(name)
        return cls(data, media_type, config, layers)

    @property
    def blobs(self) -> tuple[str, ...]:
        """Hex sha256 of config and layers, each once."""
        return tuple(dict.fromkeys((self.config, *self.layers)))


def copy(source: str, target: str, *, what: str, log: Path, commands: Commands) -> None:
    """Copy one image, unchanged; both are skopeo's names, one of them ``docker://...``."""
    _skopeo(
        ["copy", "--quiet", "--preserve-digests", "--retry-times", "3", source, target],
        reference=next(name for name in (source, target) if name.startswith("docker://")),
        what=what,
        log=log,
        commands=commands,
    )


def raw_manifest(reference: str, *, scratch: Path, log: Path, commands: Commands) -> bytes:
    """What the registry has under a name: a manifest, or an index of several platforms."""
    _skopeo(
        ["inspect", "--raw", f"docker://{reference}"],
        reference=reference,
        what=f"asking for {reference}",
        log=log,
        commands=commands,
        stdout=scratch,
    )
    return scratch.read_bytes()


def platform_digest(raw: bytes, arch: str, name: str) -> str:
    """Digest of the image for linux and ``arch`` in what :func:`raw_manifest` gave."""
    try:
        document = json.loads(raw)
        if "manifests" not in document:
            return f"sha256:{hashlib.sha256(raw).hexdigest()}"
        for item in document["manifests"]:
            platform = item.get("platform", {})
            if (platform.get("os"), platform.get("architecture")) == ("linux", arch):
                return f"sha256:{_hex(item['digest'])}"
    except (ValueError, KeyError, TypeError, AttributeError) as fault:
        raise _unusable(name) from fault
    raise ImageError(
        f"{name} has no image for linux on {arch}.", "Choose another architecture (--arch)."
    )


def check_platform(
    reference: str, arch: str, *, scratch: Path, log: Path, commands: Commands
) -> None:
    """Raise ImageError unless the image's own configuration says linux on ``arch``."""
    _skopeo(
        ["inspect", "--config", "--raw", f"docker://{reference}"],
        reference=reference,
        what=f"asking for the configuration of {reference}",
        log=log,
        commands=commands,
        stdout=scratch,
    )
    if (found := _platform(scratch.read_bytes(), reference)) != ("linux", arch):
        raise ImageError(
            f"{reference} is an image for {found[0]} on {found[1]}, not for linux on {arch}.",
            "Nothing was pinned. The registry must have an image for that architecture.",
        )


def fetch(files: Files, name: str, digest: str, target: Path) -> None:
    """Bring an image that a mirror has as files into the directory ``target``."""
    address = image_directory(name, digest)
    files.fetch(f"{address}/manifest.json", target / "manifest.json", _hex(digest))
    manifest = Manifest.parse((target / "manifest.json").read_bytes(), name)
    for blob in manifest.blobs:
        files.fetch(f"{address}/{blob}", target / blob, blob)
    (target / "version").write_text(_VERSION_FILE)


def check(directory: Path, name: str, digest: str, arch: str) -> Manifest:
    """Hash everything of an image's directory and look at its platform. Raises ImageError."""
    data = (directory / "manifest.json").read_bytes()
    manifest = Manifest.parse(data, name)
    bad = [blob for blob in manifest.blobs if sha256_file(directory / blob) != blob]
    if bad or hashlib.sha256(data).hexdigest() != _hex(digest):
        raise ImageError(
            f"{name} in {directory} does not match its digest {digest}.",
            "Delete that directory and run the command again.",
        )
    found = _platform((directory / manifest.config).read_bytes(), name)
    if found != ("linux", arch):
        raise ImageError(
            f"{name}@{digest} is an image for {found[0]} on {found[1]}, not for linux on {arch}.",
            f"The pin is for another architecture: remove it from the catalogue's pin"
            f" file and run kubewright image pin --arch {arch}.",
        )
    return manifest


def is_whole(directory: Path, name: str, digest: str) -> bool:
    """Whether an image lies in a directory as :func:`check` would have it, whatever its arch."""
    try:
        data = (directory / "manifest.json").read_bytes()
        manifest = Manifest.parse(data, name)
        return hashlib.sha256(data).hexdigest() == _hex(digest) and all(
            sha256_file(directory / blob) == blob for blob in manifest.blobs
        )
    except (OSError, ImageError):
        return False


def _platform(config: bytes, name: str) -> tuple[Any, Any]:
    try:
        document = json.loads(config)
        return document.get("os"), document.get("architecture")
    except (ValueError, AttributeError) as fault:
        raise _unusable(name) from fault


def _skopeo(
    words: list[str],
    *,
    reference: str,
    what: str,
    log: Path,
    commands: Commands,
    stdout: Path | None = None,
) -> None:
    try:
        commands.run(["skopeo", *words], what=what, log=log, stdout=stdout)
    except ImageError as fault:
        host = host_of(reference)
        for signs, remedy in _REMEDIES:
            if any(sign in fault.message for sign in signs):
                raise ImageError(fault.message, remedy.format(host=host)) from None
        raise


def _hex(digest: str) -> str:
    match = _DIGEST.match(digest)
    if match is None:
        raise ValueError(digest)
    return match[1]


def _unusable(name: str) -> ImageError:
    return ImageError(
        f"{name} is not an image format that containerd and Kubewright support.",
        "Look at it with `skopeo inspect --raw`; it must be an OCI or Docker (schema 2) manifest.",
    )
