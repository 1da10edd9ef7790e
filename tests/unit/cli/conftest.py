# SPDX-License-Identifier: Apache-2.0
"""A collection of two small playbooks, so that commands run through Ansible without a machine."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from recorded_apply import HOSTS

from kubewright.act import Event, Result
from kubewright.act.events import Tally
from kubewright.act.playbook import Order
from kubewright.cli.app import run
from kubewright.locations import ClusterPaths
from kubewright.spec.machines import Machine

ROOT = Path(__file__).parents[3]

CLUSTER = """\
plugin: kubewright.cluster.spec
name: demo
version: "1.37"
control_plane: {provider: local, size: 3}
pools: [{name: web, provider: local, size: 1}]
"""

GOOD_SITE = """\
- name: Create the machines
  hosts: kubewright
  connection: local
  gather_facts: false
  tasks:
    - name: Make one
      ansible.builtin.command: "true"
- name: Nobody is here
  hosts: pool_nowhere
  gather_facts: false
  tasks:
    - name: Do nothing
      ansible.builtin.command: "true"
"""
LOOK = """\
- name: Look
  hosts: localhost
  gather_facts: false
  tasks:
    - name: Tell the epoch
      ansible.builtin.debug: {msg: "epoch {{ kubewright_epoch }} of {{ kubewright_cluster_name }}"}
"""


@dataclass(frozen=True)
class World:
    """A directory with a cluster.yml, a collection and a state directory."""

    directory: Path
    file: Path
    collection: Path
    paths: ClusterPaths

    def playbook(self, name: str, text: str) -> None:
        """Give the collection a playbook."""
        (self.collection / "playbooks" / f"{name}.yml").write_text(text)


@pytest.fixture
def world(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> World:
    collections = tmp_path / "share"
    collection = collections / "ansible_collections" / "kubewright" / "cluster"
    (collection / "plugins" / "inventory").mkdir(parents=True)
    (collection / "playbooks").mkdir()
    (collection / "roles" / "provider_local" / "tasks").mkdir(parents=True)
    shutil.copy(ROOT / "plugins" / "inventory" / "spec.py", collection / "plugins" / "inventory")
    for name in ("module_utils", "plugin_utils"):
        (collection / "plugins" / name).symlink_to(ROOT / "plugins" / name)
    file = tmp_path / "cluster.yml"
    file.write_text(CLUSTER)
    monkeypatch.setenv("KUBEWRIGHT_STATE_DIR", str(tmp_path / "state"))
    monkeypatch.setenv("KUBEWRIGHT_CACHE_DIR", str(tmp_path / "cache"))
    monkeypatch.setenv("NO_COLOR", "1")
    monkeypatch.delenv("FORCE_COLOR", raising=False)
    monkeypatch.setattr("kubewright.act.environment.collections_path", lambda: collections)
    monkeypatch.setattr("kubewright.spec.loading.collection_dir", lambda: collection)
    monkeypatch.setattr("kubewright.operate.converge.build", lambda *_: [])
    monkeypatch.chdir(tmp_path)
    made = World(tmp_path, file, collection, ClusterPaths(tmp_path / "state" / "demo"))
    made.playbook("site", GOOD_SITE + LOOK)
    made.playbook("destroy", LOOK)
    return made


@dataclass
class Recorded:
    """Stands for ansible-playbook: plays raw events by playbook, and notes what was ordered."""

    events: dict[str, list[dict[str, Any]]] = field(default_factory=dict)
    failed: set[str] = field(default_factory=set)
    orders: list[Order] = field(default_factory=list)
    log_error: str = ""

    def ended(
        self,
        playbook: str,
        task: str,
        *hosts: str,
        kind: str = "ok",
        action: str = "ansible.builtin.command",
        **result: Any,
    ) -> None:
        """A task of a playbook ends on hosts: ``ok``, ``failed`` or ``unreachable``."""
        for host in hosts:
            data = {"host": host, "task": task, "task_action": action, "task_uuid": "1"}
            self.events.setdefault(playbook, []).append(
                {
                    "event": f"runner_on_{kind}",
                    "created": "2026-01-01T00:00:01+00:00",
                    "event_data": {**data, "res": result},
                }
            )

    def __call__(self, order: Order, on_event: Callable[[Event], None], cancel: object) -> Result:
        self.orders.append(order)
        name = order.playbook.rpartition(".")[2]
        tally = Tally()
        for raw in self.events.get(name, []):
            told = tally.feed(raw)
            if told is not None:
                on_event(told)
        bad = name in self.failed
        return Result(
            run=order.run,
            playbook=order.playbook,
            status="failed" if bad else "successful",
            changed=tally.changed,
            host_tasks=tally.host_tasks(),
            host_task_counts=dict(tally.host_counts),
            failures=tally.failures() if bad else (),
            seconds=1.0,
            phases=(),
            log=order.directory / "log.txt",
            log_error=self.log_error,
            answers=dict(tally.answers),
            findings=tally.findings,
            unreachable=dict(tally.unreachable),
            changes=tuple(tally.changes),
            waves=tally.waves,
        )


@pytest.fixture
def recorded(world: World, monkeypatch: pytest.MonkeyPatch) -> Recorded:
    """Never without a world: what is run must not take this machine's own cluster for its own."""
    made = Recorded()
    monkeypatch.setattr("kubewright.act.session.playbook.run", made)
    return made


@dataclass(frozen=True)
class Ended:
    """How a command ended."""

    code: int
    out: str
    err: str


@pytest.fixture
def command(capfd: pytest.CaptureFixture[str]) -> Callable[..., Ended]:
    def call(*words: str) -> Ended:
        capfd.readouterr()
        code = run(list(words))
        out, err = capfd.readouterr()
        return Ended(code, out, err)

    return call


@pytest.fixture
def machines(world: Any) -> None:
    """The cluster has its four machines, and has begun."""
    known = [
        asdict(Machine(f"local://{name}", name, "192.0.2.1", (), "local", "", "", "", "on"))
        for name in HOSTS
    ]
    world.paths.identity.mkdir(parents=True)
    at = datetime(2026, 1, 1, tzinfo=UTC).isoformat()
    written = {"schema": 1, "cluster": "demo", "written_at": at, "machines": known}
    world.paths.machines.write_text(json.dumps(written))
    world.paths.kubeconfig.write_text("{}")
    (world.paths.identity / "cluster.json").write_text('{"begun": true}')
