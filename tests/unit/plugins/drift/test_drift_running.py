# SPDX-License-Identifier: Apache-2.0
"""What runs on a node against what roles desire: units, kernel settings, container images."""

from __future__ import annotations

import json
import os
import re
import socket
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from ansible_collections.kubewright.cluster.plugins.module_utils._base import commands
from ansible_collections.kubewright.cluster.plugins.module_utils._drift import drift
from ansible_collections.kubewright.cluster.plugins.module_utils._kube import memberships
from ansible_collections.kubewright.cluster.plugins.module_utils._services import systemctl, systemd
from wanted_files import OWNER

JOINED = memberships.Membership("joined", "join", "worker", "3f0c")
PROXY, PAUSE = "registry.k8s.io/kube-proxy:v1.37.2", "registry.k8s.io/pause:3.10.2"
STARTED_SECONDS_AGO = 100


class Node:
    """systemctl and ctr that only tell; whoever asks them to change something fails the test.

    `units`: what differs, by name, from a unit that is enabled and has run for a while.
    `images`: pinned or not, by name.
    """

    def __init__(self) -> None:
        self.units: dict[str, dict[str, str]] = {}
        self.images: dict[str, bool] = {PROXY: True, PAUSE: True}
        self.deaf = False

    def __call__(self, argv: Any, *, timeout: float = 0, stdin: str = "") -> commands.Result:
        words = list(argv)
        if words[: len(systemd.SHOW)] == list(systemd.SHOW):
            text = "\n".join(self._describe(name) for name in words[len(systemd.SHOW) :])
        else:
            assert words[0].endswith("/bin/ctr")
            assert words[5:8] == ["images", "ls", "--quiet"]
            text = "\n".join(name for query in words[8:] if (name := self._listed(query)))
        failed = (1, "", "Failed to connect to bus")
        return commands.Result(tuple(argv), *(failed if self.deaf else (0, text, "")))

    def _describe(self, name: str) -> str:
        started = time.time() - STARTED_SECONDS_AGO
        stamp = time.strftime("%a %Y-%m-%d %H:%M:%S", time.gmtime(started))
        known = {
            "Id": name,
            "LoadState": "loaded",
            "ActiveState": "active",
            "UnitFileState": "enabled",
            "InactiveExitTimestamp": f"{stamp}.{int(started % 1 * 10**6):06d} UTC",
            "InactiveExitTimestampMonotonic": str(
                time.monotonic_ns() // 1000 - STARTED_SECONDS_AGO * 10**6
            ),
            **self.units.get(name, {}),
        }
        return "".join(f"{key}={value}\n" for key, value in known.items())

    def _listed(self, query: str) -> str:
        match = re.match(r'name=="([^"]+)"', query)
        assert match
        name = match[1]
        there = name in self.images and (self.images[name] or "pinned" not in query)
        return name if there and "a" * 64 in query else ""


@pytest.fixture
def node() -> Node:
    return Node()


def reasons(
    node: Node, *documents: dict[str, Any], membership: memberships.Membership = JOINED
) -> list[str]:
    """What is said of the last of *documents*, each of another role."""
    roles = {f"role {number}": document for number, document in enumerate(documents)}
    found = drift.Comparison(node, membership).compare(roles)
    return found.drift.get(list(roles)[-1], [])


@pytest.mark.parametrize(
    ("is_now", "wanted", "expected"),
    [
        ({}, {"state": "started", "enabled": True}, []),
        ({"ActiveState": "inactive"}, {"state": "started"}, ["is not running"]),
        ({"ActiveState": "failed"}, {"state": "started"}, ["is not running"]),
        ({"ActiveState": "activating"}, {"state": "started"}, []),
        ({"ActiveState": "inactive"}, {"enabled": True}, []),
        ({}, {"state": "stopped"}, ["is running"]),
        ({"ActiveState": "failed"}, {"state": "stopped"}, []),
        ({"UnitFileState": "disabled"}, {"enabled": True}, ["is not enabled"]),
        ({}, {"enabled": False}, ["is enabled"]),
        ({}, {"masked": True}, ["is not masked"]),
        ({"UnitFileState": "masked"}, {"state": "started"}, ["is masked"]),
        ({"UnitFileState": "masked"}, {"masked": True}, []),
        (
            {"LoadState": "not-found", "ActiveState": "inactive", "UnitFileState": ""},
            {"state": "started", "enabled": True},
            ["is not running", "is not enabled"],
        ),
    ],
)
def test_units(
    node: Node, is_now: dict[str, str], wanted: dict[str, Any], expected: list[str]
) -> None:
    node.units["a.service"] = is_now
    units = [{"name": "good.mount", "state": "started"}, {"name": "a.service", **wanted}]
    assert reasons(node, {"units": units}) == [f"a.service {text}" for text in expected]


