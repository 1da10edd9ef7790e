# SPDX-License-Identifier: Apache-2.0
"""What bringing a role's container images into containerd costs, beside other ways to do it.

Each way gets a containerd of its own (the system image's) with an empty root, in turn, in every
round. A node has this cost once; it is the largest of what does not depend on other nodes. Needs
root, and a host that `make up` has prepared.
"""

from __future__ import annotations

import argparse
import importlib
import json
import os
import resource
import shutil
import signal
import subprocess
import sys
import tarfile
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from statistics import median
from typing import Any

from neighbour import REPOSITORY, VERSION, NotYet, until
from preparation import prepare
from telling import end_on_termination, say

from kubewright.image.paths import cache_dir

sys.path.append(str(REPOSITORY / ".venv/share/kubewright"))
_UTILS = "ansible_collections.kubewright.cluster.plugins.module_utils"
_containers = importlib.import_module(f"{_UTILS}._image.containers")
_command = importlib.import_module(f"{_UTILS}._base.commands")

ROLES = ("worker", "control_plane")
LIMIT = 300.0
_CONFIG = """\
version = 3
root = "{root}"
state = "{state}"
disabled_plugins = ["io.containerd.cri.v1.images", "io.containerd.cri.v1.runtime",
  "io.containerd.grpc.v1.cri"]
[grpc]
address = "{state}/socket"
"""


@dataclass(frozen=True)
class Cost:
    """Seconds by the clock and of processors; MB written, and MB that stay on the disk."""

    seconds: float
    cpu_seconds: float
    written_mb: float
    kept_mb: float


#: Takes the containerd and the archives.
Way = Callable[[Any, Sequence[Any]], None]


def by_ctr(*flags: str) -> Way:
    """One archive after the other."""

    def bring(containerd: Any, images: Sequence[Any]) -> None:
        head = [str(containerd.ctr), f"--address={containerd.address}", "--namespace=k8s.io"]
        for image in images:
            command = [*head, "images", "import", *flags, str(image.archive)]
            _command.check(containerd.run(command, timeout=LIMIT), "not imported")

    return bring


def by_module(containerd: Any, images: Sequence[Any]) -> None:
    """What ``node_parts`` does for the section ``container_images``."""
    containerd.bring(containerd.missing(images), images)


#: Name, how the archives' layers are packed, and how they are brought in. The first is containerd
#: with nothing to import; the last is below what any snapshotter could cost that unpacks nothing.
WAYS: tuple[tuple[str, str, Way], ...] = (
    ("nothing", "zstd", lambda containerd, images: None),
    ("ctr images import", "zstd", by_ctr()),
    ("the same, layers packed by gzip", "gzip", by_ctr()),
    ("the same, layers not packed", "tar", by_ctr()),
    ("--local", "zstd", by_ctr("--local")),
    ("--local --discard-unpacked-layers", "zstd", by_ctr("--local", "--discard-unpacked-layers")),
    ("node_parts", "zstd", by_module),
    ("--local --no-unpack", "zstd", by_ctr("--local", "--no-unpack")),
)
NOTHING = WAYS[0][0]


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure, and print a table for each role."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=3, help="how often each way is taken (3)")
    rounds = parser.parse_args(arguments).rounds
    end_on_termination()
    prepare()
    with tempfile.TemporaryDirectory(prefix="kubewright-bench-", dir="/var/tmp") as scratch:
        for role in ROLES:
            with _mounted(role, Path(scratch) / role) as tree:
                _print(role, _measured(tree, Path(scratch), rounds))
    return 0


def _measured(tree: Path, scratch: Path, rounds: int) -> dict[str, Cost]:
    images = _containers.read_manifest(tree)
    archives = {how: _packed(images, scratch / how, how) for how in ("tar", "gzip")}
    archives["zstd"] = images
    found: dict[str, list[Cost]] = {name: [] for name, _, _ in WAYS}
    for number in range(rounds):
        say(f"round {number + 1}")
        for name, how, way in WAYS if number % 2 == 0 else reversed(WAYS):
            found[name].append(_cost(tree, scratch / "containerd", way, archives[how]))
    shutil.rmtree(scratch / "tar")
    shutil.rmtree(scratch / "gzip")
    return {name: _median(costs) for name, costs in found.items()}


