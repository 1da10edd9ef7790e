# SPDX-License-Identifier: Apache-2.0
"""A cluster whose workers' volumes are a file and a device, what breaks them, and what is said."""

from __future__ import annotations

import subprocess
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml
from cluster import VERSION, Cluster, Ended
from machines import CommandFailed, run_on
from waiting import NotYet

#: What cluster.yml calls the device. A machine without udev has no links below /dev/disk.
DEVICE = "/var/lib/kwtest-disk"
VOLUME = "/var/lib/kubewright/system"
GB = 10**9


@dataclass(frozen=True)
class Volumes(Cluster):
    """One control plane, and a worker of each kind of volume; ``disk`` is a loop device of it."""

    disk: Path = Path("/dev/null")

    @property
    def on_file(self) -> str:
        """The worker whose volume is a file."""
        return f"{self.name}-web-1"

    @property
    def on_device(self) -> str:
        """The worker whose volume is a device."""
        return f"{self.name}-disk-1"

    @property
    def workers(self) -> list[str]:
        return [self.on_file, self.on_device]

    def write(self, web: Mapping[str, Any] | None = None) -> None:
        """Write cluster.yml; ``web``: more of the pool whose volumes are files."""
        local = {"provider": "local", "size": 1}
        block = {"type": "block", "device": DEVICE, "size_gb": 20}
        spec = {
            "plugin": "kubewright.cluster.spec",
            "name": self.name,
            "version": VERSION,
            "control_plane": local,
            "pools": [
                {"name": "web", **local, **(web or {})},
                {"name": "disk", **local, "system_volume": block},
            ],
        }
        self.directory.mkdir(parents=True, exist_ok=True)
        (self.directory / "cluster.yml").write_text(yaml.safe_dump(spec, sort_keys=False))

    def web(self) -> dict[str, Any]:
        """What cluster.yml says of the pool whose volumes are files."""
        found: dict[str, Any] = yaml.safe_load((self.directory / "cluster.yml").read_text())
        pool: dict[str, Any] = found["pools"][0]
        return pool

    def plug(self) -> None:
        """Give the machine its device; it keeps it through reboots."""
        run_on(self.on_device, ["ln", "-sfn", str(self.disk), DEVICE])

    def unplug(self) -> None:
        """Take it away."""
        run_on(self.on_device, ["rm", DEVICE])

    def wipe(self) -> None:
        """What the refusal of foreign data says, on the machine."""
        run_on(self.on_device, ["wipefs", "--quiet", "--all", DEVICE])

    def troubles(self, host: str) -> list[str]:
        """What ``status`` says of a node's volume, as JSON and as text; both say the same."""
        answer, page = self.run("status", "-o", "json"), self.run("status")
        reports = {report["host"]: report for report in answer.document["reports"]}
        assert not reports[host]["reason"], answer.stdout
        found = [one["text"] for one in reports[host]["findings"] if one["section"] == "volume"]
        shown = " ".join(page.stdout.split())
        for trouble in found:
            sentence = f"the system volume of {host}: {trouble}"
            assert sentence in answer.document["troubles"], answer.stdout
            assert f"✗ {sentence}" in shown, page.stdout
        assert (answer.status, page.status) == (3, 3) if found else True, answer.stdout
        return found

    def sound(self, host: str) -> None:
        """A look for a node whose volume is all right; raises NotYet."""
        if found := self.troubles(host):
            raise NotYet(str(found))


def make_disk(directory: Path, size: int = 21 * GB) -> Path:
    """A loop device of this host, blank."""
    file = directory / "kubewright-disk"
    with file.open("wb") as opened:
        opened.truncate(size)
    return Path(host("losetup", "--find", "--show", str(file)).strip())


def detach(disk: Path) -> None:
    """Give the loop device back."""
    host("losetup", "--detach", str(disk))


def host(*command: str, stdin: str = "") -> str:
    """Run a command on this host and return its stdout."""
    done = subprocess.run(
        command, input=stdin, check=True, capture_output=True, text=True, timeout=120
    )
    return done.stdout


def untouched(machine: str) -> bool:
    """Whether nothing of a node has been written on a machine."""
    places = ["/var/lib/kubewright", "/etc/kubewright", "/opt/kubewright"]
    script = 'for place in "$@"; do test ! -e "$place" || echo "$place"; done'
    return not run_on(machine, ["sh", "-c", script, "sh", *places])


def device_of(machine: str) -> str:
    """The kernel's name of the device that is mounted as the volume, such as loop3."""
    return Path(run_on(machine, ["findmnt", "-no", "SOURCE", VOLUME]).splitlines()[-1]).name


def size_of(machine: str) -> int:
    """How many bytes the mounted file system of the volume has."""
    said = run_on(machine, ["stat", "--file-system", "--format=%b %S", VOLUME]).split()
    return int(said[0]) * int(said[1])


def maintain(machine: str, script: str) -> str:
    """Run a shell's script where the volume can be written."""
    return run_on(machine, ["kubewright-maintenance", "sh", "-ec", script], limit=120)


def state(machine: str, unit: str) -> str:
    """What systemd says of a unit: active, inactive, failed, activating."""
    return run_on(machine, ["sh", "-c", f"systemctl is-active {unit} || true"]).strip()


def booted(machine: str) -> None:
    """A look for a machine whose boot is over, whatever failed in it; raises NotYet."""
    try:
        said = run_on(machine, ["sh", "-c", "systemctl is-system-running || true"]).strip()
    except CommandFailed as error:
        raise NotYet(str(error)) from error
    if said not in ("running", "degraded"):
        raise NotYet(said)


def stopped(machine: str) -> None:
    """Fail where containerd or the kubelet runs on a machine without a sound volume."""
    for unit in ("containerd.service", "kubelet.service"):
        assert state(machine, unit) not in ("active", "activating", "reloading"), unit
    assert "kubelet" not in run_on(machine, ["ps", "-eo", "comm"]).split()


def refused(ended: Ended) -> list[dict[str, str]]:
    """The fatal findings of an apply that was refused."""
    assert ended.status != 0, ended.stdout
    findings: list[dict[str, str]] = ended.document["findings"]
    return [one for one in findings if one["severity"] == "fatal"]
