# Copyright: the Kubewright authors
# Apache License 2.0 (see LICENSE or https://www.apache.org/licenses/LICENSE-2.0)
"""What a trial of a system image asks of its node, and does to it.

Lies on each node beside `trial`, so it needs nothing but Python's standard library.
"""

from __future__ import annotations

import http.client
import json
import os
import subprocess
from collections.abc import Collection
from pathlib import Path

IMAGE = Path("/opt/kubewright")
JOINED = Path("/var/lib/kubelet/config.yaml")
UNITS = ("containerd.service", "kubelet.service", "kubewright-balancer.service")
MOUNTS = ("opt-kubewright.mount", "etc-kubewright.mount")
#: What the node's kubelet is told besides, JSON; and where it is healthy unless it says otherwise.
KUBELET = Path("/etc/kubewright/kubelet.d/10-kubewright.conf")
HEALTHZ = ("127.0.0.1", 10248)
#: Seconds that a question may take, and the restart of all.
CALL, RESTART = 10.0, 60.0
NOT_RUN = "nothing was run from it"


class Node:
    """What a trial asks of the node and does to it. Nothing here asks the API."""

    def run(
        self, *argv: str, timeout: float = CALL, pass_fds: Collection[int] = ()
    ) -> tuple[int, str]:
        """Run a command; its status and what it said. One that hangs or is not there has failed.

        It inherits *pass_fds*.
        """
        try:
            done = subprocess.run(
                argv,
                capture_output=True,
                text=True,
                timeout=timeout,
                check=False,
                pass_fds=pass_fds,
            )
        except subprocess.TimeoutExpired:
            return 124, f"{argv[0]} did not end within {timeout:g} s"
        except OSError as error:
            return 127, f"{argv[0]}: {error.strerror}"
        return done.returncode, (done.stdout + done.stderr).strip()

    def trouble(self, volume: Path, generation: int) -> str:
        """Why the node does not run well from the *generation* that is tried, "" when it does."""
        image = (volume / "generations" / str(generation) / "image.squashfs").resolve()
        mounted = _mounted()
        if not mounted:
            return f"nothing is mounted at {IMAGE}"
        if mounted != image.name:
            return NOT_RUN
        joined = JOINED.exists()
        for unit in UNITS if joined else UNITS[:1]:
            status, said = self.run("systemctl", "is-active", unit)
            if status != 0:
                return f"{unit} is {said or 'not active'}"
        endpoint = "--runtime-endpoint=unix:///run/containerd/containerd.sock"
        status, said = self.run(str(IMAGE / "bin/crictl"), "--timeout=5s", endpoint, "info")
        if status != 0:
            return f"containerd does not answer: {_last(said)}"
        if not _runtime_ready(said):
            return "containerd reports that it is not ready"
        return kubelet_trouble() if joined else ""

    def restart(self) -> str:
        """Mount what is active now, run everything from there; gives what went wrong, or ""."""
        self.run("systemctl", "reset-failed", *UNITS)
        status, said = self.run("systemctl", "restart", *MOUNTS, timeout=RESTART)
        running = UNITS if JOINED.exists() else UNITS[:1]
        self.run("systemctl", "start", "--no-block", *running, "kubewright-image-verify.service")
        return f", but not mounted: {_last(said)}" if status else ""


def _mounted() -> str:
    """Name of the image that is mounted now, "" for none."""
    try:
        device = IMAGE.stat().st_dev
        place = Path(f"/sys/dev/block/{os.major(device)}:{os.minor(device)}/loop/backing_file")
        return Path(place.read_text("utf-8").strip()).name
    except OSError:
        return ""


def _runtime_ready(info: str) -> bool:
    """Whether the runtime's own answer says so; its network is none of the image's business."""
    try:
        conditions = json.loads(info)["status"]["conditions"]
    except (ValueError, KeyError, TypeError):
        return False
    return any(one.get("type") == "RuntimeReady" and one.get("status") for one in conditions)


def healthz(configuration: Path) -> tuple[str, int]:
    """Where the kubelet says whether it is healthy; port 0: nowhere."""
    try:
        told = json.loads(configuration.read_bytes())
        address = str(told.get("healthzBindAddress", HEALTHZ[0]))
        port = int(told.get("healthzPort", HEALTHZ[1]))
    except (OSError, ValueError, AttributeError):
        return HEALTHZ
    return ("127.0.0.1" if address in ("", "0.0.0.0") else address), port


def kubelet_trouble(seconds: float = CALL / 2) -> str:
    """Why the kubelet is not healthy by its own word within *seconds*, "" when it is."""
    address, port = healthz(KUBELET)
    if not port:
        return ""  # that it runs has to do
    connection = http.client.HTTPConnection(address, port, timeout=seconds)
    try:
        connection.request("GET", "/healthz")
        status = connection.getresponse().status
    except (OSError, http.client.HTTPException) as error:
        return f"the kubelet does not answer: {error}"
    finally:
        connection.close()
    return "" if status == http.client.OK else f"the kubelet answers with {status}"


def _last(text: str) -> str:
    return (text.splitlines() or ["no message"])[-1][:300]
