# SPDX-License-Identifier: Apache-2.0
"""Which processes and cgroups go with a node, and that they do."""

from __future__ import annotations

import subprocess
from pathlib import Path

from ansible_collections.kubewright.cluster.plugins.module_utils._reset import processes
from fake_machine import write


def test_processes_of_pods_and_of_our_services(tmp_path: Path) -> None:
    for pid, group in (
        (10, "0::/kubepods/besteffort/pod1/abc"),
        (11, "12:cpu:/kubepods.slice/kubepods-pod1.slice/cri-containerd-a.scope\n0::/"),
        (12, "0::/system.slice/containerd.service"),
        (13, "0::/system.slice/ssh.service"),
        (14, "0::/user.slice/kubepods-like"),
        (15, "0::/machine.slice/libpod-a/kubepods/burstable/pod1"),
        (16, "0::/machine.slice/libpod-a/system.slice/containerd.service"),
    ):
        write(tmp_path / f"{pid}/cgroup", f"{group}\n")
        write(tmp_path / f"{pid}/comm", f"p{pid}\n")
    assert sorted(processes.ours(tmp_path)) == [10, 11]
    assert sorted(processes.ours(tmp_path, ["containerd.service"])) == [10, 11, 12]


def test_groups_of_one_hierarchy_and_of_several(tmp_path: Path) -> None:
    for name in ("kubepods", "cpu/kubepods", "cpu/kubepods/kubepods", "machine.slice/a/kubepods"):
        (tmp_path / name).mkdir(parents=True, exist_ok=True)
    found = [str(path.relative_to(tmp_path)) for path in processes.groups(tmp_path)]
    assert found == ["kubepods", "cpu/kubepods"]
    write(tmp_path / "cgroup.controllers")
    (one,) = processes.groups(tmp_path)
    processes.remove_group(one)
    assert not one.exists()


def test_processes_are_killed_and_waited_for() -> None:
    children = [subprocess.Popen(["sleep", "600"]) for _ in range(2)]
    pids = [child.pid for child in children]
    assert processes.kill(pids, 10) == []
    assert [child.wait() for child in children] == [-9, -9]
    assert processes.kill(pids, 10) == [], "those that have ended are no error"
