# SPDX-License-Identifier: Apache-2.0
"""System images that nodes fetch by HTTP, and which images stay on a node."""

from __future__ import annotations

import json
import shutil
import socket
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import pytest
import workload
import yaml
from broken_images import Images
from cluster import Ended, Running
from kube import Kube
from machines import IMAGE_ROOT, import_image, run_on
from node_images import activate, active, containers, decided, listed, runs
from relay import Relay, relay
from volumes import VOLUME, Volumes
from waiting import NotYet, until

from kubewright.cli.exits import ExitCode
from kubewright.image.paths import cache_dir

#: Headers and signatures.
SMALL = 256 << 10
#: What was in progress when a connection was cut: a part that was not whole, and the sockets'.
UNDER_WAY = 4 << 20
#: Modules of Ansible and their answers, for a few tasks.
TALK = 8 << 20
#: As eager as kubelet can be: it removes all that it may.
EAGER = {
    "imageGCHighThresholdPercent": 1,
    "imageGCLowThresholdPercent": 0,
    "imageMinimumGCAge": "1s",
}


@dataclass(frozen=True)
class Served:
    """Images of the tests' own, at an address of this host that the tests have in hand."""

    images: Images
    relay: Relay
    cluster: Volumes
    key: Path

    def make(self, name: str) -> str:
        """An image of its own name for workers, signed; gives its digest."""
        digest = self.images.make("worker", lambda tree: (tree / name).touch())
        self.sign(self.key)
        return digest

    def sign(self, key: Path) -> None:
        """Sign all images."""
        self.cluster.run("image", "sign", str(key)).succeeded()

    def file(self, digest: str) -> Path:
        """An image's file on this host."""
        return self.images.directory / f"{digest}.squashfs"

    def begin(self, digest: str, *nodes: str) -> Running:
        """Begin to install an image on nodes."""
        words = [word for node in nodes for word in ("--node", node)]
        return self.cluster.begin("node", "image", "install", digest[:12], *words, "-o", "json")

    def install(self, digest: str, *nodes: str) -> Ended:
        """Install an image on nodes."""
        return self.begin(digest, *nodes).ended(180)


@pytest.fixture(scope="module")
def served(
    volumes: Volumes, whole: Kube, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Served]:
    """Nodes fetch images from here from now on."""
    directory = tmp_path_factory.mktemp("cache")
    images = Images(cache_dir(), directory)
    key = make_key(directory / "key")
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port = probe.getsockname()[1]
    gateway = f"{volumes.addresses[volumes.on_file].rpartition('.')[0]}.1"
    variables = volumes.directory / "group_vars" / "kubewright.yml"
    variables.parent.mkdir()
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("KUBEWRIGHT_CACHE_DIR", str(directory))
        words = ("image", "serve", "--listen", f"127.0.0.1:{port}")
        with volumes.begin(*words) as server, relay(gateway, ("127.0.0.1", port)) as between:
            until("served", lambda: answers(port, server), limit=30)
            public = key.with_suffix(".pub").read_text().strip()
            told = {
                "system_volume_image_url": between.url,
                "system_volume_image_signers": [public],
            }
            variables.write_text(yaml.safe_dump(told))
            yield Served(images, between, volumes, key)
    variables.unlink()