def _cost(tree: Path, directory: Path, way: Way, images: Sequence[Any]) -> Cost:
    """What a way costs from the start of containerd to its end, but for the wait for the start."""
    os.sync()
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    with _containerd(tree, directory) as containerd:
        started = time.monotonic()
        way(containerd, images)
        seconds = time.monotonic() - started
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    kept = subprocess.run(
        ["du", "--summarize", "--bytes", directory], check=True, capture_output=True, text=True
    )
    shutil.rmtree(directory)
    return Cost(
        seconds,
        after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime,
        (after.ru_oublock - before.ru_oublock) * 512 / 1e6,
        int(kept.stdout.split()[0]) / 1e6,
    )


@contextmanager
def _containerd(tree: Path, directory: Path) -> Iterator[Any]:
    """The system image's containerd with a root of its own, and the module's client for it."""
    state = directory / "state"
    state.mkdir(parents=True)
    config = directory / "config.toml"
    config.write_text(_CONFIG.format(root=directory / "root", state=state))
    log = directory / "log"
    with log.open("wb") as opened:
        process = subprocess.Popen(
            [str(tree / "bin/containerd"), "--config", str(config)], stdout=opened, stderr=opened
        )
    runner = _command.SystemRunner()
    containerd = _containers.Containerd(tree / "bin/ctr", str(state / "socket"), runner, LIMIT)
    try:
        until("listening", lambda: _listens(containerd), limit=30, interval=0.05)
        yield containerd
    except BaseException:
        say(log.read_text())
        raise
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait(30)


def _listens(containerd: Any) -> None:
    if not containerd.listens():
        raise NotYet("containerd starts")


def _packed(images: Sequence[Any], directory: Path, how: str) -> list[Any]:
    """The archives once more, their layers packed another way."""
    directory.mkdir()
    found = []
    for image in images:
        tree, target = directory / "tree", directory / image.archive.name
        with tarfile.open(image.archive) as archive:
            archive.extractall(tree, filter="data")
        manifest = json.loads((tree / "manifest.json").read_text())
        manifest[0]["Layers"] = [_repacked(tree / name, how) for name in manifest[0]["Layers"]]
        (tree / "manifest.json").write_text(json.dumps(manifest))
        with tarfile.open(target, "w") as archive:
            for path in sorted(tree.iterdir()):
                archive.add(path, path.name)
        shutil.rmtree(tree)
        found.append(replace(image, archive=target))
    return found


def _repacked(layer: Path, how: str) -> str:
    plain = layer.with_suffix("")
    subprocess.run(["zstd", "--quiet", "--decompress", "--rm", layer, "-o", plain], check=True)
    if how == "gzip":
        subprocess.run(["gzip", "-6", "--no-name", plain], check=True)
        return f"{plain.name}.gz"
    return plain.name


@contextmanager
def _mounted(role: str, target: Path) -> Iterator[Path]:
    """The newest system image of a role."""
    images = cache_dir() / "images"
    index: list[Mapping[str, Any]] = json.loads((images / "index.json").read_text())
    entries = [entry for entry in index if (entry["role"], entry["kubernetes"]) == (role, VERSION)]
    newest = max(entries, key=lambda entry: str(entry["built_at"]))
    target.mkdir()
    options = ["-t", "squashfs", "-o", "loop,ro"]
    subprocess.run(["mount", *options, images / str(newest["file"]), target], check=True)
    try:
        yield target
    finally:
        subprocess.run(["umount", target], check=True)


def _median(costs: Sequence[Cost]) -> Cost:
    return Cost(
        *(
            median(getattr(cost, name) for cost in costs)
            for name in ("seconds", "cpu_seconds", "written_mb", "kept_mb")
        )
    )


def _print(role: str, found: Mapping[str, Cost]) -> None:
    """A table; processor time and what is written are without containerd's own start."""
    none = found[NOTHING]
    print(f"\n| {role} | seconds | CPU seconds | MB written | MB kept |\n|---|---|---|---|---|")
    for name, cost in found.items():
        if name == NOTHING:
            continue
        print(
            f"| {name} | {cost.seconds:.1f} | {cost.cpu_seconds - none.cpu_seconds:.1f} "
            f"| {cost.written_mb - none.written_mb:.0f} | {cost.kept_mb - none.kept_mb:.0f} |"
        )


if __name__ == "__main__":
    sys.exit(main())
