# SPDX-License-Identifier: Apache-2.0
"""A job as AWX starts it: its private data directory, and ansible-runner over it.

What AWX does was read from its ``awx/main/tasks/jobs.py`` and the injectors of its credentials: the
inventory is a script that prints what the database knows, the key goes to an agent, credentials are
files below ``env`` that extra variables name, and nothing is left when the job is over. The
execution environment's container is not part of it: the job runs with the Python that runs this.
"""

from __future__ import annotations

import json
import os
import shlex
import shutil
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, cast

import yaml

BIN = Path(sys.executable).parent
#: Seconds; ends what hangs.
LIMIT = 1200.0


@dataclass(frozen=True)
class Job:
    """What a job template and its credentials say.

    ``playbook`` is a file of ``project``; ``files`` are what credential types inject: their text by
    the extra variable that names the file. ``private_key`` is text, or empty for none.
    """

    project: Path
    playbook: str
    inventory: Mapping[str, Any]
    private_key: str = ""
    extra_vars: Mapping[str, Any] = field(default_factory=dict)
    files: Mapping[str, str] = field(default_factory=dict)
    environment: Mapping[str, str] = field(default_factory=dict)
    check: bool = False
    limit: str = ""
    number: int = 42


@dataclass(frozen=True)
class Ended:
    """How a job ended; ``events`` are those that AWX would keep."""

    status: int
    output: str
    events: tuple[dict[str, Any], ...]

    def result(self, task: str, host: str = "localhost") -> dict[str, Any]:
        """The result of a task on a host, the last one of that name."""
        for event in reversed(self.events):
            data = event.get("event_data", {})
            if (data.get("task"), data.get("host")) == (task, host) and "res" in data:
                return cast(dict[str, Any], data["res"])
        raise AssertionError(f"no result of {task!r} on {host}\n{self.output}")


def imported(source: Path, environment: Mapping[str, str]) -> dict[str, Any]:
    """What AWX's database has after an update of an inventory from a file of a project.

    Groups and hosts with their variables, as its script prints them.
    """
    done = subprocess.run(
        [BIN / "ansible-inventory", "--list", "--export", "-i", source],
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        timeout=LIMIT,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return cast(dict[str, Any], json.loads(done.stdout))


def build(job: Job, directory: Path) -> Path:
    """Make the private data directory of a job in an empty or missing directory; return it."""
    for part in ("env", "inventory", "cp"):
        (directory / part).mkdir(parents=True, mode=0o700)
    directory.chmod(0o700)
    shutil.copytree(job.project, directory / "project", ignore=shutil.ignore_patterns(".git"))
    words = ["--check"] if job.check else []
    words += ["-u", "root"]
    if job.limit:
        words += ["-l", job.limit]
    injected = {}
    for number, (variable, text) in enumerate(job.files.items()):
        path = directory / "env" / f"tmp{number}"
        _write(path, text, 0o660)
        injected[variable] = str(path)
    if injected:
        path = directory / "env" / "tmpvars"
        _write(path, yaml.safe_dump(injected), 0o440)
        words += ["-e", f"@{path}"]
    _write(directory / "env" / "cmdline", shlex.join(words))
    variables = {**job.extra_vars, "awx_job_id": job.number, "tower_job_id": job.number}
    _write(directory / "env" / "extravars", yaml.safe_dump(variables))
    _write(directory / "env" / "passwords", json.dumps({r"Enter passphrase for .*:\s*?$": ""}))
    _write(directory / "env" / "envvars", yaml.safe_dump(_environment(job, directory)))
    settings = {"suppress_ansible_output": True, "suppress_output_file": True}
    _write(directory / "env" / "settings", json.dumps(settings))
    if job.private_key:
        _write(directory / "env" / "ssh_key", job.private_key.rstrip("\n") + "\n")
    script = f"#! {sys.executable}\nprint({json.dumps(job.inventory)!r})\n"
    _write(directory / "inventory" / "hosts", script, 0o700)
    return directory


def run(job: Job, directory: Path) -> Ended:
    """Run a job to its end in a directory that is made for it."""
    build(job, directory)
    done = subprocess.run(
        [BIN / "ansible-runner", "run", directory, "-p", job.playbook, "-i", str(job.number)],
        env={**os.environ, "PATH": f"{BIN}:{os.environ.get('PATH', os.defpath)}"},
        capture_output=True,
        text=True,
        timeout=LIMIT,
        check=False,
    )
    folder = directory / "artifacts" / str(job.number) / "job_events"
    events = [json.loads(path.read_text()) for path in folder.glob("*-*.json")]
    events.sort(key=lambda event: int(event["counter"]))
    output = "\n".join(str(event.get("stdout", "")) for event in events)
    return Ended(done.returncode, f"{output}\n{done.stdout}{done.stderr}", tuple(events))


def _environment(job: Job, directory: Path) -> dict[str, str]:
    """AWX's own variables. Host keys it leaves to ansible-runner, which does not check them."""
    return {
        "JOB_ID": str(job.number),
        "INVENTORY_ID": "1",
        "AWX_PRIVATE_DATA_DIR": str(directory),
        "ANSIBLE_FORCE_COLOR": "True",
        "ANSIBLE_RETRY_FILES_ENABLED": "False",
        "ANSIBLE_INVENTORY_UNPARSED_FAILED": "True",
        "ANSIBLE_SSH_CONTROL_PATH_DIR": str(directory / "cp"),
        **job.environment,
    }


def _write(path: Path, text: str, mode: int = 0o600) -> None:
    path.touch(mode=0o600)
    path.write_text(text, encoding="utf-8")
    path.chmod(mode)


def secrets_of(private_keys: Sequence[str]) -> list[str]:
    """The middle lines of private keys: what must be found nowhere."""
    return [line for key in private_keys for line in key.splitlines()[1:-1]]
