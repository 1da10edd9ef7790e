# SPDX-License-Identifier: Apache-2.0
"""One cluster for all tests: made with an interruption, and always removed."""

from __future__ import annotations

import json
import re
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from datetime import datetime
from pathlib import Path
from types import FrameType
from typing import Any

import kube as api
import leftovers
import processes
import pytest
import workload
from cluster import VERSION, Cluster, Ended
from kube import Kube
from servers import PlainAnsible
from volumes import Volumes, detach, make_disk
from waiting import until

from kubewright.image.paths import cache_dir

# What kills an `apply` at a chosen point is shared with `make chaos`.
CHAOS = Path(__file__).resolve().parents[1] / "chaos"
sys.path += [str(CHAOS), str(CHAOS.with_name("vm"))]
import checks  # noqa: E402
import lab  # noqa: E402
from points import Kill, kills, read_recording, select  # noqa: E402

#: The order of the files. Each may rely on the cluster being whole, and leaves it so; the last
#: one removes it. Those after it have a cluster of their own.
ORDER = (
    "test_servers",
    "test_servers_refused",
    "test_create",
    "test_status",
    "test_readonly",
    "test_secrets",
    "test_workload",
    "test_nodes",
    "test_sealed",
    "test_trial",
    "test_drift",
    "test_certificates",
    "test_one_writer",
    "test_hung",
    "test_lost",
    "test_failover",
    "test_destroy",
    "test_volumes",
    "test_node_images",
    "test_rolling",
    "test_removal",
    "test_vm",
)
#: What an ``apply`` of this cluster changes, written by `make chaos-points`.
RECORDING = CHAOS / "create.jsonl"
#: Deployments with a Service of the same name, one pinned on each worker.
SERVERS = ("alpha", "beta")
#: A bootstrap token, as kubeadm makes them, but for the one in 200 that has no digit or no letter.
TOKEN = re.compile(r"\b[a-z0-9]{6}\.(?=[a-z]*[0-9])(?=[0-9]*[a-z])[a-z0-9]{16}\b")
MEASURED = pytest.StashKey[list[tuple[str, str]]]()


@dataclass(frozen=True)
class Creation:
    """The cluster, and how it came about.

    ``killed_run`` is the id of the first apply's run. Join tokens that were made before
    ``settled`` may be of that run.
    """

    cluster: Cluster
    baseline: leftovers.Snapshot
    killed_run: str
    second: Ended
    settled: datetime
    watch: processes.Watch


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add the seed."""
    parser.addoption(
        "--chaos-seed",
        default="5",  # while the second control plane joins
        help="chooses where and when the first apply of the cluster is killed (default 5)",
    )


def pytest_configure(config: pytest.Config) -> None:
    """Let a termination end the tests as Ctrl-C does: with the cluster removed."""
    config.stash[MEASURED] = []

    def interrupt(number: int, frame: FrameType | None) -> None:
        raise KeyboardInterrupt

    signal.signal(signal.SIGTERM, interrupt)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Put the files in ORDER."""
    items.sort(key=lambda item: ORDER.index(item.path.stem))


def pytest_terminal_summary(
    terminalreporter: pytest.TerminalReporter, config: pytest.Config
) -> None:
    """Print what was measured."""
    terminalreporter.section("measured")
    for name, value in config.stash[MEASURED]:
        terminalreporter.line(f"{name}: {value}")


@pytest.fixture(scope="session")
def measured(request: pytest.FixtureRequest) -> Callable[[str, object], None]:
    """Takes a name and a value for the summary; a float is in seconds."""
    found = request.config.stash[MEASURED]

    def add(name: str, value: object) -> None:
        found.append((name, f"{value:.1f} s" if isinstance(value, float) else str(value)))

    return add


@pytest.fixture(scope="session")
def creation(
    request: pytest.FixtureRequest,
    tmp_path_factory: pytest.TempPathFactory,
    measured: Callable[[str, object], None],
) -> Iterator[Creation]:
    """A cluster whose first ``apply`` was killed where the seed says, and finished by another."""
    made = Cluster("kwtest", tmp_path_factory.mktemp("cluster"))
    made.write()
    made.clear_away()
    baseline = leftovers.snapshot()
    point = _point(made, request.config.getoption("--chaos-seed"))
    measured("killed at", f"{point.name}: {point.when}, on {point.host}")
    try:
        with processes.Watch(TOKEN) as watch:
            killed_run = lab.killed_run(*lab.killed_apply(made, point))
            second_begun = api.now()
            second = made.apply().succeeded()
        measured("apply after one that was killed", second.seconds)
        settled = second_begun + checks.probed(second)
        yield Creation(made, baseline, killed_run, second, settled, watch)
    finally:
        made.destroy().succeeded()


