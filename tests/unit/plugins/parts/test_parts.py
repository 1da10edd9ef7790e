# SPDX-License-Identifier: Apache-2.0
"""All parts of a node in one call: in which order, what counts once, and what is told."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from ansible_collections.kubewright.cluster.plugins.module_utils._base import commands, limits
from ansible_collections.kubewright.cluster.plugins.module_utils._fence import sealed
from ansible_collections.kubewright.cluster.plugins.module_utils._image import bringing
from ansible_collections.kubewright.cluster.plugins.module_utils._kube import (
    client,
    kubelet,
    memberships,
    node_object,
)
from ansible_collections.kubewright.cluster.plugins.module_utils._onnode import flannel
from ansible_collections.kubewright.cluster.plugins.module_utils._parts import parts
from wanted_files import OWNER, SECRET, file

RunModule = Callable[..., dict[str, Any]]
DIGEST = "ab" * 32
JOINED = memberships.Membership("joined", "join", "worker", "3f0c")
MEMBER = {"role": "worker", "cluster_id": "3f0c"}


class Systemd:
    """Units that are as they should be, or start when they are told; what it was asked to do."""

    def __init__(self) -> None:
        self.done: list[str] = []
        self.running = {"kubelet.service"}

    def __call__(self, argv: Any, *, timeout: float = 0, stdin: str = "") -> commands.Result:
        verb, *rest = list(argv)[1:]
        text = ""
        if verb == "show":
            names = rest[rest.index("--") + 1 :]
            text = "\n".join(self._unit(name) for name in names)
        elif verb in ("start", "restart"):
            self.done.append(f"{verb} {' '.join(rest[1:])}")
            self.running |= set(rest[1:])
        return commands.Result(tuple(argv), 0, text, "")

    def _unit(self, name: str) -> str:
        active = "active" if name in self.running else "inactive"
        return f"Id={name}\nLoadState=loaded\nActiveState={active}\nUnitFileState=enabled\n"


@pytest.fixture
def systemd(monkeypatch: pytest.MonkeyPatch) -> Systemd:
    found = Systemd()
    monkeypatch.setattr(commands, "SystemRunner", lambda _fds=(): found)
    return found


@pytest.fixture
def joined(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(memberships, "read_membership", lambda: JOINED)
    monkeypatch.setattr(kubelet, "silent", lambda *_: "")


def unit(name: str) -> dict[str, str]:
    return {"name": name, "state": "started"}


def test_the_volume_is_mounted_before_the_image_and_seen_from_then_on(
    run_module: RunModule, systemd: Systemd, etc: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    done = systemd.done

    def brought(_store: Any, asked: dict[str, Any], predict: bool, _run: Any) -> dict[str, Any]:
        done.append(f"image {asked['state']} {asked['size']} {predict}")
        return {"installed": True, "activated": True}

    monkeypatch.setattr(parts.ext4, "converge", lambda *_: done.append("volume") or ["create"])
    monkeypatch.setattr(bringing, "converge", brought)
    monkeypatch.setattr(sealed, "open_for_this_process", lambda: done.append("open"))
    volume = {"path": str(etc / "v"), "mount_point": str(etc / "m"), "size_bytes": 2 * 10**10}
    documents = {
        "system_volume": {
            "volume": {**volume, "type": "local", "sparse": True, "label": "l"}
            | {"units": [unit("volume.mount")]},
            "files": [file(etc / "a", "a")],
            "image": {"digest": DIGEST, "volume": str(etc / "m")},
            "units": [unit("image.mount")],
        },
        "load_balancer": {"files": [file(etc / "b", "b")], "units": [unit("balancer.service")]},
    }
    result = run_module("node_parts", documents=documents, transfer={"size": 7})
    assert done == [
        "open",  # by the lock
        "volume",
        "start volume.mount",
        "open",
        "image active 7 False",
        "start image.mount",
        "open",
        "start balancer.service",
        "open",
    ]
    assert result["parts"] == {
        "system_volume": [
            f"{etc}/v (create)",
            f"{etc}/a is missing",
            "volume.mount (started)",
            f"system image {DIGEST[:12]} (installed, activated)",
            "image.mount (started)",
        ],
        "load_balancer": [f"{etc}/b is missing", "balancer.service (started)"],
    }
    assert [one["before_header"] for one in result["diff"]][:2] == [f"{etc}/v", f"{etc}/a"]


def test_an_image_that_the_controller_sends_comes_before_all_else(
    run_module: RunModule, systemd: Systemd, etc: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    told = {"transfer": "/in", "offset": 3, "changed": False}
    monkeypatch.setattr(bringing, "converge", lambda *_: told)
    documents = {
        "system_volume": {
            "files": [file(etc / "a", "a")],
            "image": {"digest": DIGEST, "volume": str(etc)},
            "units": [unit("image.mount")],
        },
        "load_balancer": {"files": [file(etc / "b", "b")]},
    }
    result = run_module("node_parts", documents=documents)
    assert (result["transfer"], result["offset"]) == ("/in", 3)
    assert result["parts"] == {"system_volume": [f"{etc}/a is missing"]}
    assert (systemd.done, (etc / "b").exists()) == ([], False)


def test_a_failure_names_the_role_and_what_was_done_before(
    run_module: RunModule, etc: Path
) -> None:
    (etc / "dir").mkdir()
    documents = {
        "load_balancer": {"files": [file(etc / "a", "a")]},
        "container_runtime": {"files": [file(etc / "dir", "x")]},
        "worker": {"files": [file(etc / "b", "b")]},
    }
    result = run_module("node_parts", documents=documents)
    assert result["failed"] and result["changed"]
    assert result["msg"].startswith(f"container_runtime: {etc}/dir should be a file but is")
    assert result["parts"] == {"load_balancer": [f"{etc}/a is missing"]}
    assert not (etc / "b").exists()


def test_what_is_predicted_is_what_is_done(
    run_module: RunModule, systemd: Systemd, etc: Path
) -> None:
    documents = {
        "a": {
            "files": [file(etc / "a", "new")],
            "units": [{**unit("kubelet.service"), "restart_after": [str(etc / "a")]}],
        }
    }
    predicted = run_module("node_parts", check=True, documents=documents)
    assert predicted["parts"] == {"a": [f"{etc}/a is missing", "kubelet.service (restarted)"]}
    assert (systemd.done, (etc / "a").exists()) == ([], False)
    assert run_module("node_parts", documents=documents)["parts"].keys() == {"a"}


def test_secrets_reach_the_files_that_are_theirs_and_nothing_else(
    run_module: RunModule, etc: Path
) -> None:
    keys = [etc / "one.key", etc / "two.key"]
    documents = {
        name: {"files": [{"path": str(key), "secret": True, **OWNER}]}
        for name, key in zip("ab", keys, strict=True)
    }
    secrets = {str(key): SECRET for key in keys}
    result = run_module("node_parts", documents=documents, secrets=secrets)
    assert [key.read_text() for key in keys] == [SECRET] * 2
    assert "verysecret" not in str(result)
    assert result["invocation"]["module_args"]["documents"] == ["a", "b"]


def test_a_document_of_a_member_waits_until_the_node_has_joined(
    run_module: RunModule, etc: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Until then kubeadm's module sees to all of it."""
    monkeypatch.setattr(memberships, "read_membership", lambda: memberships.Membership("none"))
    documents = {"worker": {"membership": MEMBER, "files": [file(etc / "a", "a")]}}
    assert run_module("node_parts", documents=documents)["changed"] is False
    assert not (etc / "a").exists()


