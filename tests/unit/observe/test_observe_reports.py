# SPDX-License-Identifier: Apache-2.0
"""Nodes asked about themselves, by an ssh that runs the command here."""

from __future__ import annotations

import asyncio
import json
import shlex
import sys
import time
from datetime import UTC, datetime
from pathlib import Path

import pytest

from kubewright.act.remedies import remedy
from kubewright.locations import ClusterPaths
from kubewright.observe import Finding, Report, Snapshot, reports, troubles
from kubewright.observe import Node as ClusterNode
from kubewright.spec.connection import command
from kubewright.spec.machines import Machine
from kubewright.spec.models import ControlPlane, Node, Spec, Ssh

REMEDY = reports.REMEDY
SSH = """\
#!{python}
import os, subprocess, sys
words = sys.argv[1:]
if "10.0.0.9" in words:
    sys.stderr.write("ssh: connect to host 10.0.0.9 port 22: \\x1b[1mNo route to host\\n")
    sys.exit(255)
profile = os.environ.get("PROFILE", ":")
sys.exit(subprocess.run(["sh", "-c", profile + "\\n" + words[-1]]).returncode)
"""


def node(name: str, ready: bool) -> ClusterNode:
    return ClusterNode(name, "", False, "v1.37.2", ready, False, "10.0.0.1")


NODES = (node("demo-cp-1", ready=True), node("demo-web-1", ready=False), node("gone", ready=True))


def machine(name: str, address: str = "10.0.0.1", power: str = "on") -> Machine:
    return Machine(f"x://{name}", name, address, (), "local", "", "", "", power)


@pytest.fixture
def spec() -> Spec:
    return Spec(
        plugin="kubewright.cluster.spec",
        name="demo",
        version="1.37",
        control_plane=ControlPlane(provider="local", size=1),
        pools=(),
    )


