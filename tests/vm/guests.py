# SPDX-License-Identifier: Apache-2.0
"""Virtual machines under QEMU without acceleration, whose clocks follow their instructions.

A guest executes an instruction in one nanosecond of its own time, however long that takes here, so
that time limits in it mean what they mean on a server. While it works its clock falls behind ours
(several seconds in one of its own); :meth:`Guest.set_clock` does what NTP does elsewhere.
"""

from __future__ import annotations

import json
import shlex
import subprocess
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from lan import GATEWAY, PREFIX_LENGTH, Port, on_host
from machines import CommandFailed
from waiting import NotYet

USER = "admin"
#: The disk for the system volume, and its size. 20 GB are asked for.
DEVICE, DEVICE_SIZE = "/dev/disk/by-id/virtio-system", "21G"
MEMORY = "2560M"
#: QEMU 7.2, which Debian 12 has, takes EFLAGS of cmpxchg16b from what is left of earlier
#: instructions, and where an interrupt comes right after one the kernel panics. It is told to do
#: without. Programs may use it: haproxy does not run on a processor that has none.
PARAMETERS = "root=LABEL=root console=ttyS0 clearcpuid=cx16"

#: Seconds for what makes a disk or a key.
MAKING = 120.0
_HERE = Path(__file__).parent


@dataclass(frozen=True)
class Image:
    """What the guests boot; ``directory`` is as image.sh prints it."""

    directory: Path

    @classmethod
    def make(cls, cache: Path) -> Image:
        """Make it unless it is in the cache: a minute or two."""
        command = [str(_HERE / "image.sh"), str(cache)]
        done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True, timeout=900)
        return cls(Path(done.stdout.strip()))


