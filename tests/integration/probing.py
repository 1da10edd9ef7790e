# SPDX-License-Identifier: Apache-2.0
"""Probers on several nodes at once, each asking one place ten times a second."""

from __future__ import annotations

import json
import subprocess
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import machines
from machines import IMAGE_ROOT

SCRIPT = Path(__file__).with_name("prober.py")
DIRECTORY = "/run/kubewright-test"
RATE = 10
SECONDS = 60
#: The longest that probers go on by themselves.
LONGEST = 900
#: A probe that began this many seconds late says that the host was too busy to measure.
SCHEDULE = 1.0


@dataclass(frozen=True)
class Seen:
    """What the prober of one node saw; times are seconds after its first probe."""

    probes: int
    failed: Sequence[Mapping[str, Any]]
    latest_start: float
    slowest: float


@dataclass(frozen=True)
class Probe:
    """Who asks what: ``node``, from the network of a ``pod`` there, else from its own.

    ``says`` is what the answer has to contain. ``name``: that in the server's certificate, for TLS
    with the administrator's ``credentials``.
    """

    node: str
    address: str
    port: int
    path: str
    says: str
    pod: str = ""
    name: str = ""
    credentials: Mapping[str, bytes] = field(default_factory=dict)

    @property
    def label(self) -> str:
        """For messages, and unique."""
        return f"{self.pod or self.node} -> {self.address}:{self.port}"

    def told(self, seconds: int) -> str:
        """What `prober.py` is told."""
        told = {"address": self.address, "port": self.port, "path": self.path, "says": self.says}
        sealed = {"name": self.name, "directory": DIRECTORY} if self.credentials else {}
        return json.dumps({**told, **sealed, "rate": RATE, "seconds": seconds})


def of_api(node: str, credentials: Mapping[str, bytes], api_name: str, port: int) -> Probe:
    """Reads of the API through the node's own balancer."""
    path, says = "/api/v1/namespaces/default", '"name":"default"'
    return Probe(node, "127.0.0.1", port, path, says, name=api_name, credentials=credentials)


class Probers:
    """Probers that stand ready, and begin at one moment."""

    def __init__(self, probes: Sequence[Probe], seconds: int = SECONDS) -> None:
        self._seconds = seconds
        self._running: dict[str, subprocess.Popen[str]] = {}
        try:
            for probe in probes:
                self._running[probe.label] = _start(probe, seconds)
            for label, process in self._running.items():
                assert process.stdout is not None
                assert process.stdout.readline() == "ready\n", f"no prober: {label}"
        except BaseException:
            self.stop()
            raise

    def begin(self, moment: float) -> None:
        """Let the first probe be at ``moment`` of CLOCK_MONOTONIC, in seconds."""
        for process in self._running.values():
            assert process.stdin is not None
            process.stdin.write(f"{moment}\n")
            process.stdin.flush()

    def finish(self) -> dict[str, Seen]:
        """Wait for the last probes; return what each prober saw, by its label."""
        seen = {}
        for label, process in self._running.items():
            # While its stdin is open, it probes on.
            process.wait(self._seconds + 30)
            stdout, stderr = process.communicate()
            assert process.returncode == 0, f"{label}: {stderr}"
            seen[label] = Seen(**json.loads(stdout))
        return seen

    def enough(self) -> dict[str, Seen]:
        """The same as of now."""
        for process in self._running.values():
            assert process.stdin is not None
            process.stdin.write("enough\n")
            process.stdin.flush()
        return self.finish()

    def stop(self) -> None:
        """End probers that have not ended: without a moment to begin at, they end themselves."""
        for process in self._running.values():
            for pipe in (process.stdin, process.stdout, process.stderr):
                if pipe is not None and not pipe.closed:
                    pipe.close()
            process.kill()
            process.wait(10)


class Throughout:
    """Within it probers ask without a break. What they saw is told by `none_failed` afterwards."""

    def __init__(self, probes: Sequence[Probe]) -> None:
        self._probes = probes
        self._seconds = 0.0
        self._seen: dict[str, Seen] = {}

    def __enter__(self) -> Throughout:
        self._probers = Probers(self._probes, LONGEST)
        self._begun = time.monotonic()
        self._probers.begin(self._begun)
        return self

    def __exit__(self, kind: object, error: object, trace: object) -> None:
        try:
            if kind is None:
                self._seconds = time.monotonic() - self._begun
                self._seen = self._probers.enough()
        finally:
            self._probers.stop()

    @property
    def slowest(self) -> float:
        """Seconds that the slowest probe took."""
        return max(result.slowest for result in self._seen.values())

    def none_failed(self) -> None:
        """Fail where a probe failed, or where there was none for a while."""
        none_failed(self._seen, int(self._seconds * RATE))


def none_failed(seen: Mapping[str, Seen], probes: int) -> None:
    """Fail where a probe failed, where there were fewer than so many, or where they came late."""
    failed = [f"{label}: {failure}" for label, result in seen.items() for failure in result.failed]
    assert not failed, "\n".join(failed)
    late = {label: result.latest_start for label, result in seen.items()}
    assert max(late.values()) < SCHEDULE, f"the host was too busy to measure: {late}"
    made = {label: result.probes for label, result in seen.items()}
    assert min(made.values()) >= probes, f"not {probes} probes each: {made}"


def _start(probe: Probe, seconds: int) -> subprocess.Popen[str]:
    machines.run_on(probe.node, ["mkdir", "-p", "-m", "700", DIRECTORY])
    for name, content in probe.credentials.items():
        machines.put(probe.node, f"{DIRECTORY}/{name}", content)
    machines.put(probe.node, f"{DIRECTORY}/prober.py", SCRIPT.read_bytes())
    inside = ["nsenter", f"--net={_network(probe.node, probe.pod)}"] if probe.pod else []
    command = [*inside, "python3", f"{DIRECTORY}/prober.py", probe.told(seconds)]
    return subprocess.Popen(
        ["podman", "exec", "-i", machines.container(probe.node), *command],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def _network(node: str, pod: str) -> str:
    """The network namespace of a pod that runs on a node, as a path there."""
    crictl = [f"{IMAGE_ROOT}/bin/crictl"]
    (found,) = machines.run_on(
        node, [*crictl, "pods", "--quiet", "--state=ready", f"--name=^{pod}$"]
    ).split()
    inspected = json.loads(machines.run_on(node, [*crictl, "inspectp", found]))
    spaces = inspected["info"]["runtimeSpec"]["linux"]["namespaces"]
    (path,) = (space["path"] for space in spaces if space["type"] == "network")
    return str(path)
