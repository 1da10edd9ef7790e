# SPDX-License-Identifier: Apache-2.0
"""The facts that a machine is judged by, from trees of files that stand for machines."""

from __future__ import annotations

import os
import socket
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from ansible_collections.kubewright.cluster.plugins.module_utils._base import commands
from ansible_collections.kubewright.cluster.plugins.module_utils._check import survey
from ansible_collections.kubewright.cluster.plugins.module_utils._machine import (
    facts,
    kernel,
    leftovers,
    links,
    processes,
)
from ansible_collections.kubewright.cluster.plugins.module_utils._onnode import netlink

RELEASE = "6.1.0"


def write(root: Path, path: str, text: str = "") -> Path:
    file = root / path
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(text)
    return file


def run_process(
    root: Path, pid: int, exe: str, unit: str = "", sockets: tuple[int, ...] = ()
) -> None:
    """A process as the kernel shows it."""
    place = root / "proc" / str(pid)
    write(place, "comm", f"{Path(exe).name[:15]}\n")
    write(place, "cgroup", f"0::/system.slice/{unit}\n" if unit else "0::/\n")
    (place / "exe").symlink_to(exe)
    (place / "fd").mkdir()
    for number, inode in enumerate(sockets):
        (place / "fd" / str(number)).symlink_to(f"socket:[{inode}]")


def listen(root: Path, table: str, *sockets: tuple[int, int, str]) -> None:
    """Ports, inodes and states of sockets, as in /proc/net/tcp."""
    lines = [
        f"   0: 00000000:{port:04X} 00000000:0000 {state} 00000000:00000000 00:00000000 00000000"
        f"     0        0 {inode} 1 0000000000000000 100 0 0 10 0"
        for port, inode, state in sockets
    ]
    write(root, f"proc/net/{table}", "\n".join(["  sl  local_address ...", *lines, ""]))


def test_who_listens_on_a_port(tmp_path: Path) -> None:
    listen(tmp_path, "tcp", (6443, 11, "0A"), (2379, 12, "01"), (22, 13, "0A"))
    listen(tmp_path, "tcp6", (10250, 14, "0A"))
    run_process(tmp_path, 812, "/usr/sbin/nginx", "nginx.service", (11,))
    found = processes.listeners([6443, 2379, 10250], tmp_path)
    assert {port: str(process) for port, process in found.items()} == {
        6443: "nginx (process 812, nginx.service)",
        10250: "None",
    }


def test_what_this_machine_listens_on() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        process = processes.listeners([port], Path("/"))[port]
    assert process is not None and process.pid == os.getpid()


@pytest.mark.parametrize(
    ("exe", "unit", "text", "ours"),
    [
        ("/opt/kubewright/bin/containerd", "", "", True),
        # The balancer runs in its own root directory; a detached image has lost its place.
        ("/usr/sbin/haproxy", "kubewright-balancer.service", "# Managed by Kubewright\n", True),
        ("/usr/bin/containerd", "containerd.service", "", False),
        ("/usr/bin/containerd", "containerd.service", "[Unit]\n", False),
    ],
)
def test_whose_a_process_is(tmp_path: Path, exe: str, unit: str, text: str, ours: bool) -> None:
    if text:
        write(tmp_path, f"etc/systemd/system/{unit}", text)
    run_process(tmp_path, 7, exe, unit)
    (process,) = processes.processes(tmp_path)
    assert processes.is_ours(process, tmp_path) is ours
    found = leftovers.leftovers(tmp_path)
    expected = [] if ours else [{"kind": "process", "where": f"containerd (process 7, {unit})"}]
    assert found == expected


def test_kernel_modules_are_looked_for_in_all_places(tmp_path: Path) -> None:
    names = ["overlay", "br_netfilter", "ext4", "squashfs", "loop", "vxlan", "nf-tables", "dummy"]
    write(tmp_path, "proc/modules", "overlay 151552 0 - Live 0x0\n")
    write(tmp_path, "proc/filesystems", "nodev\tproc\n\text4\n")
    (tmp_path / "sys/module/loop").mkdir(parents=True)
    lib = f"lib/modules/{RELEASE}"
    write(tmp_path, f"{lib}/modules.builtin", "kernel/net/netfilter/nf_tables.ko\n")
    dep = "kernel/net/bridge/br_netfilter.ko.zst: kernel/net/bridge/bridge.ko.zst\n"
    write(
        tmp_path, f"{lib}/modules.dep", f"{dep}kernel/fs/squashfs/squashfs.ko:\nkernel/dummy.ko:\n"
    )
    write(
        tmp_path,
        "etc/modprobe.d/cis.conf",
        "# install overlay /bin/true\ninstall squashfs /bin/false\nblacklist dummy\n",
    )
    assert kernel.missing_modules(names, tmp_path, RELEASE) == {
        "squashfs": "is disabled in /etc/modprobe.d/cis.conf",
        "dummy": "is disabled in /etc/modprobe.d/cis.conf",
        "vxlan": f"is not part of this kernel ({RELEASE})",
    }