@dataclass
class Guest:
    """One machine; ``directory`` has its disks, and what it said while it booted."""

    name: str
    port: Port
    directory: Path
    image: Image
    _process: subprocess.Popen[bytes] | None = field(default=None, repr=False)

    @property
    def host_key(self) -> str:
        """Its public SSH host key."""
        kind, text, *_ = (self.directory / "host_key.pub").read_text().split()
        return f"{kind} {text}"

    @property
    def user_key(self) -> Path:
        """The private key that logs in to it."""
        return self.directory / "user_key"

    @property
    def console(self) -> str:
        """What it wrote to its serial console since it was switched on."""
        return (self.directory / "console.log").read_text(errors="replace")

    def make(self) -> None:
        """Make its disks and keys."""
        self.directory.mkdir(parents=True)
        for key in ("host_key", "user_key"):
            on_host(
                "ssh-keygen",
                "-q",
                "-t",
                "ed25519",
                "-N",
                "",
                "-f",
                str(self.directory / key),
                limit=MAKING,
            )
        known = self.directory / "known_hosts"
        known.write_text(f"{self.port.address} {self.host_key}\n")
        self._make_seed()
        root = ["-b", str(self.image.directory / "root.raw"), "-F", "raw"]
        on_host("qemu-img", "create", "-q", "-f", "qcow2", *root, self._disk("root"), limit=MAKING)
        on_host(
            "qemu-img",
            "create",
            "-q",
            "-f",
            "qcow2",
            self._disk("system"),
            DEVICE_SIZE,
            limit=MAKING,
        )

    def power_on(self) -> None:
        """Switch it on; its boot takes a while."""
        assert self._process is None, f"{self.name} is on"
        (self.directory / "console.log").write_bytes(b"")
        with (self.directory / "qemu.log").open("ab") as log:
            self._process = subprocess.Popen(
                self._command(), stdin=subprocess.DEVNULL, stdout=log, stderr=log
            )

    def power_off(self) -> None:
        """Cut its power.

        What it has not written to its disks is lost, and so is what it has not flushed: QEMU
        keeps in memory, until a flush, which parts of a qcow2 are in use.
        """
        if self._process is not None:
            self._process.kill()
            self._process.wait(30)
            self._process = None

    def run(self, *command: str, stdin: bytes = b"", limit: float = 300) -> str:
        """Run a command on it as root; return its stdout. ``limit`` is in seconds of this host."""
        self._assert_on()
        # ssh hands one line to the user's shell.
        words = [*self._ssh(), shlex.join(["sudo", *command])]
        try:
            done = subprocess.run(
                words, input=stdin, capture_output=True, check=False, timeout=limit
            )
        except subprocess.TimeoutExpired as error:
            raise CommandFailed(f"{self.name}: no answer within {limit:.0f} s") from error
        if done.returncode:
            said = (done.stderr or done.stdout).decode(errors="replace").strip()
            raise CommandFailed(f"{self.name}: {' '.join(command)}: {done.returncode}: {said}")
        return done.stdout.decode()

    def booted(self) -> None:
        """A look for a machine whose boot is over, whatever failed in it; raises NotYet."""
        try:
            said = self.run("sh", "-c", "systemctl is-system-running || true", limit=60).strip()
        except CommandFailed as error:
            raise NotYet(str(error)) from error
        if said not in ("running", "degraded"):
            raise NotYet(said)

    def uptime(self) -> float:
        """Seconds of its own since its boot began."""
        return float(self.run("cat", "/proc/uptime").split()[0])

    def boot_id(self) -> str:
        """Another one after each boot."""
        return self.run("cat", "/proc/sys/kernel/random/boot_id", limit=60).strip()

    def set_clock(self) -> None:
        """Set its clock to this host's. The moment is said when it stands ready to take it."""
        script = "echo ready; read moment; date --utc --set=@$moment >/dev/null"
        with subprocess.Popen(
            [*self._ssh(), shlex.join(["sudo", "sh", "-c", script])],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        ) as process:
            assert process.stdin is not None
            assert process.stdout is not None
            assert process.stdout.readline() == "ready\n"
            process.stdin.write(f"{time.time():.3f}\n")
            process.stdin.close()
            assert process.wait(60) == 0

    def _assert_on(self) -> None:
        assert self._process is not None, f"{self.name} is off"
        assert self._process.poll() is None, (self.directory / "qemu.log").read_text()
        # It may stand still then, or boot again as if nothing were.
        assert "Kernel panic" not in self.console, self.console[-8000:]

    def _ssh(self) -> list[str]:
        return [
            *("ssh", "-F", "none", "-o", "BatchMode=yes", "-o", "ConnectTimeout=30"),
            *("-o", f"UserKnownHostsFile={self.directory / 'known_hosts'}"),
            *("-o", "IdentitiesOnly=yes", "-i", str(self.user_key)),
            f"{USER}@{self.port.address}",
        ]

    def _disk(self, name: str) -> str:
        return str(self.directory / f"{name}.qcow2")

    def _make_seed(self) -> None:
        """What cloud-init is told, on a disk of its own: its NoCloud data source."""
        route = {"to": "0.0.0.0/0", "via": GATEWAY}
        files = {
            "meta-data": {"instance-id": self.name, "local-hostname": self.name},
            "network-config": {
                "version": 2,
                "ethernets": {
                    "lan": {
                        "match": {"macaddress": self.port.mac},
                        "addresses": [f"{self.port.address}/{PREFIX_LENGTH}"],
                        "routes": [route],
                        # Nobody answers there; the pods' names are the cluster's own.
                        "nameservers": {"addresses": [GATEWAY]},
                    }
                },
            },
            "user-data": {
                "manage_etc_hosts": True,
                "users": [
                    {
                        "name": USER,
                        "sudo": "ALL=(ALL) NOPASSWD:ALL",
                        "shell": "/bin/bash",
                        "lock_passwd": True,
                        "ssh_authorized_keys": [self.user_key.with_suffix(".pub").read_text()],
                    }
                ],
                "ssh_keys": {
                    "ed25519_private": (self.directory / "host_key").read_text(),
                    "ed25519_public": (self.directory / "host_key.pub").read_text(),
                },
            },
        }
        for name, content in files.items():
            first = "#cloud-config\n" if name == "user-data" else ""
            (self.directory / name).write_text(first + json.dumps(content))
        on_host(
            *("xorriso", "-as", "genisoimage", "-quiet", "-volid", "cidata", "-joliet", "-rock"),
            *("-output", str(self.directory / "seed.iso")),
            *(str(self.directory / name) for name in files),
            limit=MAKING,
        )

    def _command(self) -> list[str]:
        image = self.image.directory
        return [
            # It ends with whoever started it, however that ends.
            *("setpriv", "--pdeathsig", "KILL"),
            *("qemu-system-x86_64", "-name", self.name, "-machine", "q35"),
            *("-accel", "tcg,thread=single", "-icount", "shift=0"),
            *("-cpu", "max", "-smp", "2", "-m", MEMORY),
            *("-nodefaults", "-no-user-config", "-display", "none"),
            *("-kernel", str(image / "vmlinuz"), "-initrd", str(image / "initrd")),
            *("-append", PARAMETERS),
            *("-serial", f"file:{self.directory / 'console.log'}"),
            *("-drive", f"file={self._disk('root')},if=virtio,cache=writeback"),
            *("-drive", f"file={self._disk('system')},if=none,id=system,cache=writeback"),
            *("-device", "virtio-blk-pci,drive=system,serial=system"),
            *("-drive", f"file={self.directory / 'seed.iso'},if=virtio,format=raw,readonly=on"),
            *("-netdev", f"tap,id=lan,ifname={self.port.tap},script={_HERE / 'tap_up.sh'}"),
            *("-device", f"virtio-net-pci,netdev=lan,mac={self.port.mac}"),
            *("-device", "virtio-rng-pci"),
        ]


@contextmanager
def guests(names: Sequence[str], directory: Path, image: Image) -> Iterator[list[Guest]]:
    """Guests that are on; they are switched off and their disks removed afterwards."""
    made = [
        Guest(name, Port(number), directory / name, image)
        for number, name in enumerate(names, start=1)
    ]
    try:
        for guest in made:
            guest.make()
            guest.power_on()
        yield made
    finally:
        for guest in made:
            guest.power_off()
            for disk in guest.directory.glob("*.qcow2"):
                disk.unlink()
