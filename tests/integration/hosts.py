# SPDX-License-Identifier: Apache-2.0
"""Hosts that stand for the user's servers: a Debian 12 with SSH and python3, made in another way.

They are systemd containers of podman on a network of their own, made anew and removed by their
label. They share this machine's kernel and may not raise limits: see :func:`variables`.
"""

from __future__ import annotations

import json
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import host_snapshot
import yaml
from cluster import REPOSITORY
from machines import CommandFailed
from waiting import NotYet, until

LABEL = "kwhosts=1"
NETWORK = "kwhosts"
SUBNET, GATEWAY = "10.87.0.0/24", "10.87.0.1"
_LOOP_DEVICES = 64
_PROVIDER = REPOSITORY / "roles/provider_local"


@dataclass(frozen=True)
class Host:
    """One of them, once it runs. ``key``: its public SSH host key, read past the network."""

    name: str
    address: str
    key: str

    def run(self, *command: str, stdin: bytes | None = None, limit: float = 60) -> str:
        """Run a command on it as root, past the network; return its stdout."""
        return _podman("exec", "-i", container(self.name), *command, stdin=stdin, limit=limit)

    def write(self, path: str, content: str | bytes) -> None:
        """Write a file on it."""
        data = content.encode() if isinstance(content, str) else content
        self.run("sh", "-c", 'mkdir -p "$(dirname "$1")" && cat >"$1"', "sh", path, stdin=data)

    def power_off(self) -> None:
        """Cut its power."""
        _podman("kill", container(self.name))

    def power_on(self) -> None:
        """Switch it on again."""
        _podman("start", container(self.name))
        _route(self.name)

    def snapshot(self) -> dict[str, Any]:
        """What is on it. It has no tools to look at its network: those of this machine do it."""
        text = Path(__file__).with_name("host_snapshot.py").read_bytes()
        found: dict[str, Any] = json.loads(self.run("python3", "-", stdin=text))
        return {
            **found,
            "addresses": host_snapshot.addresses(_in_network(self.name, "ip -json address")),
            "routes": host_snapshot.routes(_in_network(self.name, "ip route show table all")),
            "rules": sorted(_in_network(self.name, "ip rule").splitlines()),
            "nftables": host_snapshot.nftables(_in_network(self.name, "nft --json list ruleset")),
        }


@dataclass(frozen=True)
class Key:
    """A user's SSH key pair."""

    private: Path

    @property
    def public(self) -> str:
        return self.private.with_suffix(".pub").read_text()

    @classmethod
    def make(cls, directory: Path) -> Key:
        """Make a pair in a directory."""
        path = directory / "id_ed25519"
        command = ["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", "user", "-f", str(path)]
        subprocess.run(command, check=True, timeout=30)
        return cls(path)


def container(name: str) -> str:
    """The name of a host's container."""
    return f"kwhosts-{name}"


def variables() -> dict[str, Any]:
    """What containers need set, as the local provider says of its own."""
    text = (_PROVIDER / "provider.yml").read_text(encoding="utf-8")
    found: dict[str, Any] = yaml.safe_load(text)["host_vars"]
    return found


def make(names: Sequence[str], key: Key, cache: Path) -> list[Host]:
    """Make hosts that let ``key`` in as root; return them when SSH answers."""
    remove()
    image = subprocess.run(
        [str(Path(__file__).with_name("host_image.sh")), str(cache / "hosts")],
        stdout=subprocess.PIPE,
        text=True,
        check=True,
        timeout=600,
    ).stdout.strip()
    _loop_devices()
    _podman(
        *("network", "create", "--internal", "--disable-dns", "--label", LABEL),
        *("--subnet", SUBNET, "--gateway", GATEWAY, NETWORK),
    )
    return [_make(name, 11 + number, image, key) for number, name in enumerate(names)]


def remove() -> None:
    """Remove all of them with their disks and network."""
    for identity in _podman("ps", "--all", "--quiet", "--filter", f"label={LABEL}").split():
        _podman("rm", "--force", "--time=0", identity)
    for volume in _podman("volume", "ls", "--quiet", "--filter", f"label={LABEL}").split():
        _podman("volume", "rm", "--force", volume)
    for network in _podman("network", "ls", "--quiet", "--filter", f"label={LABEL}").split():
        _podman("network", "rm", "--force", network)


def _make(name: str, number: int, image: str, key: Key) -> Host:
    address = SUBNET.replace("0/24", str(number))
    disk = f"{container(name)}-var"
    _podman("volume", "create", "--label", LABEL, disk)
    _podman(
        *("--runtime=runc", "run", "--detach", "--name", container(name), "--hostname", name),
        *("--label", LABEL, "--network", NETWORK, "--ip", address, "--no-hosts"),
        # As a real one has it, the same after each boot.
        *("--mac-address", f"02:00:00:00:00:{number:02x}"),
        # As the local provider does, for the reasons that stand there.
        *("--privileged", "--systemd=false", "--cgroupns=private", "--env", "container=podman"),
        *("--stop-signal=SIGRTMIN+3", "--volume", f"{disk}:/var:exec,suid,dev"),
        *("--tmpfs", "/run:rw,exec,mode=755", "--tmpfs", "/run/lock:rw"),
        *("--tmpfs", "/tmp:rw,exec,mode=1777", "--pids-limit=-1"),
        *("--ulimit", "nofile=20000:20000", "--ulimit", "nproc=15000:15000", image),
    )
    host = Host(name, address, "")
    _route(name)
    until(f"systemd runs: {name}", lambda: _systemd_runs(host), limit=60, interval=0.1)
    host.write("/etc/hosts", f"127.0.0.1 localhost\n{address} {name}\n")
    host.write(
        "/etc/ssh/sshd_config.d/keys.conf", "PermitRootLogin prohibit-password\nMaxStartups 100\n"
    )
    host.run("ssh-keygen", "-A")
    host.write("/root/.ssh/authorized_keys", key.public)
    host.run("systemctl", "enable", "--now", "ssh.service")
    kind, text, *_ = host.run("cat", "/etc/ssh/ssh_host_ed25519_key.pub").split()
    return Host(name, address, f"{kind} {text}")


def _route(name: str) -> None:
    """An internal network has no default route, without which Service addresses are refused."""
    _in_network(name, f"ip route replace default via {GATEWAY}")


def _in_network(name: str, command: str) -> str:
    """Run a command of this machine in a host's network; return its stdout."""
    pid = json.loads(_podman("inspect", container(name)))[0]["State"]["Pid"]
    words = ["nsenter", "--target", str(pid), "--net", *command.split()]
    return subprocess.run(words, check=True, capture_output=True, text=True, timeout=30).stdout


def _systemd_runs(host: Host) -> None:
    try:
        host.run("test", "-S", "/run/systemd/private")
    except CommandFailed as error:
        raise NotYet(str(error)) from error


def _loop_devices() -> None:
    """A container sees the loop devices that there are when it is made."""
    code = f"import podman_machines; podman_machines.ensure_loop_devices({_LOOP_DEVICES})"
    subprocess.run(["python3", "-c", code], cwd=_PROVIDER / "files", check=True, timeout=60)


def _podman(*words: str, stdin: bytes | None = None, limit: float = 120) -> str:
    done = subprocess.run(
        ["podman", *words], input=stdin or b"", capture_output=True, timeout=limit, check=False
    )
    if done.returncode:
        said = done.stderr.decode(errors="replace").strip()
        raise CommandFailed(f"podman {' '.join(words)}: status {done.returncode}: {said}")
    return done.stdout.decode()
