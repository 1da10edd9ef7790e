# SPDX-License-Identifier: Apache-2.0
"""A node becomes the machine that it was: on a tree that stands for one, with fake commands."""

from __future__ import annotations

import json
import os
import pwd
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from ansible_collections.kubewright.cluster.plugins.module_utils._base import owned
from ansible_collections.kubewright.cluster.plugins.module_utils._base.errors import KubewrightError
from ansible_collections.kubewright.cluster.plugins.module_utils._kube import memberships
from ansible_collections.kubewright.cluster.plugins.module_utils._machine import before
from ansible_collections.kubewright.cluster.plugins.module_utils._machine.before import look
from ansible_collections.kubewright.cluster.plugins.module_utils._reset import (
    steps,
    system,
)
from ansible_collections.kubewright.cluster.plugins.modules import node_reset
from fake_machine import FakeMachine, Killed, write
from loops import run

RunModule = Callable[..., dict[str, Any]]


def tree(root: Path) -> dict[str, str | None]:
    """Every path, with the content of files."""
    return {
        str(path.relative_to(root)): path.read_text() if path.is_file() else None
        for path in sorted(root.rglob("*"))
    }


@pytest.fixture
def host(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> FakeMachine:
    monkeypatch.setattr(before, "look", look)
    return FakeMachine(tmp_path / "host")


def run_reset(host: FakeMachine, predict: bool = False) -> steps.Report:
    job = steps.Reset(host.machine)
    report = job.converge(predict)
    if not predict:
        job.forget()
    return report


def expected(before: dict[str, str | None]) -> dict[str, str | None]:
    """The tree of before; of kernel settings that are not ours, and of what others made since."""
    return {
        **before,
        "proc/sys/vm/swappiness": "10\n",
        "run/netns": None,
        "run/netns/theirs": "",
        "sys/class/net/veth2": None,
    }


def test_it_is_as_before_and_what_others_have_stays(host: FakeMachine) -> None:
    before = tree(host.root)
    host.become_a_node()
    report = run_reset(host)
    assert tree(host.root) == expected(before)
    assert host.active == set()
    assert report.warnings == []
    stopped = [call for call in host.calls if call.startswith("systemctl disable")]
    assert [call.split()[3] for call in stopped] == [
        "kubewright-trial.path",
        "kubelet.service",
        "containerd.service",
        "kubewright-image-verify.timer",
        "opt-kubewright.mount",
        "kubewright-seal.service",
    ]
    assert "umount /var/lib/etcd" not in host.calls, "a disk of the owner's"
    assert "sysctl net/ipv4/ip_forward" in report.removed
    assert "target network-online.target" in report.removed
    assert "interface veth1" in report.removed


def test_the_images_tools_outlive_the_image_and_go_last(host: FakeMachine) -> None:
    host.become_a_node()
    job = steps.Reset(host.machine)
    job.converge(predict=False)
    assert (host.root / "var/lib/kubewright/tools/run/nft").read_text() == "a tool"
    assert not (host.root / "opt/kubewright").exists()
    job.forget()
    assert not (host.root / "var/lib/kubewright").exists()


def test_again_there_is_nothing_to_do(host: FakeMachine) -> None:
    host.become_a_node()
    run_reset(host)
    assert not steps.is_node(host.root / "var/lib/kubewright")
    before.begin(host.root / "var/lib/kubewright", host.machine)
    write(host.root / "var/lib/kubewright/epoch", "4")
    host.calls.clear()
    assert run_reset(host).removed == []
    assert host.calls == []


def test_check_mode_says_what_would_go_and_changes_nothing(host: FakeMachine) -> None:
    host.become_a_node()
    before = tree(host.root)
    said = run_reset(host, predict=True).removed
    assert tree(host.root) == before
    assert host.calls == []
    done = run_reset(host).removed
    # A mount that systemd made goes with its unit, and what was seen there with it.
    mounted = (*owned.MOUNTED, owned.IMAGE, *owned.VOLUME_MOUNTED)
    assert set(said) - set(done) == {
        *(f"mount {point}" for point in mounted),
        *(f"directory {point}/a" for point in owned.MOUNTED),
    }
    emptied = [words for words in done if words not in said]
    assert all(words.startswith(("directory ", "systemd's state")) for words in emptied)


def test_the_block_in_hosts_goes_and_the_rest_stays_as_it_is_now(host: FakeMachine) -> None:
    host.become_a_node()
    path = host.root / "etc/hosts"
    path.write_text(f"192.0.2.7 new\n{path.read_text()}192.0.2.8 last\n")
    run_reset(host)
    assert path.read_text() == "192.0.2.7 new\n127.0.0.1 localhost\n192.0.2.8 last\n"


PROFILES = "sys/kernel/security/apparmor/profiles"


@pytest.mark.parametrize("user", ["", "cri-containerd.apparmor.d (enforce)\n", "unconfined\n"])
def test_the_runtimes_apparmor_profile_goes_with_its_last_user(
    host: FakeMachine, user: str
) -> None:
    theirs = "/usr/bin/man (enforce)\n"
    loaded = f"cri-containerd.apparmor.d (enforce)\n{theirs}"
    host.become_a_node()
    write(host.root / PROFILES, loaded)
    if user:
        write(host.root / "proc/77/attr/current", user)
    removed = run_reset(host).removed
    used = user.startswith("cri")
    assert (host.root / PROFILES).read_text() == (loaded if used else theirs)
    assert ("AppArmor profile cri-containerd.apparmor.d" in removed) is not used


@pytest.mark.parametrize("unit", ["stale", "fresh"])
def test_systemd_forgets_what_a_killed_reset_left_it(host: FakeMachine, unit: str) -> None:
    host.become_a_node()
    host.stale = unit == "stale"
    run_reset(host)
    assert ("systemctl daemon-reload" in host.calls) is (unit == "stale")


def test_killed_at_any_command_the_next_one_finishes(tmp_path: Path, host: FakeMachine) -> None:
    before = tree(host.root)
    host.become_a_node()
    whole = FakeMachine.__new__(FakeMachine)
    point = 0
    while True:
        copy = tmp_path / f"copy-{point}"
        shutil.copytree(host.root, copy, symlinks=True)
        whole.__dict__.update(host.__dict__, root=copy, calls=[], active=set(host.active))
        whole.dies_before = point
        try:
            run_reset(whole)
        except Killed:
            whole.dies_before = None
            assert steps.is_node(copy / "var/lib/kubewright"), "so that the next one goes on"
            run_reset(whole)
            assert tree(copy) == expected(before), f"killed before command {point}"
            point += 1
            shutil.rmtree(copy)
        else:
            break
    assert point > 8


def test_killed_at_any_change_of_files_the_next_one_finishes(
    host: FakeMachine, tmp_path: Path, every_kill: Callable[[Callable[[], object]], Iterator[int]]
) -> None:
    before = tree(host.root)
    host.become_a_node(["/etc/kubernetes", "/var/lib/etcd"])
    # Commands act on this process's copy of the fake; a child's are lost with it, but for files.
    whole = shutil.copytree(host.root, tmp_path / "kept", symlinks=True)
    active = set(host.active)
    for _point in every_kill(lambda: run_reset(host)):
        state = host.root / "var/lib/kubewright"
        if steps.is_node(state):
            host.active = set(active)
            run_reset(host)
        else:
            # Nothing of ours is left but locks, which the module removes, or the empty directory.
            steps.remove_locks(host.machine)
            shutil.rmtree(state, ignore_errors=True)
        host.active = set(active)
        assert tree(host.root) == expected(before)
        shutil.rmtree(host.root)
        shutil.copytree(whole, host.root, symlinks=True)


@pytest.fixture
def record(host: FakeMachine, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The record of a node's membership, which the module reads and writes."""
    path = host.root / "var/lib/kubewright/kubeadm.json"
    read, write_it = memberships.read_membership, memberships.write_membership
    monkeypatch.setattr(memberships, "read_membership", lambda: read(path, host.root / "none"))
    monkeypatch.setattr(memberships, "write_membership", lambda *what: write_it(*what, path))
    return path


def test_one_that_was_cut_is_half_a_node(host: FakeMachine, record: Path) -> None:
    host.become_a_node()
    memberships.write_membership("finished", "init", "control_plane", "id")
    before = record.read_bytes()
    node_reset.reset(host.machine, "id", True, [])
    assert record.read_bytes() == before, "in check mode nothing is written"
    host.dies_before = 0
    with pytest.raises(Killed):
        node_reset.reset(host.machine, "id", False, [])
    half = memberships.Membership("partial", "init", "control_plane", "id")
    assert memberships.read_membership() == half, "so that an apply takes it out and joins it anew"
    host.dies_before = None
    assert node_reset.reset(host.machine, "id", False, [])
    assert not record.exists()


def test_one_that_leaves_is_half_a_node_and_all_there(host: FakeMachine, record: Path) -> None:
    host.become_a_node()
    memberships.write_membership("finished", "join", "worker", "id")
    before = tree(host.root)
    assert node_reset.leave("id", True, [])
    assert tree(host.root) == before, "in check mode nothing is written"
    with pytest.raises(KubewrightError, match="belongs to the cluster with id id"):
        node_reset.leave("other", False, [])
    assert node_reset.leave("id", False, [])
    half = memberships.Membership("partial", "join", "worker", "id")
    assert memberships.read_membership() == half
    changed = {name for name, text in tree(host.root).items() if before[name] != text}
    assert changed == {"var/lib/kubewright/kubeadm.json"}
    assert not node_reset.leave("id", False, []), "it is known already"
    assert node_reset.reset(host.machine, "id", False, [])


def test_a_damaged_record_is_told_and_no_obstacle(host: FakeMachine, record: Path) -> None:
    host.become_a_node()
    record.write_text("{")
    warnings: list[str] = []
    node_reset.reset(host.machine, "id", False, warnings)
    assert "is damaged" in warnings[0] and "reset all the same" in warnings[0]
    assert not record.exists()


def test_without_a_record_settings_and_directories_stay(host: FakeMachine) -> None:
    host.become_a_node()
    (host.root / "var/lib/kubewright/before.json").unlink()
    # Nobody knows that these were there before.
    shutil.rmtree(host.root / "var/lib/etcd")
    host._unmount("/var/lib/etcd")
    report = run_reset(host)
    assert "kernel settings stay as they are" in report.warnings[0]
    assert (host.root / "proc/sys/net/ipv4/ip_forward").read_text() == "1\n"
    assert (host.root / "etc/cni/net.d/87-podman.conflist").exists()
    assert not (host.root / "etc/kubernetes").exists()


@pytest.mark.parametrize("had", [False, True])
def test_what_ansible_left_in_the_home_of_who_logged_in_goes(
    host: FakeMachine, monkeypatch: pytest.MonkeyPatch, had: bool
) -> None:
    user = pwd.getpwnam("nobody")
    monkeypatch.setenv("SUDO_USER", user.pw_name)
    made = host.root / user.pw_dir.lstrip("/") / ".ansible/tmp"
    made.parents[1 - had].mkdir(parents=True)
    host.become_a_node()
    made.mkdir(parents=True, exist_ok=True)
    run_reset(host)
    assert not made.exists()
    assert made.parent.exists() == had
    assert made.parents[1].is_dir()


def test_what_ansible_takes_away_itself_is_no_fault(
    host: FakeMachine, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its files lie there while it works: the directory may go between two looks at it."""
    host.become_a_node()
    gone: list[Path] = []

    def remove_first(path: Path) -> Iterator[Path]:
        if path.name == "tmp" and path.parent.name == ".ansible" and path not in gone:
            gone.append(path)
            path.rmdir()
        return iterdir(path)

    iterdir = Path.iterdir
    (host.root / "root/.ansible/tmp").mkdir(parents=True)
    monkeypatch.setattr(Path, "iterdir", remove_first)
    run_reset(host)
    assert gone
    assert not (host.root / "root/.ansible").exists()


def test_units_of_a_distribution_are_not_stopped(host: FakeMachine) -> None:
    host.become_a_node()
    write(host.root / "etc/systemd/system/containerd.service", "[Unit]\nDescription=theirs\n")
    job = steps.Reset(host.machine)
    assert "containerd.service" not in job.system.units(owned.UNITS)


def test_what_does_not_go_is_an_error_that_names_it(
    host: FakeMachine, monkeypatch: pytest.MonkeyPatch
) -> None:
    host.become_a_node()
    monkeypatch.setattr(host, "_unmount", lambda _point: None)
    with pytest.raises(KubewrightError, match="Still there after removal: mount /"):
        run_reset(host)
    assert steps.is_node(host.root / "var/lib/kubewright")


def test_a_directory_with_a_mount_in_it_is_not_emptied(host: FakeMachine) -> None:
    host.become_a_node()
    host.mount("/etc/kubernetes/a")
    with pytest.raises(KubewrightError, match="/etc/kubernetes/a: mounted there"):
        run_reset(host)
    assert (host.root / "etc/kubernetes/a/b").exists()


def test_a_machine_that_is_no_node_is_left_alone(
    run_module: RunModule, node: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object) -> None:
        pytest.fail("it looked at the machine")

    monkeypatch.setattr(steps, "Reset", refuse)
    monkeypatch.setattr(steps, "remove_locks", lambda _machine: shutil.rmtree(node / "run"))
    for check in (True, False):
        assert run_module("node_reset", check=check, epoch=4)["changed"] is False
    assert not (node / "var").exists()
    assert not (node / "run").exists()


def test_the_module_refuses_another_cluster_and_an_older_run(
    run_module: RunModule, node: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    record = write(
        node / "var/kubeadm.json",
        json.dumps(
            {
                "phase": "finished",
                "operation": "join",
                "role": "worker",
                "cluster_id": "theirs",
            }
        ),
    )
    write(node / "var/epoch", "7\n")
    monkeypatch.setattr(steps, "Reset", lambda *_: pytest.fail("it began"))
    real = memberships.read_membership
    monkeypatch.setattr(memberships, "read_membership", lambda: real(record, node / "none"))
    assert "cluster with id theirs" in run_module("node_reset", epoch=8, cluster_id="ours")["msg"]
    assert "epoch 8" in run_module("node_reset", epoch=5)["msg"]


@pytest.mark.skipif(os.getuid() != 0, reason="file systems are made as root")
@pytest.mark.parametrize("label", ["kubewright", "kubewright~", "theirs"])
def test_a_device_is_blank_again(host: FakeMachine, label: str) -> None:
    """Also where it was made half; another's is left as it is."""
    host.become_a_node()
    device = write(host.root / "dev/vdb")
    os.truncate(device, 32_000_000)
    run("mkfs.ext4", "-q", "-F", "-L", label, device)
    unit = host.root / "etc/systemd/system/var-lib-kubewright-system.mount"
    unit.write_text("# Managed by Kubewright\n[Mount]\nWhat=/dev/vdb\n")
    found = system.System(host.machine, before.Before())
    assert found.volume_devices() == ([] if label == "theirs" else ["/dev/vdb"])
    found.wipe_volume()
    wiped = [call for call in host.calls if call.startswith("wipefs")]
    assert wiped == ([] if label == "theirs" else [f"wipefs --all {device}"])
    run("wipefs", "--quiet", "--all", device)
    assert found.volume_devices() == []
