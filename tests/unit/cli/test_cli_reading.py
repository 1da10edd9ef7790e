# SPDX-License-Identifier: Apache-2.0
"""validate, schema, status, kubeconfig, image: what they print, and their exit codes."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
import yaml

from kubewright.cli.exits import EXIT_CODES, ExitCode
from kubewright.observe import (
    ApiServer,
    Condition,
    Etcd,
    EtcdMember,
    Finding,
    Node,
    Report,
    Snapshot,
)
from kubewright.spec import json_schema
from kubewright.spec.machines import Machine

HOSTS = ("demo-cp-1", "demo-cp-2", "demo-cp-3", "demo-web-1")
NOW = datetime(2026, 1, 1, 12, tzinfo=UTC)


def healthy() -> Snapshot:
    ready = (Condition("Ready", "True"),)
    return Snapshot(
        cluster="demo",
        taken_at=NOW,
        api_servers=tuple(ApiServer(host, f"10.0.0.{n}", True) for n, host in enumerate(HOSTS[:3])),
        etcd=Etcd(
            tuple(
                EtcdMember(str(n), host, "10.0.0.1", True, leader=n == 1)
                for n, host in enumerate(HOSTS[:3])
            )
        ),
        nodes=tuple(Node(h, "", False, "v1.37.2", True, False, "10.0.0.1", ready) for h in HOSTS),
        machines=tuple(
            Machine(f"x://{h}", h, "10.0.0.1", (), "local", "", "", "", "on") for h in HOSTS
        ),
        machines_at=NOW - timedelta(minutes=7),
    )


@pytest.fixture
def seen(monkeypatch: pytest.MonkeyPatch) -> Callable[[Snapshot], None]:
    def show(snapshot: Snapshot) -> None:
        monkeypatch.setattr("kubewright.cli.status.take", lambda *_: snapshot)

    return show


def test_validate(world: Any, command: Callable[..., Any]) -> None:
    ended = command("validate")
    assert ended.code == 0
    assert ended.out == (
        "cluster.yml: cluster demo, Kubernetes 1.37.2, 3 control planes, pool web of 1\n"
    )
    told = json.loads(command("validate", "-o", "json").out)
    found = {"cluster": "demo", "kubernetes": "1.37.2", "available": None}
    assert told == {"valid": True, **found, "problems": []}


def test_a_cluster_keeps_its_release_when_the_catalogue_moves_on(
    world: Any, command: Callable[..., Any]
) -> None:
    """And what is available is told, on stderr: what a program reads is as it was."""
    world.paths.identity.mkdir(parents=True)
    identity = {"begun": True, "initial_node": "demo-cp-1", "fixed": {"version": "1.37.1"}}
    (world.paths.identity / "cluster.json").write_text(json.dumps(identity))
    ended = command("validate", "-o", "json")
    told = json.loads(ended.out)
    assert (told["kubernetes"], told["available"]) == ("1.37.1", "1.37.2")
    assert ended.err == (
        "Kubernetes 1.37.2 is available. demo keeps 1.37.1: Kubewright can't upgrade a "
        "cluster yet.\n"
    )
    status = command("status", "-o", "json")
    assert json.loads(status.out)["available"] == "1.37.2" and "is available" in status.err
    # Who names the cluster's own has chosen it, whether or not the catalogue has it still.
    world.file.write_text(world.file.read_text().replace('"1.37"', '"1.37.1"'))
    ended = command("validate", "-o", "json")
    assert (ended.code, ended.err) == (0, "")


def test_validate_tells_every_problem(world: Any, command: Callable[..., Any]) -> None:
    world.file.write_text(world.file.read_text() + "poolz: 1\nname: x\n")
    ended = command("validate", "-f", str(world.file))
    assert ended.code == 2
    assert ended.out == ""
    assert f"{world.file}:6:1: poolz: is not a known field" in ended.err
    assert f"{world.file}:7:1: name: is set twice" in ended.err
    told = json.loads(command("validate", "--output=json").out)
    assert told["valid"] is False
    assert [problem["line"] for problem in told["problems"]] == [6, 7]


@pytest.mark.parametrize("name", ["apply", "status", "kubeconfig", "destroy", "validate"])
def test_a_bad_file_is_exit_code_2(world: Any, command: Callable[..., Any], name: str) -> None:
    ended = command(name, "-f", "nothing.yml")
    assert ended.code == 2
    assert "nothing.yml: there is no such file" in ended.err
    assert ended.out == ""


@pytest.mark.parametrize(
    "words",
    [
        ["plan"],
        ["apply", "--yes"],
        ["status"],
        ["kubeconfig"],
        ["destroy", "--yes"],
        ["reset", "--yes"],
        ["history", "list"],
        ["logs"],
        ["identity", "make"],
        ["identity", "export", "--force"],
        ["node", "image", "list"],
    ],
)
def test_the_state_of_another_file_of_the_name_is_not_touched(
    world: Any, command: Callable[..., Any], words: list[str]
) -> None:
    other = world.directory / "other" / "cluster.yml"
    other.parent.mkdir()
    other.write_text(world.file.read_text())
    world.paths.state.mkdir(parents=True)
    record = {"schema": 1, "file": str(other), "ids": ["id"], "providers": ["local"]}
    world.paths.record.write_text(json.dumps(record))
    ended = command(*words)
    assert (ended.code, ended.out) == (2, "")
    assert f"another cluster called demo, that of {other}" in ended.err
    assert "Give this cluster another name" in ended.err
    assert [path.name for path in world.paths.state.iterdir()] == ["record.json"]


@pytest.mark.parametrize(
    "words",
    [
        ["nonsense"],
        ["validate", "-o", "xml"],
        ["validate", "--nonsense"],
        ["image", "build", "1.99"],
        ["image", "build", "banana"],
    ],
)
def test_usage(world: Any, command: Callable[..., Any], words: list[str]) -> None:
    ended = command(*words)
    assert ended.code == 2
    assert ended.err
    assert "Traceback" not in ended.err
    assert ended.out == ""


def test_schema(world: Any, command: Callable[..., Any]) -> None:
    assert json.loads(command("schema").out) == json_schema()


def test_help_tells_the_exit_codes(command: Callable[..., Any]) -> None:
    ended = command("--help")
    assert ended.code == 0
    shown = " ".join(ended.out.split())
    assert EXIT_CODES in shown
    for code in ExitCode:
        assert f" {int(code)} " in f" {EXIT_CODES}"
    assert {int(code) for code in ExitCode} == {0, 1, 2, 3, 4, 5, 130}


def test_version(command: Callable[..., Any]) -> None:
    assert command("--version").out == "kubewright 0.1.0\n"


def test_status_of_a_healthy_cluster(
    world: Any, command: Callable[..., Any], seen: Callable[[Snapshot], None]
) -> None:
    seen(healthy())
    ended = command("status")
    assert ended.code == 0
    for words in (
        "demo  Kubernetes 1.37.2  (machines as of 7 min ago)",
        "control plane  3 of 3 API servers ready, etcd 3 of 3 healthy (can lose 1 more)",
        "demo-cp-2  Ready  v1.37.2  API ready  etcd leader  power on  10.0.0.1",
        "pool web  1 of 1 ready",
        "✓ healthy",
    ):
        assert words in ended.out
    told = json.loads(command("status", "-o", "json").out)
    assert told["healthy"] is True
    assert told["etcd"]["quorum"] is True
    assert yaml.safe_load(command("status", "-o", "yaml").out) == told


def test_status_tells_the_release_that_runs(
    world: Any, command: Callable[..., Any], seen: Callable[[Snapshot], None]
) -> None:
    """It told that of the file: apply refuses to go there, and nothing had changed."""
    good = healthy()
    assert good.nodes is not None
    runs = tuple(replace(node, control_plane=node.name in HOSTS[:3]) for node in good.nodes)
    seen(replace(good, nodes=runs))
    world.file.write_text(world.file.read_text().replace('"1.37"', '"1.36.4"'))
    ended = command("status")
    assert "demo  Kubernetes 1.37.2  (" in ended.out
    # Where no API server tells, what it was begun with counts.
    seen(replace(good, nodes=None))
    world.paths.identity.mkdir(parents=True)
    identity = {"begun": True, "initial_node": "demo-cp-1", "fixed": {"version": "1.37.1"}}
    (world.paths.identity / "cluster.json").write_text(json.dumps(identity))
    assert json.loads(command("status", "-o", "json").out)["kubernetes"] == "1.37.1"


def test_status_of_an_ailing_cluster(
    world: Any, command: Callable[..., Any], seen: Callable[[Snapshot], None]
) -> None:
    good = healthy()
    assert good.nodes is not None
    stray = replace(good.nodes[3], name="demo-web-2")
    seen(
        replace(
            good,
            api_servers=(
                replace(good.api_servers[0], ready=False, reason="no answer within 3 s"),
                *good.api_servers[1:],
            ),
            nodes=(*good.nodes[:3], replace(good.nodes[3], ready=False, cordoned=True), stray),
            reports=(
                Report(
                    "demo-cp-1",
                    reason="ssh: connect to host 10.0.0.1 port 22: Connection refused",
                ),
                Report("demo-cp-2", reason="not prepared yet", prepared=False),
                Report(
                    "demo-web-1",
                    (
                        Finding("volume", "The device /dev/x is missing. Attach it."),
                        Finding("traffic", "Services don't work here.", "Look at kube-proxy."),
                    ),
                ),
            ),
        )
    )
    ended = command("status")
    assert ended.code == 3
    for words in (
        "2 of 3 API servers ready",
        "API no answer within 3 s",
        "NotReady  cordoned",
        "not in the file",
        "demo-web-2",
        "✗ the node demo-web-1 is not ready",
        "state not known",
        "✗ demo-cp-1 can't be checked over SSH: ssh: connect to host "
        "10.0.0.1 port 22: Connection refused. The machine is up, but nothing listens on "
        "its SSH port (connection refused). Start sshd there",
        "demo-cp-2  Ready  v1.37.2  API ready  etcd leader  not prepared yet",
        "volume failed  traffic failed",
        "✗ the system volume of demo-web-1: The device /dev/x is missing. Attach it.",
        "✗ demo-web-1: Services don't work here. Look at kube-proxy.",
    ):
        assert words in ended.out
    told = json.loads(command("status", "-o", "json").out)
    assert told["healthy"] is False
    assert len(told["troubles"]) == 5
    assert told["reports"][2] == {
        "host": "demo-web-1",
        "findings": [
            {
                "section": "volume",
                "text": "The device /dev/x is missing. Attach it.",
                "remedy": "",
                "warning": False,
            },
            {
                "section": "traffic",
                "text": "Services don't work here.",
                "remedy": "Look at kube-proxy.",
                "warning": False,
            },
        ],
        "reason": "",
        "remedy": "",
        "said": "",
        "prepared": True,
    }


def test_status_before_the_first_apply(world: Any, command: Callable[..., Any]) -> None:
    ended = command("status")
    assert ended.code == 3
    assert "run 'kubewright apply'" in ended.out


KUBECONFIG = """\
apiVersion: v1
kind: Config
clusters: [{name: demo, cluster: {server: "https://old:1", certificate-authority-data: YQ==}}]
users: [{name: admin, user: {client-certificate-data: YQ==, client-key-data: YQ==}}]
contexts: [{name: demo, context: {cluster: demo, user: admin}}]
current-context: demo
"""


def test_kubeconfig_points_at_a_living_control_plane(
    world: Any, command: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    world.paths.state.mkdir(parents=True)
    world.paths.kubeconfig.write_text(KUBECONFIG)
    servers = [ApiServer("demo-cp-1", "10.0.0.1", False), ApiServer("demo-cp-2", "10.0.0.2", True)]
    monkeypatch.setattr("kubewright.cli.kubeconfig.api_servers", lambda *_: servers)
    ended = command("kubeconfig")
    assert ended.code == 0
    cluster = yaml.safe_load(ended.out)["clusters"][0]["cluster"]
    assert cluster["server"] == "https://10.0.0.2:6443"
    assert cluster["tls-server-name"] == "api.demo.internal"
    assert json.loads(command("kubeconfig", "-o", "json").out)["kind"] == "Config"
    monkeypatch.setattr("kubewright.cli.kubeconfig.api_servers", lambda *_: servers[:1])
    ended = command("kubeconfig")
    assert (ended.code, ended.out) == (3, "")


def test_kubeconfig_before_the_first_apply(world: Any, command: Callable[..., Any]) -> None:
    ended = command("kubeconfig")
    assert (ended.code, ended.out) == (3, "")
    assert "run 'kubewright apply'" in ended.err


def test_no_images(world: Any, command: Callable[..., Any]) -> None:
    assert json.loads(command("image", "list", "-o", "json").out) == []
    assert command("image", "verify").code == 0


def test_a_damaged_machines_file(world: Any, command: Callable[..., Any]) -> None:
    world.paths.state.mkdir(parents=True)
    world.paths.machines.write_text("[")
    ended = command("status")
    assert ended.code == 1
    assert "machines.json" in ended.err


def test_output_that_nobody_reads(world: Any, tmp_path: Path) -> None:
    import os
    import subprocess
    import sys

    read, write = os.pipe()
    os.close(read)
    ended = subprocess.run(
        [sys.executable, "-m", "kubewright", "schema"],
        stdout=write,
        stderr=subprocess.PIPE,
        check=False,
        timeout=60,
    )
    os.close(write)
    assert b"Traceback" not in ended.stderr
    assert b"Exception" not in ended.stderr
