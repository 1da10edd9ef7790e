# SPDX-License-Identifier: Apache-2.0
"""A cluster made and removed by the command alone, as its user would, with a state of its own."""

from __future__ import annotations

import json
import os
import queue
import signal
import subprocess
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, cast

import machines
import yaml

REPOSITORY = Path(__file__).resolve().parents[2]
COMMAND = REPOSITORY / ".venv/bin/kubewright"
ANSIBLE_PLAYBOOK = REPOSITORY / ".venv/bin/ansible-playbook"
COLLECTIONS = REPOSITORY / ".venv/share/kubewright"
VERSION = "1.37.2"
POOL = "web"
API_PORT = 7443

#: Limits in seconds, far above what is measured: they end what hangs.
APPLY_LIMIT = 600.0
PLAN_LIMIT = 120.0
DESTROY_LIMIT = 180.0


@dataclass(frozen=True)
class Ended:
    """How a command ended. ``seconds`` is how long it took."""

    status: int
    stdout: str
    stderr: str
    seconds: float

    @property
    def document(self) -> dict[str, Any]:
        """Its stdout as one JSON object."""
        return cast(dict[str, Any], json.loads(self.stdout))

    def succeeded(self) -> Ended:
        """Return itself, or fail with all that the command said."""
        assert self.status == 0, f"exit status {self.status}\n{self.stdout}\n{self.stderr}"
        return self


@dataclass(frozen=True)
class Cluster:
    """Names and directory of a cluster; ``directory`` has cluster.yml and the state."""

    name: str
    directory: Path
    control_plane_size: int = 3
    pool_size: int = 2

    @property
    def control_planes(self) -> list[str]:
        return [f"{self.name}-cp-{index + 1}" for index in range(self.control_plane_size)]

    @property
    def workers(self) -> list[str]:
        return [f"{self.name}-{POOL}-{index + 1}" for index in range(self.pool_size)]

    @property
    def nodes(self) -> list[str]:
        return [*self.control_planes, *self.workers]

    @property
    def api_name(self) -> str:
        return f"api.{self.name}.internal"

    @property
    def state_root(self) -> Path:
        return self.directory / "state"

    @property
    def state(self) -> Path:
        """The cluster's own directory in the state."""
        return self.state_root / self.name

    @property
    def addresses(self) -> dict[str, str]:
        """The machines' addresses by name, of the last listing."""
        listing = json.loads((self.state / "machines.json").read_text())
        return {machine["name"]: machine["address"] for machine in listing["machines"]}

    def write(self) -> None:
        """Write cluster.yml."""
        spec = {
            "plugin": "kubewright.cluster.spec",
            "name": self.name,
            "version": VERSION,
            "control_plane": {"provider": "local", "size": self.control_plane_size},
            "pools": [{"name": POOL, "provider": "local", "size": self.pool_size}],
        }
        self.directory.mkdir(parents=True, exist_ok=True)
        (self.directory / "cluster.yml").write_text(yaml.safe_dump(spec, sort_keys=False))

    def run(self, *arguments: str, limit: float = 60) -> Ended:
        """Run the command to its end."""
        return self.begin(*arguments).ended(limit)

    def begin(self, *arguments: str) -> Running:
        """Start the command."""
        return Running([str(COMMAND), *arguments], self.directory, self.environment())

    def apply(self) -> Ended:
        """Run ``apply`` to its end."""
        return self.run("apply", "--yes", "-o", "json", limit=APPLY_LIMIT)

    def begin_apply(self) -> Running:
        """Start ``apply``."""
        return self.begin("apply", "--yes", "-o", "json")

    def plan(self, *arguments: str) -> Ended:
        """Run ``plan`` to its end."""
        return self.run("plan", "-o", "json", *arguments, limit=PLAN_LIMIT)

    def play_site(self, *arguments: str) -> Ended:
        """Run the playbook of ``apply`` by ansible-playbook alone; its stdout is Ansible's JSON."""
        return self.begin_playbook("site", *arguments).ended(APPLY_LIMIT)

    def begin_playbook(self, name: str, *arguments: str) -> Running:
        """Start a playbook of the collection by ansible-playbook alone."""
        environment = {
            **self.environment(),
            "ANSIBLE_COLLECTIONS_PATH": str(COLLECTIONS),
            "ANSIBLE_STDOUT_CALLBACK": "ansible.posix.json",
            "LC_ALL": "C.UTF-8",
        }
        command = [str(ANSIBLE_PLAYBOOK), "-i", "cluster.yml", f"kubewright.cluster.{name}"]
        return Running([*command, *arguments], self.directory, environment)

    def destroy(self) -> Ended:
        """Run ``destroy`` to its end."""
        return self.run("destroy", "--yes", limit=DESTROY_LIMIT)

    def clear_away(self) -> None:
        """Remove what tests that were killed have left of a cluster of this name."""
        for owner in sorted(machines.owners(self.name)):
            words = ["destroy", "--yes", "--cluster-id", owner]
            self.run(*words, limit=DESTROY_LIMIT).succeeded()
        self.destroy().succeeded()

    def environment(self) -> dict[str, str]:
        """The caller's environment, with a state of this cluster's own."""
        return {**os.environ, "KUBEWRIGHT_STATE_DIR": str(self.state_root), "NO_COLOR": "1"}