@pytest.fixture(scope="session")
def cluster(creation: Creation) -> Cluster:
    """The cluster, whole."""
    return creation.cluster


@pytest.fixture(scope="session")
def volumes(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Volumes]:
    """A small cluster, written down, for tests that break its volumes; its device is blank."""
    directory = tmp_path_factory.mktemp("volumes")
    made = Volumes("kwvol", directory, control_plane_size=1, disk=make_disk(directory))
    try:
        made.write()
        made.clear_away()
        yield made
    finally:
        made.destroy().succeeded()
        detach(made.disk)


@pytest.fixture(scope="session")
def whole(volumes: Volumes, kubectl: Path, tmp_path_factory: pytest.TempPathFactory) -> Kube:
    """Clients of that cluster, with all its nodes Ready."""
    if not volumes.state.joinpath("machines.json").exists():
        volumes.apply()  # makes the machines, and is refused: there is no device yet
    volumes.plug()
    volumes.wipe()
    volumes.apply().succeeded()
    path = tmp_path_factory.mktemp("kubeconfig") / "volumes.yaml"
    path.write_text(volumes.run("kubeconfig").succeeded().stdout)
    clients = Kube(path, kubectl)
    until("Ready", api.all_ready(clients, frozenset(volumes.nodes)), limit=60)
    return clients


@pytest.fixture(scope="session")
def connect(
    cluster: Cluster, kubectl: Path, tmp_path_factory: pytest.TempPathFactory
) -> Callable[[], Kube]:
    """Makes clients with what ``kubewright kubeconfig`` prints at that moment."""
    directory = tmp_path_factory.mktemp("kubeconfig")

    def clients() -> Kube:
        path = directory / f"{len(list(directory.iterdir()))}.yaml"
        path.write_text(cluster.run("kubeconfig").succeeded().stdout)
        return Kube(path, kubectl)

    return clients


@pytest.fixture(scope="session")
def plain(tmp_path_factory: pytest.TempPathFactory) -> PlainAnsible:
    """Ansible without the package."""
    found = PlainAnsible(tmp_path_factory.mktemp("plain"))
    found.make()
    return found


@pytest.fixture(scope="session")
def kube(connect: Callable[[], Kube]) -> Kube:
    """Clients of the cluster, for tests that no control plane is lost in."""
    return connect()


@pytest.fixture(scope="session")
def kubectl(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """kubectl of the system image."""
    directory = tmp_path_factory.mktemp("image") / "tree"
    images = cache_dir() / "images"
    index: Any = json.loads((images / "index.json").read_text())
    entries = [entry for entry in index if entry["kubernetes"] == VERSION]
    entry = max(entries, key=lambda entry: str(entry["built_at"]))
    image = str(images / f"{entry['digest']}.squashfs")
    subprocess.run(
        ["unsquashfs", "-quiet", "-no-progress", "-dest", str(directory), image, "bin/kubectl"],
        check=True,
        timeout=60,
        stdout=subprocess.DEVNULL,
    )
    return directory / "bin/kubectl"


@pytest.fixture(scope="session")
def test_image(cluster: Cluster, tmp_path_factory: pytest.TempPathFactory) -> str:
    """Name of a small image that both workers have."""
    return workload.give_image(cluster.workers, tmp_path_factory.mktemp("workload"))


@pytest.fixture(scope="session")
def servers(cluster: Cluster, connect: Callable[[], Kube], test_image: str) -> dict[str, str]:
    """The pods of SERVERS, by Deployment."""
    kube = connect()
    for name, worker in zip(SERVERS, cluster.workers, strict=True):
        kube.apps.create_namespaced_deployment("default", workload.deployment(name, node=worker))
        kube.core.create_namespaced_service("default", workload.service(name))
    found = {}
    for name in SERVERS:
        until(f"available: {name}", api.available(kube, "default", name), limit=60)
        pods = kube.core.list_namespaced_pod("default", label_selector=f"app={name}").items
        found[name] = str(pods[0].metadata.name)
    return found


def _point(made: Cluster, seed: str) -> Kill:
    """Return where the seed kills an apply of this cluster."""
    found = kills(read_recording(RECORDING.read_text(encoding="utf-8")), seed)
    (chosen,) = select(found, seed, count=1)
    return replace(chosen, host=chosen.host.replace(lab.NAME, made.name))
