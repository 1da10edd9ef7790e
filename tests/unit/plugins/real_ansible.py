# SPDX-License-Identifier: Apache-2.0
"""The real ansible-playbook with the checkout's collection, in a directory of a test."""

from __future__ import annotations

import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

PLAYBOOK = Path(sys.executable).with_name("ansible-playbook")
#: A control plane and a worker, both of which are this machine. Wants `state` and `python`.
INVENTORY = """\
all:
  vars:
    kubewright_cluster_name: demo
    kubewright_version: 1.37.2
    kubewright_state_dir: {state}
    ansible_connection: local
    ansible_python_interpreter: {python}
  children:
    control_plane: {{hosts: {{a: {{ansible_host: 192.0.2.1}}}}}}
    pool_web: {{hosts: {{b: {{ansible_host: 192.0.2.2}}}}}}
"""


@dataclass(frozen=True)
class Ansible:
    """``directory``: where it runs and keeps its temporary files. ``collections``: with ours."""

    directory: Path
    collections: Path

    def environment(self, **more: str) -> dict[str, str]:
        """The same output everywhere, and nothing written in anybody's home."""
        return {
            **os.environ,
            "ANSIBLE_COLLECTIONS_PATH": str(self.collections),
            "ANSIBLE_LOCALHOST_WARNING": "false",
            "ANSIBLE_LOCAL_TEMP": str(self.directory / "local"),
            "ANSIBLE_NOCOLOR": "1",
            "ANSIBLE_REMOTE_TEMP": str(self.directory / "remote"),
            "LC_ALL": "C.UTF-8",
            **more,
        }

    def play(self, *words: str | Path, **more: str) -> subprocess.CompletedProcess[str]:
        """Run ansible-playbook with words, and more in its environment."""
        return self._run([PLAYBOOK, *words], more)

    def play_apart(self, script: str, **more: str) -> subprocess.CompletedProcess[str]:
        """Run a shell script whose mounts nobody else sees; it starts ansible-playbook itself."""
        return self._run(["unshare", "--mount", "sh", "-c", script], more)

    def _run(
        self, command: list[str | Path], more: dict[str, str]
    ) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            command,
            cwd=self.directory,
            env=self.environment(**more),
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            check=False,
        )
