# SPDX-License-Identifier: Apache-2.0
"""The units that keep a node from running without its system volume, as the roles render them."""

from __future__ import annotations

import json
import shlex
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from ansible_collections.kubewright.cluster.plugins.module_utils._base import owned
from ansible_collections.kubewright.cluster.plugins.module_utils._onnode import (
    guard,
    trial,
    trial_node,
    verify,
)
from ansible_collections.kubewright.cluster.plugins.module_utils._volume import plan

from kubewright.observe import reports

Rendered = Callable[[str], dict[str, str]]
DEVICE = "/dev/disk/by-id/virtio-system"
READY, CHECK = "kubewright-volume-ready.service", "kubewright-volume-check.service"


#: Apart from pytest's process, whose imports Ansible would take over.
RENDER = """
import json, sys
from ansible.parsing.dataloader import DataLoader
from ansible.plugins.loader import init_plugin_loader

root, roles, hosts = json.load(sys.stdin)
init_plugin_loader([root])
from ansible_collections.kubewright.cluster.plugins.plugin_utils import _desired

loader = DataLoader()
found = {name: _desired.documents(roles, told, loader) for name, told in hosts.items()}
json.dump(found, sys.stdout)
"""
UNIT_ROLES = ("system_volume", "container_runtime", "load_balancer")
ROLES = ("preflight", *UNIT_ROLES)
NEEDED: dict[str, Any] = {
    "kubewright_cluster_name": "blue",
    "preflight_role": "worker",
    "preflight_ca_certificate": "",
    "load_balancer_ca_certificate": "",
    "load_balancer_servers": [],
}
HOSTS = {
    "file": {**NEEDED, "ansible_python_interpreter": "/opt/python/bin/python3.12"},
    "device": {**NEEDED, "system_volume_type": "block", "system_volume_device": DEVICE},
    "auto": {**NEEDED, "ansible_python_interpreter": "auto_silent"},
}