def test_the_kubelet_is_restarted_once_for_what_all_roles_say(
    run_module: RunModule,
    systemd: Systemd,
    joined: None,
    etc: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    watched: list[str] = []
    flags = etc / "flags.env"
    flags.write_text('KUBELET_KUBEADM_ARGS="--node-ip=192.0.2.1"\n')
    monkeypatch.setattr(kubelet, "FLAGS", flags)
    monkeypatch.setattr(parts.kubelet_settings, "RECORD", etc / "kubelet.json")
    monkeypatch.setattr(kubelet.Watch, "see", lambda _: kubelet.Sight(ready=True))
    monkeypatch.setattr(kubelet.Watch, "trouble", lambda self, _: watched.append(self.name) or "")
    documents = {
        "container_runtime": {"kubelet": {"files": [file(etc / "10.conf", "new")]}},
        "worker": {
            "membership": MEMBER,
            "kubelet": {"started": True, "flags": {"node-ip": "192.0.2.9"}},
        },
    }
    result = run_module("node_parts", documents=documents, node="web-1")
    assert systemd.done == ["restart kubelet.service"]
    assert watched == ["web-1"]
    assert "--node-ip=192.0.2.9" in flags.read_text()
    assert [part.split()[-1] for part in result["parts"]["container_runtime"]] == [
        "missing",
        "content",
        "(restarted)",
    ]


def test_a_kubelet_that_stands_still_is_restarted(
    run_module: RunModule,
    systemd: Systemd,
    joined: None,
    etc: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(kubelet, "silent", lambda *_: "the kubelet does not answer: timed out")
    monkeypatch.setattr(parts.kubelet_settings, "RECORD", etc / "kubelet.json")
    monkeypatch.setattr(kubelet.Watch, "see", lambda _: kubelet.Sight(ready=True))
    monkeypatch.setattr(kubelet.Watch, "trouble", lambda *_: "")
    documents = {"worker": {"membership": MEMBER, "kubelet": {"started": True}}}
    result = run_module("node_parts", documents=documents, node="web-1")
    assert systemd.done == ["restart kubelet.service"]
    assert "the kubelet does not answer: timed out" in result["parts"]["worker"]


class Api:
    """Of a cluster with one Node."""

    def __init__(self, live: dict[str, Any] | None) -> None:
        self.live = live
        self.patched: list[Any] = []

    def __enter__(self) -> Api:
        return self

    def __exit__(self, *_: object) -> None: ...

    def get(self, path: str) -> dict[str, Any] | None:
        return self.live if path.endswith("/nodes/web-1") else None

    def request(self, method: str, _path: str, body: Any, _kind: str) -> None:
        assert method == "PATCH"
        self.patched.append(body["metadata"]["labels"])


@pytest.mark.parametrize("check", [True, False])
def test_the_node_gets_what_it_lacks(
    run_module: RunModule, joined: None, monkeypatch: pytest.MonkeyPatch, check: bool
) -> None:
    live = node_object.new("web-1", {}, [], "", [])
    live["metadata"]["resourceVersion"] = "7"
    api = Api(live)
    monkeypatch.setattr(client, "as_kubelet", lambda *_: api)
    monkeypatch.setattr(client, "as_administrator", lambda *_: api)
    monkeypatch.setattr(flannel, "announced", list)
    monkeypatch.setattr(parts.packet_rules, "_proxy_mode", str)
    node = {"name": "web-1", "labels": {"pool": "web"}, "address": "192.0.2.9"}
    documents = {"worker": {"membership": MEMBER, "node": node}}
    result = run_module("node_parts", check=check, documents=documents, api_servers=["x"])
    assert result["parts"] == {"worker": ["label pool is missing"]}
    assert api.patched == ([] if check else [{"pool": "web"}])
    api.live = None
    result = run_module("node_parts", check=check, documents=documents, api_servers=["x"])
    if check:  # who makes it again is a task before
        assert result["parts"] == {"worker": ["Node web-1 is missing"]}
    else:
        assert result["msg"].startswith("worker: The cluster has no Node web-1.")


def test_each_section_has_its_own_time() -> None:
    """What hangs is not waited for as long as all together may take."""
    kubelet_alone = limits.of_section("kubelet", {"kubelet": {}})
    assert kubelet_alone == 1020
    assert limits.of_section("files", {"files": []}) == limits.WORK
    fetched = {"image": {"url": "https://images.example.com"}}
    assert limits.of_section("image", fetched) == limits.of_section("image", {"image": {}}) + 7200
    documents = {"a": {"kubelet": {}}, "b": {"files": []}}
    assert limits.work("node_parts", {"documents": documents}) == 1020 + 2 * limits.WORK
    assert limits.work("node_parts", {}) == limits.WORK


def test_a_section_that_hangs_ends_the_module(
    run_module: RunModule, etc: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    begun: list[float] = []
    real = limits.ends_within

    def noted(seconds: float) -> Any:
        begun.append(seconds)
        return real(seconds)

    monkeypatch.setattr(limits, "ends_within", noted)
    run_module("node_parts", documents={"a": {"files": [file(etc / "a", "a")]}})
    assert begun == [2 * limits.WORK, limits.WORK]