class Gate:
    """An ssh that lets one connection through, and the others when it is opened."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory / "gate"
        self._directory.mkdir()
        self.program = self._directory / "ssh"
        self.program.write_text(
            "#!/bin/sh\n"
            f"cd {self._directory}\n"
            'mkdir passed 2>/dev/null && exec ssh "$@"\n'
            "touch reached\n"
            "while [ ! -e open ]; do sleep 0.2; done\n"
            'exec ssh "$@"\n'
        )
        self.program.chmod(0o755)

    def is_reached(self) -> None:
        """A look whether somebody waits; raises NotYet."""
        if not (self._directory / "reached").exists():
            raise NotYet("nobody waits yet")

    def open(self) -> None:
        """Let all through."""
        (self._directory / "open").touch()


def test_two_nodes_fetch_an_image_at_once(volumes: Volumes, served: Served) -> None:
    digest, nodes = served.make("first"), volumes.workers
    size, before = served.file(digest).stat().st_size, {node: received(node) for node in nodes}
    served.install(digest, *nodes).succeeded()
    for node in nodes:
        sent = served.relay.sent[volumes.addresses[node]]
        assert size <= sent <= size + SMALL, "each byte once"
        assert hash_on(node, digest) == digest
        # What SSH has brought in the same time.
        assert received(node) - before[node] - sent * 1.1 < TALK


def test_what_was_cut_goes_on(volumes: Volumes, served: Served) -> None:
    digest, (node, other) = served.make("second"), volumes.workers
    size, address = served.file(digest).stat().st_size, volumes.addresses[node]
    served.relay.mend()
    served.relay.cut_after, served.relay.stays_cut = size // 2, True
    cut = served.install(digest, node)
    assert cut.status != 0
    assert f"{served.relay.url}/{digest}.squashfs can't be reached from the node" in cut.stderr
    assert not exists(node, digest)
    had = served.relay.sent[address]
    assert size // 2 <= had < size
    served.relay.mend()
    served.install(digest, node).succeeded()
    assert had + served.relay.sent[address] <= size + UNDER_WAY, "it went on where it was cut"
    assert hash_on(node, digest) == digest
    # Within one run, where the server comes back at once.
    served.relay.mend()
    served.relay.cut_after = size // 2
    served.install(digest, other).succeeded()
    assert served.relay.sent[volumes.addresses[other]] <= size + UNDER_WAY
    assert served.relay.opened[volumes.addresses[other]] >= 3, "signature, image, its rest"
    assert hash_on(other, digest) == digest


def test_what_nobody_vouches_for_is_refused(
    volumes: Volumes, served: Served, tmp_path: Path
) -> None:
    digest, node = served.make("third"), volumes.on_file
    signature = served.file(digest).with_suffix(".squashfs.sig")
    served.relay.mend()
    good, others = (
        signature.read_bytes(),
        next(one for one in served.images.directory.glob("*.sig") if one != signature),
    )
    signature.write_bytes(others.read_bytes())
    is_refused(served, digest, node, "The image's signature is not valid, so the image was removed")
    served.sign(make_key(tmp_path / "stranger"))
    is_refused(served, digest, node, "no key in system_volume_image_signers has")
    signature.unlink()
    is_refused(served, digest, node, "An image that is downloaded from a URL must be signed")
    signature.write_bytes(good)
    nobody = "0123456789abcdef" * 4
    words = ["node", "image", "install", nobody, "--node", node, "-o", "json"]
    unknown = volumes.run(*words, limit=120)
    assert unknown.status != 0
    assert f"{nobody}.squashfs.sig: the server answers 404" in unknown.stderr, unknown.stderr
    assert not exists(node, nobody)
    served.sign(served.key)
    served.install(digest, node).succeeded()


def test_two_installs_at_once_on_one_node(volumes: Volumes, served: Served) -> None:
    digest, node = served.make("fourth"), volumes.on_file
    served.relay.mend()
    with served.begin(digest, node) as first, served.begin(digest, node) as second:
        ends = sorted((one.ended(180) for one in (first, second)), key=lambda end: end.status)
    assert [end.status for end in ends] == [ExitCode.OK, ExitCode.LOCKED]
    assert "node image install (pid " in ends[1].stderr, ends[1].stderr
    assert hash_on(node, digest) == digest


def test_two_controllers_install_at_once_on_one_node(
    volumes: Volumes, served: Served, tmp_path: Path
) -> None:
    """The node itself tells them apart; nothing else does."""
    digest, node = served.make("fifth"), volumes.on_file
    twin = replace(volumes, directory=tmp_path / "twin")
    shutil.copytree(volumes.directory, twin.directory, ignore=shutil.ignore_patterns("*disk"))
    served.relay.mend()
    wanted = json.dumps({"kubewright_wanted_images": {"worker": {"digest": digest}}})
    words = ["node_image_install", "--limit", node, "-e", wanted]
    gate = Gate(tmp_path)
    with twin.begin_playbook(*words, "-e", f"ansible_ssh_executable={gate.program}") as second:
        # Both have looked at the node before either writes, and come to the same number.
        until("looked", gate.is_reached, limit=120)
        volumes.begin_playbook(*words).ended(180).succeeded()
        gate.open()
        refused = second.ended(180)
    assert refused.status != ExitCode.OK, refused.stdout
    assert "Another run owns this node since" in refused.stdout, refused.stdout
    assert "run it again, which takes a higher epoch" in refused.stdout, refused.stdout
    twin.begin_playbook(*words).ended(180).succeeded()
    assert hash_on(node, digest) == digest
    size = served.file(digest).stat().st_size
    assert served.relay.sent[volumes.addresses[node]] <= size + SMALL, "one of them fetched it"


def test_kubelet_collects_no_system_image(
    volumes: Volumes, whole: Kube, served: Served, tmp_path: Path
) -> None:
    node = volumes.on_file
    archive = tmp_path / "image.tar"
    scratch = tmp_path / "scratch"
    scratch.mkdir()
    workload.make_archive(workload.fetch_busybox(cache_dir() / "downloads", scratch), archive)
    import_image(node, archive)
    assert workload.IMAGE in images_on(node)
    manifest = json.loads(run_on(node, ["cat", f"{IMAGE_ROOT}/manifest.json"]))
    system = {image["name"] for image in manifest["images"]}
    assert system and system <= images_on(node)
    pods = containers(whole, node)
    web = volumes.web()
    volumes.write(web={**web, "kubelet_args": EAGER})
    try:
        volumes.apply().succeeded()
        # The proof that a collection was run.
        until("collected", lambda: is_gone(node, workload.IMAGE), limit=400, interval=2)
        assert system <= images_on(node)
    finally:
        volumes.write(web=web)
    assert volumes.apply().succeeded().document["changed"] is True
    assert system <= images_on(node)
    assert containers(whole, node) == pods, "the pods went on"


def test_an_image_stays_while_a_pod_runs_from_it(
    volumes: Volumes, whole: Kube, served: Served
) -> None:
    node = volumes.on_file
    old = active(node)
    for name in ("sixth", "seventh"):
        digest = served.make(name)
        served.install(digest, node).succeeded()
        activate(volumes, digest, node).succeeded()
        until("decided", lambda: decided(node), limit=180)
        assert runs(node, digest)
    collect(volumes, node)
    (kept,) = [one for one in listed(volumes, node) if one["digest"] == old]
    assert (kept["active"], kept["previous"], kept["in_use"]) == (False, False, True)
    before = containers(whole, node)
    assert before, "there is something that runs from it"
    for pod in {name.rpartition("/")[0] for name in before}:
        namespace, _, name = pod.partition("/")
        whole.core.delete_namespaced_pod(name, namespace)
    until("pods anew", lambda: anew(whole, node, set(before)), limit=120)
    collect(volumes, node)
    assert old not in {one["digest"] for one in listed(volumes, node)}
    assert runs(node, digest)
    # The file means the old one: it is fetched again.
    assert volumes.apply().succeeded().document["changed"] is True
    until("decided", lambda: decided(node), limit=180)
    assert runs(node, old)


def is_refused(served: Served, digest: str, node: str, words: str) -> None:
    """An install fails with these words, and leaves no image."""
    ended = served.install(digest, node)
    assert ended.status != 0
    assert words in " ".join(ended.stderr.split()), ended.stderr
    assert not exists(node, digest)


def collect(volumes: Volumes, node: str) -> None:
    """Remove what nobody needs from a node."""
    volumes.run("node", "image", "gc", "--node", node, "--yes", limit=120).succeeded()


def anew(kube: Kube, node: str, before: set[str]) -> None:
    """A look for a node whose pods are all new, and run; raises NotYet.

    Only those of DaemonSets come back to it.
    """
    now = containers(kube, node)
    if not now or set(now) & before or not all(identity for identity, _ in now.values()):
        raise NotYet(str(now))


def make_key(path: Path) -> Path:
    """A key that signs."""
    words = ["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", "builder", "-f", str(path)]
    subprocess.run(words, check=True, timeout=30)
    return path


def answers(port: int, server: Running) -> None:
    """A look for a server that listens."""
    try:
        socket.create_connection(("127.0.0.1", port), timeout=1).close()
    except OSError as error:
        raise NotYet(f"{error}: {server.said}") from error


def received(node: str) -> int:
    """How many bytes a machine's network card has received."""
    return int(run_on(node, ["cat", "/sys/class/net/eth0/statistics/rx_bytes"]))


def exists(node: str, digest: str) -> bool:
    """Whether a node has an image."""
    said = run_on(node, ["sh", "-c", f"ls {VOLUME}/images"])
    return f"{digest}.squashfs" in said.split()


def hash_on(node: str, digest: str) -> str:
    """The SHA-256 of an image on a node."""
    return run_on(node, ["sha256sum", f"{VOLUME}/images/{digest}.squashfs"]).split()[0]


def images_on(node: str) -> set[str]:
    """The names of the container images that a node's containerd has."""
    ctr = [f"{IMAGE_ROOT}/bin/ctr", "--namespace", "k8s.io", "images", "list", "--quiet"]
    return set(run_on(node, ctr).split())


def is_gone(node: str, image: str) -> None:
    """A look for a container image that was removed."""
    if image in images_on(node):
        raise NotYet(f"{image} is there")