@pytest.fixture
def script(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where the node's script is looked for; ssh comes to this machine."""
    ssh, path = tmp_path / "bin" / "ssh", tmp_path / "report.py"
    ssh.parent.mkdir()
    ssh.write_text(SSH.format(python=sys.executable))
    ssh.chmod(0o755)
    monkeypatch.setenv("PATH", str(ssh.parent), prepend=":")
    unit = tmp_path / "unit"
    unit.write_text(f"[Service]\nExecStart={sys.executable} {path.with_name('guard.py')} volume\n")
    monkeypatch.setattr(reports, "MARKED", reports.MARKED.replace(reports.UNIT, str(unit)))
    return path


def answers(text: str) -> str:
    return f"import sys; assert sys.argv[1:] == []; print({text!r})"


def test_what_the_nodes_say(spec: Spec, script: Path, tmp_path: Path) -> None:
    found_there = {
        "volume": [{"text": "/x is full.", "remedy": "", "about": []}],
        "traffic": [{"text": "\x1b[2Jodd", "remedy": "\x1b[1mLook.", "about": ["x"]}],
    }
    script.write_text(answers(json.dumps(found_there)))
    machines = [
        machine("demo-cp-1"),
        machine("demo-web-1", "10.0.0.9"),
        machine("demo-web-2", power="off"),
    ]
    found = asyncio.run(reports.ask(spec, ClusterPaths(tmp_path), machines, NODES))
    assert found == (
        Report(
            "demo-cp-1",
            (
                Finding("volume", "/x is full."),
                Finding("traffic", " [2Jodd", " [1mLook."),
            ),
        ),
        Report("demo-web-1", reason="ssh: connect to host 10.0.0.9 port 22:  [1mNo route to host"),
    )


@pytest.mark.parametrize(
    "profile",
    [
        "echo Welcome to [web-1]; echo '{}' >&2",
        "printf 'no end of line'",
        "trap 'echo Goodbye; echo []' EXIT",
    ],
)
def test_a_shell_that_prints(
    spec: Spec, script: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, profile: str
) -> None:
    monkeypatch.setenv("PROFILE", profile)
    script.write_text(answers('{"volume": [{"text": "/x is full.", "remedy": ""}]}'))
    found = asyncio.run(reports.ask(spec, ClusterPaths(tmp_path), [machine("demo-cp-1")], ()))
    assert found == (Report("demo-cp-1", (Finding("volume", "/x is full."),)),)
    (tmp_path / "unit").unlink()
    found = asyncio.run(reports.ask(spec, ClusterPaths(tmp_path), [machine("demo-cp-1")], ()))
    assert found == (Report("demo-cp-1", reason="not prepared yet", prepared=False),)


@pytest.mark.parametrize(
    ("text", "reason", "remedy"),
    [
        (answers("nothing"), "its answer is not a list of findings", REMEDY),
        (answers('{"volume": [{"text": "x"}]}'), "its answer is not a list of findings", REMEDY),
        (
            answers('{"volume": [{"text": 1, "remedy": ""}]}'),
            "its answer is not a list of findings",
            REMEDY,
        ),
        (answers("[1]"), "its answer is not a list of findings", REMEDY),
        ("raise SystemExit(2)", "status 2", REMEDY),
        ("import time; time.sleep(600)", "no answer within 1 s", ""),
    ],
)
def test_one_that_can_not_be_asked(
    spec: Spec, script: Path, tmp_path: Path, text: str, reason: str, remedy: str
) -> None:
    script.write_text(text)
    begun = time.monotonic()
    found = asyncio.run(
        reports.ask(spec, ClusterPaths(tmp_path), [machine("demo-cp-1")], (), seconds=1)
    )
    assert found == (Report("demo-cp-1", reason=reason, remedy=remedy),)
    assert time.monotonic() - begun < 5


def test_why_ssh_gave_up_is_told_by_all_of_its_words(
    spec: Spec, script: Path, tmp_path: Path
) -> None:
    """Its last line is the same for a key that has changed and for one that is not known."""
    ssh = tmp_path / "bin" / "ssh"
    ssh.write_text(
        "#!/bin/sh\n"
        "echo 'Certificate invalid: name is not a listed principal' >&2\n"
        "echo 'Host key verification failed.' >&2\n"
        "exit 255\n"
    )
    (found,) = asyncio.run(reports.ask(spec, ClusterPaths(tmp_path), [machine("demo-cp-1")], ()))
    assert found.reason == "Host key verification failed."
    snapshot = Snapshot("demo", datetime(2026, 1, 1, tzinfo=UTC), reports=(found,))
    told = [one for one in troubles(spec, snapshot, remedy) if "can't be checked over SSH" in one]
    assert len(told) == 1
    assert "verification failed. Its SSH host key is signed, but its certificate" in told[0]


def test_one_that_has_lost_its_script(spec: Spec, script: Path, tmp_path: Path) -> None:
    (found,) = asyncio.run(reports.ask(spec, ClusterPaths(tmp_path), [machine("demo-cp-1")], ()))
    assert f"can't open file '{script}'" in found.reason
    assert found.remedy == REMEDY
    assert found.prepared


def test_one_that_was_never_prepared(spec: Spec, script: Path, tmp_path: Path) -> None:
    (tmp_path / "unit").unlink()
    found = asyncio.run(reports.ask(spec, ClusterPaths(tmp_path), [machine("demo-cp-1")], ()))
    assert found == (Report("demo-cp-1", reason="not prepared yet", prepared=False),)


def test_a_machine_of_ones_own_is_asked_as_its_user(tmp_path: Path) -> None:
    node = Node(name="alpha", address="192.0.2.11", host_keys=())
    spec = Spec(
        plugin="kubewright.cluster.spec",
        name="demo",
        version="1.37",
        control_plane=ControlPlane(provider="static", nodes=(node,)),
        pools=(),
        ssh=Ssh(user="admin", port=2222, private_key_file="~/.ssh/key"),
    )
    words = command(spec, machine("alpha", "192.0.2.11"), ClusterPaths(tmp_path), "a && b")
    assert words[-3:-1] == ["--", "192.0.2.11"]
    assert shlex.split(words[-1]) == ["sudo", "-n", "sh", "-c", "a && b"]
    text = " ".join(words)
    for part in (
        "BatchMode=yes",
        "-l admin -p 2222",
        f"-i {Path.home()}/.ssh/key",
        "HostKeyAlias=alpha",
        "StrictHostKeyChecking=yes",
    ):
        assert part in text
    root = command(
        spec.model_copy(update={"ssh": Ssh()}), machine("alpha"), ClusterPaths(tmp_path), "x"
    )
    assert shlex.split(root[-1]) == ["sh", "-c", "x"]


def test_a_node_is_told_what_only_others_know(spec: Spec, script: Path, tmp_path: Path) -> None:
    """Whom else it might reach: who is Ready, since of the others it is known already."""
    script.write_text(
        f"import sys; open({str(tmp_path / 'told')!r}, 'w').write(sys.stdin.read()); print('{{}}')"
    )
    machines = [machine("demo-cp-1"), machine("demo-web-1", "10.0.0.9")]
    asyncio.run(reports.ask(spec, ClusterPaths(tmp_path), machines, NODES))
    assert json.loads((tmp_path / "told").read_text()) == {
        "traffic": {
            "name": "demo-cp-1",
            "address": "10.0.0.1",
            "nodes": {"demo-cp-1": "10.0.0.1"},
            "servers": {"demo-cp-1": "10.0.0.1"},
            "api_name": "api.demo.internal",
            "service_cidr": "10.96.0.0/16",
        }
    }


def test_who_is_no_node_is_not_asked_about_its_traffic(spec: Spec) -> None:
    """It fails there, and that the Node is gone is why: it is said as such."""
    machines = [machine("demo-cp-1"), machine("demo-web-2", "10.0.0.2")]
    assert reports.request(spec, machines[1], machines, NODES) == {}
    assert reports.request(spec, machines[1], machines, ())["traffic"]["nodes"] == {}


def test_one_connection_a_node(spec: Spec, script: Path, tmp_path: Path) -> None:
    """However many sections a report has: an ssh costs the command 30 ms of CPU."""
    script.write_text(f"open({str(tmp_path / 'calls')!r}, 'a').write('x'); print('{{}}')")
    asyncio.run(reports.ask(spec, ClusterPaths(tmp_path), [machine("demo-cp-1")], NODES))
    assert (tmp_path / "calls").read_text() == "x"