@pytest.fixture(scope="module")
def documents(collections_path: Path) -> dict[str, Any]:
    """What the roles desire of each host."""
    done = subprocess.run(
        [sys.executable, "-c", RENDER],
        input=json.dumps([str(collections_path), ROLES, HOSTS]),
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    found: dict[str, Any] = json.loads(done.stdout)
    return found


@pytest.fixture
def rendered(documents: dict[str, Any]) -> Callable[[str], dict[str, str]]:
    """Contents of a host's files by name."""

    def render(host: str) -> dict[str, str]:
        return {
            Path(one["path"]).name: one.get("content", "")
            for role in UNIT_ROLES
            for one in [
                *documents[host][role]["files"],
                *documents[host][role].get("kubelet", {}).get("files", []),
            ]
        }

    return render


def lines(unit: str, name: str) -> list[str]:
    """The values of a setting."""
    return [
        word
        for line in unit.splitlines()
        if line.startswith(f"{name}=")
        for word in line.removeprefix(f"{name}=").split()
    ]


def test_nothing_runs_without_the_volume(rendered: Rendered) -> None:
    files = rendered("file")
    for name in ("containerd.service", "kubelet.service"):
        assert READY in lines(files[name], "Requires")
        assert READY in lines(files[name], "After")
        assert "/opt/kubewright" in lines(files[name], "RequiresMountsFor")
    for name in (READY, "opt-kubewright.mount", "kubewright-image-verify.service"):
        assert str(guard.MOUNT_POINT) in lines(files[name], "RequiresMountsFor")
    mount = files[owned.VOLUME_MOUNT]
    assert lines(mount, "Requires") == lines(mount, "After") == [CHECK]
    assert lines(mount, "ReadWriteOnly") == ["yes"], "or it would be mounted read-only instead"
    assert lines(mount, "Options") == ["loop,noatime,errors=remount-ro"]
    assert lines(mount, "What") == ["/var/lib/kubewright/volume.ext4"]
    # A limit of starts would keep a kubelet down that is restarted often.
    for name in (READY, CHECK, "kubelet.service"):
        assert lines(files[name], "StartLimitIntervalSec") == ["0"]


def test_the_guard_is_run_by_the_python_that_ansible_uses(
    rendered: Rendered, documents: dict[str, Any], tmp_path: Path
) -> None:
    files = rendered("file")
    assert files["guard.py"] == Path(guard.__file__).read_text()
    assert files["verify.py"] == Path(verify.__file__).read_text()
    script = "/opt/python/bin/python3.12 /var/lib/kubewright/guard.py"
    for name, words in (
        (CHECK, "check /var/lib/kubewright/volume.ext4"),
        (READY, "volume"),
    ):
        assert f"ExecStart={script} {words}\n" in files[name]
    started = f"ExecStart={script.replace('guard', 'verify')}\n"
    assert started in files["kubewright-image-verify.service"]
    # The command asks for the node's report by what this unit says.
    found = [Path(one["path"]) for one in documents["file"]["system_volume"]["files"]]
    assert Path(reports.UNIT) in found
    ask = reports.ASK.replace(reports.UNIT, "unit").replace("exec", "echo")
    (tmp_path / "unit").write_text(files[READY])
    told = subprocess.check_output(["sh", "-c", ask], cwd=tmp_path, text=True)
    assert told == f"{script.replace('guard', 'report')}\n"
    elsewhere = rendered("auto")
    assert f"ExecStart=/usr/bin/python3 {script.split()[1]} volume\n" in elsewhere[READY]


def test_a_device_is_waited_for(rendered: Rendered) -> None:
    files = rendered("device")
    device = r"dev-disk-by\x2did-virtio\x2dsystem.device"
    assert lines(files[CHECK], "Requires") == [device]
    assert device in lines(files[CHECK], "After")
    assert f"guard.py check {DEVICE}\n" in files[CHECK]
    mount = files[owned.VOLUME_MOUNT]
    assert lines(mount, "What") == [DEVICE]
    assert lines(mount, "Options") == ["noatime,errors=remount-ro"]


def test_preflight_looks_at_the_same_volume(documents: dict[str, Any]) -> None:
    for host in ("file", "device"):
        checked, made = documents[host]["preflight"], documents[host]["system_volume"]
        assert plan.parse(checked["volume"]) == plan.parse(made["volume"])
        assert made["volume"]["label"] == guard.LABEL == owned.VOLUME_LABEL
        assert made["volume"]["mount_point"] == str(guard.MOUNT_POINT) == str(verify.MOUNT_POINT)


def test_the_reset_knows_the_units(rendered: Rendered) -> None:
    units = {
        name
        for name in rendered("file")
        if name.endswith((".service", ".mount", ".timer", ".path"))
    }
    assert units == set(owned.UNITS)


def test_a_node_is_back_from_a_bad_image_within_three_minutes(rendered: Rendered) -> None:
    """Also where nothing that runs minds a SIGTERM: systemd kills it in time."""
    files = rendered("file")
    stops = {name: float(lines(files[name], "TimeoutStopSec")[0]) for name in trial_node.UNITS}
    runtime, kubelet, balancer = trial_node.UNITS
    assert runtime in lines(files[kubelet], "After"), "so it stops after it"
    assert max(stops[runtime] + stops[kubelet], stops[balancer]) < trial_node.RESTART
    assert trial.LIMIT + trial.SWITCH + trial_node.RESTART <= 180
    assert lines(files[runtime], "KillMode") == ["process"], "shims and their pods go on"


@pytest.mark.skipif(not shutil.which("systemd-analyze"), reason="needs systemd")
@pytest.mark.parametrize("host", ["file", "device"])
def test_systemd_understands_them(rendered: Rendered, tmp_path: Path, host: str) -> None:
    units = tmp_path / "etc/systemd/system"
    units.mkdir(parents=True)
    for program in (
        "opt/python/bin/python3.12",
        "usr/bin/python3",
        "opt/kubewright/bin/containerd",
        "opt/kubewright/bin/kubelet",
        "usr/sbin/haproxy",
        "bin/mkdir",
        "bin/mount",
        "bin/umount",
    ):
        (tmp_path / program).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / program).write_text("#!/bin/sh\n")
        (tmp_path / program).chmod(0o755)
    (tmp_path / "usr/lib/systemd").mkdir(parents=True)
    shutil.copytree("/usr/lib/systemd/system", tmp_path / "usr/lib/systemd/system", symlinks=True)
    for name, content in rendered(host).items():
        if name.endswith((".service", ".mount", ".timer", ".path")):
            (units / name).write_text(content)
    names = sorted(unit.name for unit in units.iterdir())
    verified = subprocess.run(
        ["systemd-analyze", "verify", "--man=no", f"--root={tmp_path}", *names],
        capture_output=True,
        text=True,
    )
    told = [line for line in verified.stderr.splitlines() if "kubewright" in line]
    assert told == []


def test_sealing_touches_only_what_is_mounted_and_hides_no_failure(
    rendered: Rendered, tmp_path: Path
) -> None:
    unit = rendered("file")["kubewright-seal.service"]
    assert "ExecStart=-" not in unit
    (line,) = [line for line in unit.splitlines() if "mountpoint" in line]
    words = shlex.split(line.removeprefix("ExecStart=").replace("$$", "$"))
    tools = tmp_path / "bin"
    tools.mkdir()

    def sealed(mounted: str, mount: str = "exit 0") -> subprocess.CompletedProcess[str]:
        for name, does in (
            ("mountpoint", f'test "$2" = "{mounted}"'),
            ("mount", f'echo "$@" >>{tmp_path}/mounts; {mount}'),
        ):
            (tools / name).write_text(f"#!/bin/sh\n{does}\n")
            (tools / name).chmod(0o755)
        return subprocess.run(words, env={"PATH": str(tools)}, capture_output=True, text=True)

    assert sealed("neither").returncode == 0
    assert not (tmp_path / "mounts").exists()
    assert sealed("/etc/kubewright").returncode == 0
    assert (tmp_path / "mounts").read_text() == "-o remount,bind,ro /etc/kubewright\n"
    assert sealed("/etc/kubernetes", "exit 32").returncode == 32