def test_a_container_sees_what_its_host_has_loaded(tmp_path: Path) -> None:
    write(tmp_path, "proc/modules", "vxlan 151552 0 - Live 0x0\n")
    assert kernel.missing_modules(["vxlan", "overlay"], tmp_path, RELEASE) == {
        "overlay": f"is not loaded, and /lib/modules/{RELEASE} is missing"
    }


OURS = "# Managed by Kubewright: the node's system volume.\n"


def test_an_empty_machine_and_one_that_a_cut_run_left_have_no_leftovers(tmp_path: Path) -> None:
    assert leftovers.leftovers(tmp_path, "CA") == []
    write(tmp_path, "etc/systemd/system/var-lib-kubewright-system.mount", OURS)
    write(tmp_path, "etc/kubernetes/pki/ca.crt", "CA\n")
    write(tmp_path, "etc/cni/net.d/10-flannel.conflist", "{}")
    (tmp_path / "etc/kubernetes/manifests").mkdir()
    (tmp_path / "var/lib/etcd/lost+found").mkdir(parents=True)
    assert leftovers.is_prepared(tmp_path)
    assert leftovers.leftovers(tmp_path, "CA") == []


@pytest.mark.parametrize(
    ("path", "kind", "where"),
    [
        ("etc/kubernetes/kubelet.conf", "kubernetes", "/etc/kubernetes/kubelet.conf"),
        ("etc/kubernetes/manifests/etcd.yaml", "kubernetes", "/etc/kubernetes/manifests/etcd.yaml"),
        ("etc/kubernetes/pki/ca.crt", "authority", "/etc/kubernetes/pki/ca.crt"),
        ("var/lib/etcd/member/snap/db", "etcd", "/var/lib/etcd"),
        ("var/lib/rancher/k3s/agent", "k3s", "/var/lib/rancher/k3s"),
        ("var/lib/rancher/rke2/agent", "rke2", "/var/lib/rancher/rke2"),
        ("var/snap/microk8s/common", "microk8s", "/var/snap/microk8s"),
        ("var/lib/k0s/pki", "k0s", "/var/lib/k0s"),
        ("sys/class/net/cni0/mtu", "links", "cni0"),
        ("sys/class/net/cali1234/mtu", "links", "cali1234"),
        ("etc/cni/net.d/87-podman.conflist", "network", "/etc/cni/net.d/87-podman.conflist"),
        ("etc/cni/net.d/10-flannel.conflist", "network", "/etc/cni/net.d/10-flannel.conflist"),
    ],
)
def test_leftovers_are_found(tmp_path: Path, path: str, kind: str, where: str) -> None:
    write(tmp_path, path, "another")
    assert leftovers.leftovers(tmp_path, "CA") == [{"kind": kind, "where": where}]


def test_long_lists_are_cut(tmp_path: Path) -> None:
    for name in leftovers.CONFIGURATIONS[:5]:
        write(tmp_path, f"etc/kubernetes/{name}")
    (found,) = leftovers.leftovers(tmp_path)
    assert found["where"].endswith("/etc/kubernetes/kubelet.conf and 2 more")


VOLUME: dict[str, Any] = {
    "path": "/var/lib/v.ext4",
    "type": "local",
    "mount_point": "/var/lib/system",
    "label": "kubewright",
    "size_bytes": 10_000_000,
    "sparse": False,
}


def test_what_is_there_of_the_volume_needs_no_more_room(tmp_path: Path) -> None:
    (disk,) = survey.disks({"volume": VOLUME, "room": {"/var/lib/etcd": 4}}, tmp_path)
    assert disk["volume"] == {"/var/lib/v.ext4": 10_000_000}
    assert disk["room"] == {"/var/lib/etcd": 4}
    status = os.statvfs(tmp_path)
    assert disk["free"] == pytest.approx(status.f_bavail * status.f_frsize, rel=0.1)
    write(tmp_path, "var/lib/v.ext4", "x" * 1_000_000)
    (disk,) = survey.disks({"volume": VOLUME}, tmp_path)
    assert disk["volume"]["/var/lib/v.ext4"] <= 9_000_000
    (disk,) = survey.disks({"volume": {**VOLUME, "sparse": True}}, tmp_path)
    assert 0 < disk["volume"]["/var/lib/v.ext4"] < survey.SPARSE_BYTES
    assert survey.disks({"volume": {**VOLUME, "type": "block"}}, tmp_path) == []
    refused = survey.refused_volume(VOLUME, tmp_path)
    assert f"{tmp_path}/var/lib/v.ext4 contains unknown data" in refused["text"]
    assert refused["remedy"] == "Move it away if it is not needed."


def test_file_systems_are_told_apart() -> None:
    shared = Path("/dev/shm")
    if not shared.is_mount():
        pytest.skip("needs a second file system")
    found = survey.disks({"room": {"/etc/a": 1, "/dev/shm/b/c": 2}}, Path("/"))
    assert [(disk["mount"], disk["room"]) for disk in found] == [
        ("/", {"/etc/a": 1}),
        ("/dev/shm", {"/dev/shm/b/c": 2}),
    ]


