# SPDX-License-Identifier: Apache-2.0
"""The command's cluster: made and timed, applied again, changed, and always removed."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import recap
import yaml
from measured import Repeats, Run, Timed
from neighbour import (
    APPLY_LIMIT,
    REPOSITORY,
    VERSION,
    Cluster,
    Kube,
    NotYet,
    Running,
    TimedOut,
    until,
)
from telling import say, unbothered

NAME = "kwbench"
#: What is changed of the pool: how many pods a kubelet takes. Its default is 110.
MAX_PODS = 120
#: The part of a time that lies in no play: start of the command, of Ansible, and their ends.
OUTSIDE = "outside the plays"
#: Seconds until the API shows what a kubelet that was restarted says of its node.
CAPACITY_LIMIT = 60.0


@dataclass(frozen=True)
class Created:
    """How long a whole cluster took, and what that cost in host-tasks and machines."""

    timed: Timed
    host_tasks: int
    contacted: int


@contextmanager
def fresh(directory: Path) -> Iterator[Cluster]:
    """A cluster that is not there yet; at the end it is removed, whatever happens."""
    made = Cluster(NAME, directory)
    made.write()
    _remove(made)  # what a run that was killed has left
    try:
        yield made
    finally:
        with unbothered():
            _remove(made)


def create(made: Cluster) -> Created:
    """Apply the first time: ends with all nodes Ready and DNS available."""
    ended = made.apply().succeeded()
    document = ended.document
    phases: dict[str, float] = {}
    for phase in document["phases"]:
        phases[phase["name"]] = phases.get(phase["name"], 0.0) + phase["seconds"]
    # Each phase is rounded: together they may be longer than the whole by a fraction of a second.
    phases[OUTSIDE] = max(0.0, ended.seconds - sum(phases.values()))
    run = _run(ended.seconds, document)
    return Created(Timed(ended.seconds, phases), run.host_tasks, run.contacted)


def repeats(made: Cluster, scratch: Path) -> Repeats:
    """Apply a cluster that is there: twice as it is, then with one change to its pool.

    ``scratch`` is a directory of its own for credentials and kubectl.
    """
    broken: list[str] = []

    say("unchanged: kubewright apply")
    ended = made.apply().succeeded()
    unchanged = _run(ended.seconds, ended.document)
    if ended.document["changed"]:
        broken.append(f"apply of an unchanged cluster changed something\n{ended.stderr}")

    say("unchanged: ansible-playbook")
    by_playbook, touched = _playbook(made)
    if touched:
        broken.append(
            f"the playbook of an unchanged cluster changed something on {_names(touched)}"
        )

    say(f"one change: maxPods {MAX_PODS} in the pool")
    _change(made)
    ended = made.apply().succeeded()
    one_change = _run(ended.seconds, ended.document)
    touched = _changed_hosts(ended.document)
    if touched != frozenset(made.workers):
        broken.append(
            f"a change of the pool changed {_names(touched)}, not {_names(frozenset(made.workers))}"
        )
    broken += _capacity(made, scratch)
    return Repeats(unchanged, by_playbook, one_change, tuple(broken))


def _remove(made: Cluster) -> None:
    """Remove the cluster; once more where that failed: Ctrl-C reaches that command, too."""
    if made.destroy().status != 0:
        made.destroy().succeeded()


def _run(seconds: float, document: Mapping[str, Any]) -> Run:
    """Return the costs that the JSON document of an apply tells."""
    contacted = [name for name, count in document["host_task_counts"].items() if count]
    changed = _changed_hosts(document)
    return Run(seconds, sum(document["host_tasks"].values()), len(contacted), len(changed))


def _changed_hosts(document: Mapping[str, Any]) -> frozenset[str]:
    """Return the machines that an apply changed: only the log tells them by name."""
    return recap.changed(recap.of_machines(recap.parse(Path(document["log"]).read_text())))


def _playbook(made: Cluster) -> tuple[Run, frozenset[str]]:
    """Apply without the command; return the costs, and who changed (the controller included)."""
    environment = {
        **made.environment(),
        "ANSIBLE_COLLECTIONS_PATH": str(REPOSITORY / ".venv/share/kubewright"),
        "ANSIBLE_NOCOLOR": "1",
        "LC_ALL": "C.UTF-8",  # Ansible refuses to start in a locale that is not UTF-8
    }
    program = str(REPOSITORY / ".venv/bin/ansible-playbook")
    words = [program, "-i", "cluster.yml", "kubewright.cluster.site"]
    ended = Running(words, made.directory, environment).ended(APPLY_LIMIT).succeeded()
    counts = recap.parse(ended.stdout)
    machines = recap.of_machines(counts)
    run = Run(
        ended.seconds,
        sum(count.host_tasks for count in machines.values()),
        len(machines),
        len(recap.changed(machines)),
    )
    return run, recap.changed(counts)


def _change(made: Cluster) -> None:
    """Write cluster.yml with another kubelet configuration for the pool."""
    file = made.directory / "cluster.yml"
    spec = yaml.safe_load(file.read_text())
    spec["pools"][0]["kubelet_args"] = {"maxPods": MAX_PODS}
    file.write_text(yaml.safe_dump(spec, sort_keys=False))


def _capacity(made: Cluster, scratch: Path) -> list[str]:
    """Return what is wrong with the workers' room for pods, as the API shows it."""
    scratch.mkdir(mode=0o700)
    kubeconfig = scratch / "kubeconfig"
    kubeconfig.write_text(made.run("kubeconfig").succeeded().stdout)
    kube = Kube(kubeconfig, _kubectl(made, scratch / "kubectl"))

    def look() -> None:
        listed = json.loads(kube.kubectl("get", "nodes", *made.workers, "--output=json"))["items"]
        room = {node["metadata"]["name"]: node["status"]["capacity"]["pods"] for node in listed}
        if room != dict.fromkeys(made.workers, str(MAX_PODS)):
            raise NotYet(f"it is {room}")

    try:
        until(f"room for {MAX_PODS} pods on each worker", look, CAPACITY_LIMIT)
    except TimedOut as error:
        return [str(error)]
    return []


def _kubectl(made: Cluster, target: Path) -> Path:
    """Take kubectl out of the newest system image."""
    images = json.loads(made.run("image", "list", "--output", "json").succeeded().stdout)
    fitting = [image for image in images if image["kubernetes"] == VERSION]
    newest = max(fitting, key=lambda image: str(image["built_at"]))
    with target.open("wb") as file:
        subprocess.run(
            ["unsquashfs", "-cat", newest["path"], "bin/kubectl"],
            check=True,
            stdout=file,
            timeout=60,
        )
    target.chmod(0o700)
    return target


def _names(hosts: frozenset[str]) -> str:
    return ", ".join(sorted(hosts)) or "no machine"
