# SPDX-License-Identifier: Apache-2.0
"""Hosts that stand for the user's servers: a bare Debian 12 with SSH, made in another way.

They are systemd containers of podman on a network of their own, made anew and removed by their
label. They share this machine's kernel and may not raise limits: see :func:`variables`.
"""

from __future__ import annotations

import json
import socket
import subprocess
from collections.abc import Collection, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
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
#: Where the second card of a host is, and with it its default route.
OUTSIDE, OUTSIDE_SUBNET, OUTSIDE_GATEWAY = "kwhosts-outside", "10.87.1.0/24", "10.87.1.1"
_LOOP_DEVICES = 64
_PROVIDER = REPOSITORY / "roles/provider_local"
#: What runs first. Mounts are shared, as systemd makes them where it boots a real machine, and not
#: in a container: otherwise a service with a mount namespace of its own, as logind has, would keep
#: what is unmounted in the machine's.
_INIT = ("sh", "-c", "mount --make-rshared / && exec /sbin/init")


@dataclass(frozen=True)
class Host:
    """One of them, once it runs.

    ``key``: its public SSH host key, read past the network, or the one that signs it (see
    ``host_keys`` in cluster.yml). ``gateway``: of its default route. ``firewall``: its own rules,
    for nft; it has no such tool, so what a unit of its own does at boot is done for it.
    """

    name: str
    address: str
    key: str
    gateway: str = GATEWAY
    firewall: str = ""

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
        """Switch it on again; return when SSH answers."""
        _podman("start", container(self.name))
        self.set_network()
        until(f"SSH answers: {self.name}", self._listens, limit=60, interval=0.1)

    def set_network(self) -> None:
        """Give it what it has of its network after each boot.

        An internal network has no default route, without which Service addresses are refused.
        """
        _in_network(self.name, f"ip route replace default via {self.gateway}")
        self.restart_firewall()

    def restart_firewall(self) -> None:
        """Load its rules in the place of all others, as nftables.service does."""
        _in_network(self.name, "nft --file -", f"flush ruleset\n{self.firewall}")

    def _listens(self) -> None:
        try:
            socket.create_connection((self.address, 22), timeout=2).close()
        except OSError as error:
            raise NotYet(str(error)) from error

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


def make(
    names: Sequence[str], key: Key, cache: Path, *, two_cards: Collection[str] = ()
) -> list[Host]:
    """Make hosts that let ``key`` in as root; return them when SSH answers.

    ``two_cards``: those with a second network card, which has the default route.
    """
    remove()
    image = subprocess.run(
        [str(Path(__file__).with_name("host_image.sh")), str(cache / "hosts")],
        stdout=subprocess.PIPE,
        text=True,
        check=True,
        timeout=600,
    ).stdout.strip()
    _loop_devices()
    for network, subnet, gateway in (
        (NETWORK, SUBNET, GATEWAY),
        (OUTSIDE, OUTSIDE_SUBNET, OUTSIDE_GATEWAY),
    ):
        _podman(
            *("network", "create", "--internal", "--disable-dns", "--label", LABEL),
            *("--subnet", subnet, "--gateway", gateway, network),
        )

    def one(number: int) -> Host:
        name = names[number]
        return _make(name, 11 + number, image, key, name in two_cards)

    with ThreadPoolExecutor() as pool:
        return list(pool.map(one, range(len(names))))


def remove() -> None:
    """Remove all of them with their disks and network."""
    for identity in _podman("ps", "--all", "--quiet", "--filter", f"label={LABEL}").split():
        _podman("rm", "--force", "--time=0", identity)
    for volume in _podman("volume", "ls", "--quiet", "--filter", f"label={LABEL}").split():
        _podman("volume", "rm", "--force", volume)
    for network in _podman("network", "ls", "--quiet", "--filter", f"label={LABEL}").split():
        _podman("network", "rm", "--force", network)


def _make(name: str, number: int, image: str, key: Key, two_cards: bool) -> Host:
    address = SUBNET.replace("0/24", str(number))
    # As real ones have it, the same after each boot.
    cards = [f"{NETWORK}:interface_name=eth0,ip={address},mac=02:00:00:00:00:{number:02x}"]
    if two_cards:
        outside = OUTSIDE_SUBNET.replace("0/24", str(number))
        cards.append(f"{OUTSIDE}:interface_name=eth1,ip={outside},mac=02:00:00:00:01:{number:02x}")
    disk = f"{container(name)}-var"
    _podman("volume", "create", "--label", LABEL, disk)
    _podman(
        *("--runtime=runc", "run", "--detach", "--name", container(name), "--hostname", name),
        *("--label", LABEL, "--no-hosts", "--dns=none"),
        *(f"--network={card}" for card in cards),
        # As the local provider does, for the reasons that stand there.
        *("--privileged", "--systemd=false", "--cgroupns=private", "--env", "container=podman"),
        *("--stop-signal=SIGRTMIN+3", "--volume", f"{disk}:/var:exec,suid,dev"),
        *("--tmpfs", "/run:rw,exec,mode=755", "--tmpfs", "/run/lock:rw"),
        *("--tmpfs", "/tmp:rw,exec,mode=1777", "--pids-limit=-1"),
        *("--ulimit", "nofile=20000:20000", "--ulimit", "nproc=15000:15000", image, *_INIT),
    )
    host = Host(name, address, "", OUTSIDE_GATEWAY if two_cards else GATEWAY)
    host.set_network()
    until(f"files are set up: {name}", lambda: _files_set_up(host), limit=60, interval=0.1)
    # At midnight it makes files that a reset would seem to have left.
    host.run("systemctl", "mask", "--now", "dpkg-db-backup.timer")
    host.write("/etc/hosts", f"127.0.0.1 localhost\n{address} {name}\n")
    # The boot has made it a link to what systemd-resolved would write.
    host.run("rm", "--force", "/etc/resolv.conf")
    host.write("/etc/resolv.conf", f"nameserver {GATEWAY}\n")
    host.write(
        "/etc/ssh/sshd_config.d/keys.conf", "PermitRootLogin prohibit-password\nMaxStartups 100\n"
    )
    host.run("ssh-keygen", "-A")
    host.write("/root/.ssh/authorized_keys", key.public)
    host.run("systemctl", "enable", "--now", "ssh.service")
    kind, text, *_ = host.run("cat", "/etc/ssh/ssh_host_ed25519_key.pub").split()
    return replace(host, key=f"{kind} {text}")


def _in_network(name: str, command: str, stdin: str = "") -> str:
    """Run a command of this machine in a host's network; return its stdout."""
    pid = json.loads(_podman("inspect", container(name)))[0]["State"]["Pid"]
    words = ["nsenter", "--target", str(pid), "--net", *command.split()]
    done = subprocess.run(
        words, input=stdin, capture_output=True, text=True, timeout=30, check=False
    )
    if done.returncode:
        raise CommandFailed(f"{name}: {command}: status {done.returncode}: {done.stderr.strip()}")
    return done.stdout


def _files_set_up(host: Host) -> None:
    """After this unit, a boot makes no more links in /etc."""
    try:
        host.run("systemctl", "is-active", "systemd-tmpfiles-setup.service")
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