def test_what_an_earlier_role_would_do_is_not_told_of_a_later_one(node: Node) -> None:
    """Both want the kubelet's unit enabled; the one that runs first enables it."""
    node.units["a.service"] = {"UnitFileState": "disabled", "ActiveState": "inactive"}
    first = {"units": [{"name": "a.service", "enabled": True}]}
    later = {"units": [{"name": "a.service", "enabled": True, "state": "started"}]}
    assert reasons(node, first) == ["a.service is not enabled"]
    assert reasons(node, first, later) == ["a.service is not running"]
    assert reasons(node, first, first) == []


def test_a_unit_file_that_systemd_has_not_read(node: Node) -> None:
    node.units["a.service"] = {"NeedDaemonReload": "yes"}
    assert reasons(node, {"units": [{"name": "a.service", "state": "started"}]}) == [
        "a.service: systemd has not reloaded its changed unit file"
    ]


def test_a_unit_that_cannot_be_enabled_and_a_systemd_that_is_deaf(node: Node) -> None:
    document = {"units": [{"name": "a.service", "enabled": True}], "container_images": True}
    node.units["a.service"] = {"UnitFileState": "static"}
    told = reasons(node, document)
    assert "no [Install] section" in told[0]
    assert len(told) == 2, "the images are looked at all the same"
    node.deaf = True
    assert "Failed to connect to bus" in reasons(node, document)[0]


def unit_that_reads(path: Path) -> dict[str, Any]:
    unit = {"name": "a.service", "state": "started", "restart_after": [str(path)]}
    return {"units": [unit]}


@pytest.mark.parametrize(("age", "stale"), [(STARTED_SECONDS_AGO + 50, False), (50, True)])
def test_a_file_that_is_newer_than_its_reader(
    node: Node, tmp_path: Path, age: float, stale: bool
) -> None:
    path = tmp_path / "config"
    path.touch()
    os.utime(path, (time.time() - age,) * 2)
    expected = ["a.service runs with older settings"] if stale else []
    assert reasons(node, unit_that_reads(path)) == expected


@pytest.mark.parametrize("another_role", [True, False])
def test_a_file_that_would_be_written_restarts_its_reader(
    node: Node, tmp_path: Path, another_role: bool
) -> None:
    path, foreign = tmp_path / "config", tmp_path / "foreign"
    writes = {"files": [{"path": str(path), "content": "new", **OWNER}]}
    reads = unit_that_reads(path)
    told = reasons(node, writes, reads) if another_role else reasons(node, {**writes, **reads})
    assert told[-1] == "a.service runs with older settings"
    assert reasons(node, writes, unit_that_reads(foreign)) == []


def test_a_foreign_file_is_drift_and_restarts_who_reads_its_directory(
    node: Node, tmp_path: Path
) -> None:
    place = tmp_path / "kubelet.d"
    place.mkdir()
    owns = {"path": str(place), "state": "directory", "exclusive": "*.conf", **OWNER}
    document = {"files": [owns], **unit_that_reads(place)}
    foreign = place / "20-theirs.conf"
    foreign.touch()
    for path in (place, foreign):
        os.utime(path, (1, 1))
    assert reasons(node, document) == [
        f"{foreign} should not be there",
        "a.service runs with older settings",
    ]
    foreign.unlink()
    os.utime(place, (1, 1))
    assert reasons(node, document) == []


def test_a_file_of_which_only_the_mode_differs_restarts_nobody(node: Node, tmp_path: Path) -> None:
    path = tmp_path / "config"
    path.write_text("new")
    path.chmod(0o600)
    os.utime(path, (1, 1))
    writes = {"files": [{"path": str(path), "content": "new", **OWNER}]}
    assert reasons(node, {**writes, **unit_that_reads(path)}) == [
        f"{path} is mode 0600 instead of mode 0644"
    ]


def test_an_image_that_would_be_switched_restarts_its_mount(node: Node, tmp_path: Path) -> None:
    image = {"image": {"digest": "b" * 64, "volume": str(tmp_path)}}
    assert reasons(node, image, unit_that_reads(tmp_path / "active")) == [
        "a.service runs with older settings"
    ]