@pytest.mark.parametrize(
    ("told", "resolved", "file", "loopback"),
    [
        ("", False, "/etc/resolv.conf", ["127.0.0.53", "::1", "0.0.0.0"]),
        ("", True, "/run/systemd/resolve/resolv.conf", []),
        ("/etc/pods.conf", True, "/etc/pods.conf", ["127.1.1.1"]),
    ],
)
def test_the_resolver_that_pods_will_have(
    tmp_path: Path, told: str, resolved: bool, file: str, loopback: list[str]
) -> None:
    stub = "# nameserver 127.0.0.9\nnameserver 127.0.0.53\nnameserver ::1\nnameserver 0.0.0.0\n"
    write(tmp_path, "etc/resolv.conf", f"{stub}nameserver 192.0.2.53\noptions edns0\nnameserver\n")
    write(tmp_path, "run/systemd/resolve/resolv.conf", "nameserver 192.0.2.53\nnameserver x\n")
    write(tmp_path, "etc/pods.conf", "nameserver\t127.1.1.1\n")

    def run(argv: Sequence[str], *, timeout: float = 0, stdin: str = "") -> commands.Result:
        assert tuple(argv) == survey.RESOLVED_ACTIVE
        return commands.Result(tuple(argv), 0 if resolved else 3, "", "")

    found = survey.resolver(told, {"systemd": True}, run, tmp_path)
    assert found == {"file": file, "missing": False, "empty": False, "loopback": loopback}
    write(tmp_path, file.lstrip("/"), "# No DNS servers known.\nsearch .\n")
    found = survey.resolver(told, {"systemd": True}, run, tmp_path)
    assert found == {"file": file, "missing": False, "empty": True, "loopback": []}
    (tmp_path / file.lstrip("/")).unlink()
    found = survey.resolver(told, {"systemd": True}, run, tmp_path)
    assert found == {"file": file, "missing": True, "empty": False, "loopback": []}


def test_a_survey_of_this_machine_has_all_that_is_judged(tmp_path: Path) -> None:
    write(tmp_path, "proc/filesystems", "\toverlay\n")
    listen(tmp_path, "tcp", (7443, 11, "0A"), (6443, 12, "0A"))
    run_process(tmp_path, 5, "/opt/kubewright/lb/usr/sbin/haproxy", sockets=(11,))
    desired = {"ports": [7443, 6443], "kernel_modules": ["overlay"], "volume": VOLUME}
    found = survey.survey(desired, {"kernel": RELEASE, "systemd": False}, tmp_path)
    assert found["listeners"] == [{"port": 6443, "process": "an unknown process"}]
    assert (found["modules"], found["leftovers"], found["prepared"]) == ({}, [], False)
    assert len(found["disks"]) == 1
    assert found["volume"] == {}


def test_addresses_are_the_kernels(tmp_path: Path) -> None:
    found = links.addresses()
    if "lo" not in found.values():
        pytest.skip("no loopback interface here")
    assert found["127.0.0.1"] == "lo"
    told = facts.machine_facts(address="127.0.0.1")
    assert (told["interface"], told["mtu"]) == ("lo", links.mtu("lo", Path("/")))
    assert told["mtu"] > 1280
    elsewhere = facts.machine_facts(address="192.0.2.254")
    assert (elsewhere["interface"], elsewhere["mtu"]) == ("", 0)
    assert links.mtu("lo", tmp_path) == 0


@pytest.mark.parametrize(
    ("attributes", "address"),
    [
        ({netlink.IFA_LOCAL: "192.0.2.1"}, "192.0.2.1"),
        ({netlink.IFA_ADDRESS: "192.0.2.9", netlink.IFA_LOCAL: "192.0.2.1"}, "192.0.2.1"),
        ({netlink.IFA_ADDRESS: "192.0.2.9"}, "192.0.2.9"),
        ({}, ""),
    ],
)
def test_a_message_of_the_kernel(attributes: dict[int, str], address: str) -> None:
    body = netlink.ADDRESS_MESSAGE.pack(socket.AF_INET, 24, 0, 0, 3)
    for kind, value in attributes.items():
        body += (8).to_bytes(2, "little") + kind.to_bytes(2, "little") + socket.inet_aton(value)
    assert netlink.parse_address(body) == (3, address)


def test_a_machine_id_is_told_as_a_hash(tmp_path: Path) -> None:
    assert facts.machine_id(tmp_path) == ""
    for text in ("", "\n", "uninitialized\n"):
        write(tmp_path, "etc/machine-id", text)
        assert facts.machine_id(tmp_path) == ""
    write(tmp_path, "etc/machine-id", "0123456789abcdef0123456789abcdef\n")
    told = facts.machine_id(tmp_path)
    assert len(told) == 32 and told != "0123456789abcdef0123456789abcdef"
