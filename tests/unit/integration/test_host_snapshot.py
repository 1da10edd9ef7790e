# SPDX-License-Identifier: Apache-2.0
"""A snapshot of a host shows what came, went or changed, and nothing that moves by itself."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import host_snapshot
import pytest


def write(path: Path, text: str = "") -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    return path


@pytest.fixture
def root(tmp_path: Path) -> Path:
    write(tmp_path / "etc/hosts", "127.0.0.1 localhost\n")
    write(tmp_path / "proc/self/mountinfo", "36 1 8:1 / / rw shared:1 - ext4 /dev/sda1 rw\n")
    write(tmp_path / "proc/sys/net/ipv4/ip_forward", "0\n")
    write(tmp_path / "proc/sys/kernel/random/uuid", "a\n")
    write(tmp_path / "proc/swaps", "Filename Type\n")
    write(tmp_path / "var/log/journal/x", "a\n")
    (tmp_path / "sys/class/net/eth0").mkdir(parents=True)
    (tmp_path / "sys/fs/cgroup/system.slice").mkdir(parents=True)
    (tmp_path / "etc/link").symlink_to("hosts")
    return tmp_path


CHANGES: list[tuple[Callable[[Path], object], str]] = [
    (lambda root: write(root / "etc/new"), "files: new: /etc/new"),
    (lambda root: (root / "etc/hosts").unlink(), "files: gone: /etc/hosts"),
    (lambda root: write(root / "etc/hosts", "x"), "files: /etc/hosts was "),
    (lambda root: (root / "etc/hosts").chmod(0o600), "files: /etc/hosts was "),
    (lambda root: (root / "opt/kubewright").mkdir(parents=True), "files: new: /opt"),
    (
        lambda root: write(
            root / "proc/self/mountinfo",
            "36 1 8:1 / / rw shared:1 - ext4 /dev/sda1 rw\n37 1 0:9 / /a rw - tmpfs t rw\n",
        ),
        "mounts: new: /a (tmpfs)",
    ),
    (lambda root: (root / "sys/class/net/cni0").mkdir(), "interfaces: new: cni0"),
    (
        lambda root: write(root / "sys/block/loop3/loop/backing_file", "/var/v.ext4 (deleted)\n"),
        "loop devices: new: /var/v.ext4 (deleted)",
    ),
    (
        lambda root: (root / "sys/fs/cgroup/cpu/kubepods").mkdir(parents=True),
        "control groups: new: cpu/kubepods",
    ),
    (
        lambda root: write(root / "proc/sys/net/ipv4/ip_forward", "1\n"),
        "sysctls: net/ipv4/ip_forward was 0, is 1",
    ),
    (lambda root: write(root / "proc/swaps", "Filename\n/dev/sdb f\n"), "swap: new: /dev/sdb"),
]


@pytest.mark.parametrize(("change", "line"), CHANGES)
def test_every_change_is_a_line(root: Path, change: Callable[[Path], object], line: str) -> None:
    before = host_snapshot.snapshot(root)
    change(root)
    lines = host_snapshot.diff(before, host_snapshot.snapshot(root))
    assert any(one.startswith(line) for one in lines), lines


def test_what_moves_by_itself_is_no_change(root: Path) -> None:
    before = host_snapshot.snapshot(root)
    write(root / "var/log/journal/x", "b\n")
    write(root / "proc/sys/kernel/random/uuid", "b\n")
    write(root / "proc/sys/net/netfilter/nf_conntrack_max", "1\n")  # with its module
    assert host_snapshot.diff(before, host_snapshot.snapshot(root)) == []


def test_handles_and_counters_of_nftables_are_no_change() -> None:
    def listing(handle: int, port: int) -> str:
        rule = {"family": "ip", "handle": handle, "expr": [{"counter": {"bytes": handle}}, port]}
        return json.dumps({"nftables": [{"metainfo": {"version": handle}}, {"rule": rule}]})

    same = [host_snapshot.nftables(listing(handle, 22)) for handle in (4, 5)]
    assert same[0] == same[1]
    other = host_snapshot.nftables(listing(4, 23))
    assert len(host_snapshot.diff({"nftables": same[0]}, {"nftables": other})) == 2


def test_units() -> None:
    listed = "kubelet.service loaded active running a\nsession-3.scope loaded active running b\n"
    found = host_snapshot.units(listed, "kubelet.service enabled enabled\n")
    assert found == {"kubelet.service": "loaded active", "kubelet.service (file)": "enabled"}


def test_what_ages_in_routes_and_addresses() -> None:
    assert host_snapshot.routes("default via fe80::1 expires 1799sec\n") == [
        host_snapshot.routes("default via fe80::1 expires 9sec\n")[0]
    ]
    link = {"ifname": "eth0", "addr_info": [{"local": "192.0.2.1", "prefixlen": 24, "valid": 3}]}
    assert host_snapshot.addresses(json.dumps([link])) == ["eth0 192.0.2.1/24"]


def test_the_script_compares_two_files(tmp_path: Path) -> None:
    first, second = tmp_path / "a", tmp_path / "b"
    first.write_text('{"users": ["root"]}')
    second.write_text('{"users": ["root", "eve"]}')
    for other, code, said in ((first, 0, "Nothing has changed."), (second, 1, "users: new: eve")):
        done = subprocess.run(
            [sys.executable, host_snapshot.__file__, "diff", str(first), str(other)],
            capture_output=True,
            text=True,
        )
        assert (done.returncode, done.stdout.strip()) == (code, said)


def test_a_loop_device_of_another_container_is_none_of_this_hosts(root: Path) -> None:
    before = host_snapshot.snapshot(root)
    write(root / "sys/block/loop4/loop/backing_file", "/var/v.ext4\n")
    assert host_snapshot.diff(before, host_snapshot.snapshot(root)) == []
