# SPDX-License-Identifier: Apache-2.0
"""Probers on several nodes at once, each through its own node's balancer."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import machines

SCRIPT = Path(__file__).with_name("prober.py")
DIRECTORY = "/run/kubewright-test"
RATE = 10
SECONDS = 60


@dataclass(frozen=True)
class Seen:
    """What the prober of one node saw; times are seconds after its first probe."""

    probes: int
    failed: Sequence[Mapping[str, Any]]
    latest_start: float
    slowest: float


class Probers:
    """Probers that stand ready on some nodes, and begin at one moment."""

    def __init__(
        self,
        nodes: Sequence[str],
        credentials: Mapping[str, bytes],
        api_name: str,
        port: int,
        seconds: int = SECONDS,
    ) -> None:
        self._seconds = seconds
        self._running: dict[str, subprocess.Popen[str]] = {}
        arguments = [DIRECTORY, api_name, str(port), str(RATE), str(RATE * seconds)]
        try:
            for node in nodes:
                machines.run_on(node, ["mkdir", "-p", "-m", "700", DIRECTORY])
                for name, content in credentials.items():
                    machines.put(node, f"{DIRECTORY}/{name}", content)
                machines.put(node, f"{DIRECTORY}/prober.py", SCRIPT.read_bytes())
                enter = ["podman", "exec", "-i", machines.container(node)]
                self._running[node] = subprocess.Popen(
                    [*enter, "python3", f"{DIRECTORY}/prober.py", *arguments],
                    stdin=subprocess.PIPE,
                    stdout=subprocess.PIPE,
                    stderr=subprocess.PIPE,
                    text=True,
                )
            for node, process in self._running.items():
                assert process.stdout is not None
                assert process.stdout.readline() == "ready\n", f"no prober on {node}"
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
        """Wait for the last probes; return what each node's prober saw."""
        seen = {}
        for node, process in self._running.items():
            stdout, stderr = process.communicate(timeout=self._seconds + 30)
            assert process.returncode == 0, f"prober on {node}: {stderr}"
            seen[node] = Seen(**json.loads(stdout))
        return seen

    def stop(self) -> None:
        """End probers that have not ended: without a moment to begin at, they end themselves."""
        for process in self._running.values():
            for pipe in (process.stdin, process.stdout, process.stderr):
                if pipe is not None and not pipe.closed:
                    pipe.close()
            process.kill()
            process.wait(10)
