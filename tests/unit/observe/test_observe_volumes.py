# SPDX-License-Identifier: Apache-2.0
"""Nodes asked about their system volumes, by an ssh that runs the command here."""

from __future__ import annotations

import json
import shlex
import sys
import time
from pathlib import Path

import pytest

from kubewright.locations import ClusterPaths
from kubewright.observe import Volume, volumes
from kubewright.spec.connection import command
from kubewright.spec.machines import Machine
from kubewright.spec.models import ControlPlane, Node, Spec, Ssh

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
def guard(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where the node's script is looked for; ssh comes to this machine."""
    ssh, script = tmp_path / "bin" / "ssh", tmp_path / "guard.py"
    ssh.parent.mkdir()
    ssh.write_text(SSH.format(python=sys.executable))
    ssh.chmod(0o755)
    monkeypatch.setenv("PATH", str(ssh.parent), prepend=":")
    unit = tmp_path / "unit"
    unit.write_text(
        f"[Unit]\nDescription=x\n[Service]\nExecStart={sys.executable} {script} volume\n"
    )
    monkeypatch.setattr(volumes, "MARKED", volumes.MARKED.replace(volumes.UNIT, str(unit)))
    return script


def answers(text: str) -> str:
    return f"import sys; assert sys.argv[1:] == ['report']; print({text!r})"


def test_what_the_nodes_say(spec: Spec, guard: Path, tmp_path: Path) -> None:
    guard.write_text(answers(json.dumps(["/x is full.", "\x1b[2Jodd"])))
    machines = [
        machine("demo-cp-1"),
        machine("demo-web-1", "10.0.0.9"),
        machine("demo-web-2", power="off"),
    ]
    found = volumes.ask(spec, ClusterPaths(tmp_path), machines)
    assert found == (
        Volume("demo-cp-1", ("/x is full.", " [2Jodd")),
        Volume("demo-web-1", reason="ssh: connect to host 10.0.0.9 port 22:  [1mNo route to host"),
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
    spec: Spec, guard: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, profile: str
) -> None:
    monkeypatch.setenv("PROFILE", profile)
    guard.write_text(answers(json.dumps(["/x is full."])))
    found = volumes.ask(spec, ClusterPaths(tmp_path), [machine("demo-cp-1")])
    assert found == (Volume("demo-cp-1", ("/x is full.",)),)
    (tmp_path / "unit").unlink()
    found = volumes.ask(spec, ClusterPaths(tmp_path), [machine("demo-cp-1")])
    assert found == (Volume("demo-cp-1", reason="it has none yet", prepared=False),)


@pytest.mark.parametrize(
    ("script", "reason", "remedy"),
    [
        (answers("nothing"), "what it answers is no list of sentences", volumes.REMEDY),
        (answers("[1]"), "what it answers is no list of sentences", volumes.REMEDY),
        ("raise SystemExit(2)", "status 2", volumes.REMEDY),
        ("import time; time.sleep(600)", "no answer within 1 s", ""),
    ],
)
def test_one_that_can_not_be_asked(
    spec: Spec, guard: Path, tmp_path: Path, script: str, reason: str, remedy: str
) -> None:
    guard.write_text(script)
    begun = time.monotonic()
    found = volumes.ask(spec, ClusterPaths(tmp_path), [machine("demo-cp-1")], seconds=1)
    assert found == (Volume("demo-cp-1", reason=reason, remedy=remedy),)
    assert time.monotonic() - begun < 5


def test_one_that_has_lost_its_script(spec: Spec, guard: Path, tmp_path: Path) -> None:
    (found,) = volumes.ask(spec, ClusterPaths(tmp_path), [machine("demo-cp-1")])
    assert f"can't open file '{guard}'" in found.reason
    assert found.remedy == volumes.REMEDY
    assert found.prepared


def test_one_that_was_never_prepared(spec: Spec, guard: Path, tmp_path: Path) -> None:
    (tmp_path / "unit").unlink()
    found = volumes.ask(spec, ClusterPaths(tmp_path), [machine("demo-cp-1")])
    assert found == (Volume("demo-cp-1", reason="it has none yet", prepared=False),)


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
