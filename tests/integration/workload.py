# SPDX-License-Identifier: Apache-2.0
"""What the tests run in a cluster: one small image, and Deployments and Services of it.

The nodes reach no registry, so the image is made here, of Debian's busybox-static, and given to
the workers' containerd.
"""

from __future__ import annotations

import hashlib
import io
import json
import subprocess
import tarfile
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import machines
from kube import Kube
from waiting import NotYet

from kubewright.image.paths import cache_dir

IMAGE = "localhost/kubewright-test:1"
PORT = 8080

_APPLETS = ("cat", "grep", "hostname", "httpd", "mkdir", "nc", "nslookup", "sh", "sleep")
# Without this file, glibc's static resolver looks for libraries that the image does not have.
_NSSWITCH = b"passwd: files\ngroup: files\nhosts: files dns\n"
_SERVE = (
    "mkdir -p /tmp/www && hostname >/tmp/www/index.html && echo serving && "
    f"exec httpd -f -p {PORT} -h /tmp/www"
)


def make_archive(busybox: bytes, path: Path) -> None:
    """Write a docker-archive with the one image IMAGE."""
    layer = _tar(
        {
            "bin/busybox": busybox,
            "etc/nsswitch.conf": _NSSWITCH,
            **{f"bin/{applet}": "busybox" for applet in _APPLETS},
        }
    )
    config = json.dumps(
        {
            "architecture": "amd64",
            "os": "linux",
            "config": {"Env": ["PATH=/bin"]},
            "rootfs": {"type": "layers", "diff_ids": [f"sha256:{_digest(layer)}"]},
        }
    ).encode()
    name = f"{_digest(config)}.json"
    manifest = [{"Config": name, "RepoTags": [IMAGE], "Layers": ["layer.tar"]}]
    files: dict[str, bytes | str] = {
        name: config,
        "layer.tar": layer,
        "manifest.json": json.dumps(manifest).encode(),
    }
    path.write_bytes(_tar(files))


def give_image(nodes: Sequence[str], scratch: Path) -> str:
    """Make IMAGE in ``scratch``, give it to the nodes' containerd, and return its name."""
    archive = scratch / "image.tar"
    make_archive(fetch_busybox(cache_dir() / "downloads", scratch), archive)
    for node in nodes:
        machines.import_image(node, archive)
    return IMAGE


def fetch_busybox(downloads: Path, scratch: Path) -> bytes:
    """Return the static busybox of Debian's package, which is kept in ``downloads``."""
    kept = downloads / "busybox-static"
    if not kept.exists():
        downloads.mkdir(parents=True, exist_ok=True)
        for command in (
            ["apt-get", "download", "--quiet", "busybox-static"],
            ["sh", "-c", "dpkg-deb --extract busybox-static_*.deb tree"],
        ):
            subprocess.run(command, cwd=scratch, check=True, capture_output=True, timeout=120)
        whole = downloads / "busybox-static.new"
        whole.write_bytes((scratch / "tree/bin/busybox").read_bytes())
        whole.rename(kept)
    return kept.read_bytes()


def deployment(name: str, replicas: int = 1, node: str | None = None) -> dict[str, Any]:
    """A Deployment that answers HTTP with its pod's name; ``node`` pins it."""
    container = {
        "name": name,
        "image": IMAGE,
        "imagePullPolicy": "Never",
        "command": ["sh", "-c", _SERVE],
        "readinessProbe": {"tcpSocket": {"port": PORT}, "periodSeconds": 1},
    }
    pod: dict[str, Any] = {"containers": [container], "terminationGracePeriodSeconds": 0}
    if node:
        pod["nodeSelector"] = {"kubernetes.io/hostname": node}
    labels = {"app": name}
    return {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": {"name": name},
        "spec": {
            "replicas": replicas,
            "selector": {"matchLabels": labels},
            "template": {"metadata": {"labels": labels}, "spec": pod},
        },
    }


def daemon_set(name: str) -> dict[str, Any]:
    """The same on each worker."""
    made = deployment(name)
    del made["spec"]["replicas"]
    return {**made, "kind": "DaemonSet"}


def service(name: str) -> dict[str, Any]:
    """A Service of the Deployment of that name, at port 80."""
    return {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": {"name": name},
        "spec": {"selector": {"app": name}, "ports": [{"port": 80, "targetPort": PORT}]},
    }


def reaches(kube: Kube, pods: Mapping[str, str], client: str, server: str) -> Callable[[], None]:
    """A look for the Service ``server`` to answer a pod by name; ``pods`` are by Deployment."""
    # Not wget: it asks for the number of the service "http", which the static glibc can't tell.
    ask = f"printf 'GET / HTTP/1.0\\r\\n\\r\\n' | nc -w 5 {server} 80"

    def look() -> None:
        try:
            answer = kube.kubectl("exec", pods[client], "--", "sh", "-c", ask)
        except AssertionError as error:
            raise NotYet(str(error)) from error
        if answer.partition("\n\n")[2].strip() != pods[server]:
            raise NotYet(answer)

    return look


def _digest(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def _tar(files: dict[str, bytes | str]) -> bytes:
    """A tar of files (bytes) and symbolic links (str), all executable and of root."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as archive:
        for name, content in files.items():
            entry = tarfile.TarInfo(name)
            entry.mode = 0o755
            if isinstance(content, str):
                entry.type = tarfile.SYMTYPE
                entry.linkname = content
                archive.addfile(entry)
            else:
                entry.size = len(content)
                archive.addfile(entry, io.BytesIO(content))
    return buffer.getvalue()