@dataclass
class Running:
    """A command that runs; its progress lines can be waited for."""

    command: Sequence[str]
    directory: Path
    environment: dict[str, str]
    _said: list[str] = field(default_factory=list)
    _lines: queue.Queue[str | None] = field(default_factory=queue.Queue)

    def __post_init__(self) -> None:
        self._started = time.monotonic()
        self._process = subprocess.Popen(
            self.command,
            cwd=self.directory,
            env=self.environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        self._answer: list[str] = []
        self._readers = [
            threading.Thread(target=self._read_progress, daemon=True),
            threading.Thread(target=self._read_answer, daemon=True),
        ]
        for reader in self._readers:
            reader.start()

    def __enter__(self) -> Running:
        return self

    def __exit__(self, *error: object) -> None:
        self._stop()

    @property
    def pid(self) -> int:
        """Its process id."""
        return self._process.pid

    @property
    def said(self) -> str:
        """Its stderr so far."""
        return "".join(self._said)

    def wait_for_line(self, text: str, limit: float) -> None:
        """Wait until it writes a line with ``text`` to stderr."""
        deadline = time.monotonic() + limit
        while True:
            try:
                line = self._lines.get(timeout=max(0.0, deadline - time.monotonic()))
            except queue.Empty:
                raise AssertionError(f"no {text!r} within {limit:.0f} s:\n{self.said}") from None
            assert line is not None, f"ended without {text!r}:\n{self.said}"
            if text in line:
                return

    def kill(self) -> None:
        """End it by SIGKILL: that process alone, as the kernel's out-of-memory killer would."""
        assert self._process.poll() is None, f"ended before it was killed:\n{self.said}"
        self._process.kill()
        status = self._process.wait(30)
        assert status == -signal.SIGKILL, f"status {status}:\n{self.said}"

    def ended(self, limit: float) -> Ended:
        """Wait for its end; an overdue or interrupted command is ended first."""
        try:
            status = self._process.wait(limit)
        except subprocess.TimeoutExpired:
            self._stop()
            raise AssertionError(f"not ended after {limit:.0f} s:\n{self.said}") from None
        except BaseException:
            self._stop()
            raise
        # Something that outlives the command may keep the pipes open.
        for reader in self._readers:
            reader.join(5)
        seconds = time.monotonic() - self._started
        return Ended(status, "".join(self._answer), self.said, seconds)

    def _stop(self) -> None:
        """Ask it to end if it has not ended, then make it."""
        self._process.terminate()
        try:
            self._process.wait(60)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait(30)

    def _read_progress(self) -> None:
        assert self._process.stderr is not None
        for line in self._process.stderr:
            self._said.append(line)
            self._lines.put(line)
        self._lines.put(None)

    def _read_answer(self) -> None:
        assert self._process.stdout is not None
        self._answer.extend(self._process.stdout)