@pytest.fixture
def kernel(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A kernel with one setting."""
    path = tmp_path / "sys" / "net" / "ipv4"
    path.mkdir(parents=True)
    (path / "ip_forward").write_text("1\n")
    (path / "ping_group_range").write_text("0\t2147483647\n")
    monkeypatch.setattr(systemctl, "SYSCTLS", tmp_path / "sys")
    return path


def test_a_service_that_does_not_answer(node: Node, monkeypatch: pytest.MonkeyPatch) -> None:
    """A containerd that stands still was nothing to do."""
    monkeypatch.setitem(systemctl.ANSWERS, "containerd", lambda: "containerd does not answer")
    wanted = {"name": "a.service", "state": "started", "answers": "containerd"}
    assert reasons(node, {"units": [wanted]}) == ["containerd does not answer"]
    node.units["a.service"] = {"ActiveState": "inactive"}
    assert reasons(node, {"units": [wanted]}) == ["a.service is not running"]


def test_kernel_settings(node: Node, kernel: Path) -> None:
    settings = {"net.ipv4.ip_forward": 1, "net.ipv4.ping_group_range": "0 2147483647"}
    unit = {"name": "systemd-sysctl.service", "state": "started", "sysctls": settings}
    document = {"units": [unit]}
    assert reasons(node, document) == []
    (kernel / "ip_forward").write_text("0\n")
    (kernel / "ping_group_range").write_text("1\t0\n")
    assert reasons(node, document) == [
        "systemd-sysctl.service runs with older settings",
        "sysctl net.ipv4.ip_forward is 0 instead of 1",
        "sysctl net.ipv4.ping_group_range is 1 0 instead of 0 2147483647",
    ]
    for path in kernel.iterdir():
        path.unlink()
    assert reasons(node, document) == [], "this kernel does not have them"


@pytest.fixture
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A mounted system image with two container images, and a containerd that listens."""
    path = tmp_path / "image"
    path.mkdir()
    names = {"images/0.tar": PROXY, "images/1.tar": PAUSE}
    files = [{"path": archive, "sha256": "a" * 64, "size": 10} for archive in names]
    images = [{"name": name, "archive": archive} for archive, name in names.items()]
    (path / "manifest.json").write_text(json.dumps({"files": files, "images": images}))
    monkeypatch.setattr(drift, "IMAGE_ROOT", path)
    monkeypatch.setattr(drift, "CONTAINERD", "s")
    monkeypatch.chdir(tmp_path)  # a socket's path may have 108 bytes
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind("s")
        listener.listen()
        yield path


IMAGES = {"container_images": True}


def test_container_images(node: Node, root: Path) -> None:
    assert reasons(node, IMAGES) == []
    del node.images[PROXY]
    node.images[PAUSE] = False
    assert reasons(node, IMAGES) == [f"image {PROXY} is missing", f"image {PAUSE} is not pinned"]


def test_images_that_cannot_be_listed(node: Node, root: Path) -> None:
    (root.parent / "s").unlink()
    assert reasons(node, IMAGES) == ["containerd does not answer, so its images can't be listed"]
    (root / "manifest.json").write_text("{}")
    assert "is not the manifest of a system image" in reasons(node, IMAGES)[0]
    (root / "manifest.json").unlink()
    assert reasons(node, IMAGES) == ["no system image is mounted"]


def test_another_system_image_brings_its_own(node: Node, root: Path, tmp_path: Path) -> None:
    node.images.clear()
    image = {"image": {"digest": "b" * 64, "volume": str(tmp_path)}}
    assert reasons(node, image, IMAGES) == ["the container images come with the system image"]


WORKER = {"membership": {"role": "worker", "cluster_id": "3f0c"}}


@pytest.mark.parametrize(
    ("membership", "expected"),
    [
        (("joined", "join", "worker", "3f0c"), []),
        (("none",), ["it is not in the cluster"]),
        (("partial", "join", "worker", "3f0c"), ["its join, or a reset, was interrupted"]),
        (("partial", "init", "control_plane", "3f0c"), ["its init, or a reset, was interrupted"]),
        (
            ("joined", "join", "control_plane", "3f0c"),
            ["it joined as control_plane and should be worker; reset it first"],
        ),
        (
            ("joined", "join", "worker", "beef"),
            ["it belongs to another cluster, with id beef; reset it first"],
        ),
        (
            ("partial", "join", "worker", "beef"),
            ["it belongs to another cluster, with id beef; reset it first"],
        ),
    ],
)
def test_membership(node: Node, membership: tuple[str, ...], expected: list[str]) -> None:
    assert reasons(node, WORKER, membership=memberships.Membership(*membership)) == expected


@pytest.mark.parametrize("phase", ["none", "partial", "joined"])
def test_of_a_node_that_has_to_join_nothing_else_is_asked(node: Node, phase: str) -> None:
    node.units["kubelet.service"] = {"ActiveState": "inactive"}
    document = {**WORKER, "units": [{"name": "kubelet.service", "state": "started"}]}
    membership = memberships.Membership(phase, "join", "worker", "3f0c")
    told = reasons(node, document, membership=membership)
    assert ("kubelet.service is not running" in told) == (phase == "joined")
    assert len(told) == 1
