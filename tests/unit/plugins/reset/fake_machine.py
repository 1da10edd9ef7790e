# SPDX-License-Identifier: Apache-2.0
"""A host in a directory, which becomes a node, and on which commands have their effect."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from ansible_collections.kubewright.cluster.plugins.module_utils._base import commands, owned
from ansible_collections.kubewright.cluster.plugins.module_utils._machine import before

EMPTY_RULESET = '{"nftables": []}'
SYSCTLS = {"net/ipv4/ip_forward": "0", "vm/overcommit_memory": "0", "vm/swappiness": "60"}


def write(path: Path, text: str = "") -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    return path


class Killed(BaseException):
    """As if the process had died here."""


class FakeMachine:
    """A host in a directory: mounts, units, interfaces and loop devices are files of it."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.calls: list[str] = []
        self.active: set[str] = set()
        self.stale = False
        self.stdin = ""
        self.dies_before: int | None = None
        for name, value in SYSCTLS.items():
            write(root / "proc/sys" / name, value)
        write(root / "etc/hosts", "127.0.0.1 localhost")
        write(root / "etc/crictl.yaml", "somebody's\n")
        write(root / "etc/cni/net.d/87-podman.conflist", "{}")
        write(root / "usr/sbin/nft")
        write(root / "var/lib/etcd/lost+found/x", "a disk of its own")
        write(root / "opt/cni/bin/theirs", "a plugin")
        (root / "sys/class/net/eth0").mkdir(parents=True)
        (root / "sys/fs/cgroup/system.slice").mkdir(parents=True)
        for name in ("etc/systemd/system", "etc/sysctl.d", "root", "run", "tmp", "var/log"):
            (root / name).mkdir(parents=True, exist_ok=True)
        self.mount("/", "/var/lib/etcd")

    @property
    def machine(self) -> before.Machine:
        return before.Machine(self, self.root)

    def mount(self, *points: str) -> None:
        info = self.root / "proc/self/mountinfo"
        write(
            info,
            (info.read_text() if info.exists() else "")
            + "".join(f"36 1 8:1 / {point} rw - ext4 /dev/x rw\n" for point in points),
        )

    def become_a_node(self, trees: Sequence[str] = owned.TREES) -> None:
        """What an apply, the kubelet, kube-proxy and flannel leave."""
        root, state = self.root, self.root / "var/lib/kubewright"
        before.begin(state, self.machine)
        write(state / "epoch", "3\n")
        write(state / "kubeadm.json", "{}")
        write(state / "volume.ext4", "volume")
        (state / "system").mkdir()
        for unit in owned.UNITS:
            write(root / f"etc/systemd/system/{unit}", "# Managed by Kubewright\n[Unit]\n")
            self.active.add(unit)
        self.active |= set(owned.TARGETS)
        write(root / "opt/kubewright/tools/run/nft", "a tool")
        hosts = root / "etc/hosts"
        write(
            hosts,
            f"{hosts.read_text()}\n# BEGIN kubewright api\n127.0.0.1 a\n# END kubewright api\n",
        )
        for name in owned.FILES:
            path = root / name.lstrip("/")
            if not name.startswith(owned.UNIT_DIRECTORY):
                write(path, "Managed by Kubewright\n")
        for name in trees:
            path = name.replace("~", "/root").lstrip("/")
            write(root / path / "a/b", "of a node")
        for name in (
            "run/xtables.lock",
            "var/lib/cni/results/cbr0-1-eth0",
            "var/lib/cni/results/cni-loopback-1-lo",
            "opt/containerd/bin/.x",
        ):
            write(root / name)
        (root / "opt/containerd/bin/.x").unlink()
        write(root / "tmp/ansible_kubewright.cluster.volume_payload_abc/x.zip")
        write(root / "proc/sys/net/ipv4/ip_forward", "1\n")
        write(root / "proc/sys/vm/overcommit_memory", "1\n")
        write(root / "proc/sys/vm/swappiness", "10\n")
        for name in ("cni0", "flannel.1", "veth1", "veth2"):
            (root / "sys/class/net" / name).mkdir()
        (root / "sys/class/net/veth1/master").symlink_to("../cni0")
        (root / "sys/fs/cgroup/kubepods/burstable").mkdir(parents=True)
        write(root / "run/netns/cni-1")
        write(root / "run/netns/theirs")
        self.mount(
            "/run/containerd/a",
            "/var/lib/kubelet/pods/x",
            "/run/netns/cni-1",
            "/var/lib/kubewright/system",
            "/var/lib/kubewright/incoming",
            "/opt/kubewright",
            "/etc/kubewright",
            "/etc/kubernetes",
        )

    def __call__(self, argv: Any, *, timeout: float = 0, stdin: str = "") -> commands.Result:
        self.stdin = stdin
        words = [word for word in argv if word not in ("--", "--lazy")]
        if self._changes(words):
            if self.dies_before is not None and len(self.calls) >= self.dies_before:
                raise Killed
            self.calls.append(" ".join(words))
        return commands.Result(tuple(argv), 0, self._answer(words), "")

    @staticmethod
    def _changes(words: list[str]) -> bool:
        reads = words[1] in ("show", "is-active") or words[0] == "nft" or "--associated" in words
        return not reads

    def _answer(self, words: list[str]) -> str:
        if words[0] == "nft":
            return EMPTY_RULESET
        if words[:2] == ["systemctl", "show"]:
            return "\n".join(
                map(self._shown, [word for word in words[2:] if "." in word and "=" not in word])
            )
        if words[:2] == ["systemctl", "disable"]:
            self.active -= set(words[3:])
            gone = {
                "opt-kubewright.mount": owned.IMAGE,
                "etc-kubewright.mount": "/etc/kubewright",
                "etc-kubernetes.mount": "/etc/kubernetes",
                "kubewright-seal.service": "/var/lib/kubewright/incoming",
                owned.VOLUME_MOUNT: owned.VOLUME,
            }
            for name in words[3:]:
                self._unmount(gone.get(name, ""))
        elif words[:2] == ["systemctl", "is-active"]:
            return "\n".join("active" if name in self.active else "inactive" for name in words[2:])
        elif words[:2] == ["systemctl", "stop"]:
            self.active -= set(words[2:])
        elif words[:2] == ["systemctl", "daemon-reload"]:
            self.stale = False
        elif words[0] == "tee":
            self._unload_profile(Path(words[1]))
        elif words[0] == "umount":
            self._unmount(
                f"/{Path(words[1]).relative_to(self.root)}"
                if words[1].startswith(str(self.root))
                else words[1]
            )
        elif words[:3] == ["ip", "link", "delete"]:
            # At once, as the kernel does it.
            trash = self.root.parent / "deleted"
            shutil.rmtree(trash, ignore_errors=True)
            (self.root / "sys/class/net" / words[4]).rename(trash)
        return ""

    def _unload_profile(self, place: Path) -> None:
        assert place == self.root / "sys/kernel/security/apparmor/.remove"
        profiles = place.with_name("profiles")
        lines = profiles.read_text().splitlines(keepends=True)
        assert f"{self.stdin} (enforce)\n" in lines, "the kernel says ENOENT"
        profiles.write_text("".join(line for line in lines if not line.startswith(self.stdin)))

    def _unmount(self, point: str) -> None:
        info = self.root / "proc/self/mountinfo"
        lines = info.read_text().splitlines(keepends=True)
        write(info, "".join(line for line in lines if line.split()[4] != point))

    def _shown(self, unit: str) -> str:
        there = (self.root / "etc/systemd/system" / unit).exists()
        load = "loaded" if there or self.stale else "not-found"
        return (
            f"LoadState={load}\nActiveState={'active' if unit in self.active else 'inactive'}\n"
            f"UnitFileState={'enabled' if unit in self.active else ''}\n"
            f"NeedDaemonReload={'yes' if self.stale and not there else 'no'}\n"
        )
