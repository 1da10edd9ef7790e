# SPDX-License-Identifier: Apache-2.0
"""What apply and destroy say and do where machines are the user's own: none is made or deleted."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import asdict
from datetime import UTC, datetime
from typing import Any

import pytest

from kubewright.observe import Snapshot
from kubewright.spec.machines import Machine

OWN = """\
plugin: kubewright.cluster.spec
name: demo
version: "1.37"
control_plane: {provider: static, nodes: [{name: alpha, address: 192.0.2.11}]}
pools:
"""
AN_ID = "6c3dac1c-f599-471e-adbe-05639d53c054"
STATIC_POOL = "- {name: web, provider: static, nodes: [{name: beta, address: 192.0.2.12}]}\n"
LOCAL_POOL = "- {name: web, provider: local, size: 1}\n"


@pytest.fixture
def own(world: Any, recorded: Any) -> Callable[[str], None]:
    """Give the cluster a pool; its machines are known."""
    (world.collection / "roles" / "provider_static" / "tasks").mkdir(parents=True)

    def write(pool: str) -> None:
        world.file.write_text(OWN + pool)
        world.paths.state.mkdir(parents=True, exist_ok=True)
        known = [
            asdict(Machine(f"x://{name}", name, "192.0.2.1", (), provider, "", "", "", "on"))
            for name, provider in (("alpha", "static"), ("demo-web-1", "local"))
            if provider in OWN + pool
        ]
        written = {"schema": 1, "cluster": "demo", "written_at": "2026-01-01", "machines": known}
        world.paths.machines.write_text(json.dumps(written))

    return write


def test_status_of_machines_whose_power_nobody_knows(
    world: Any,
    own: Callable[[str], None],
    command: Callable[..., Any],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    own(STATIC_POOL)
    world.paths.machines.unlink()
    ended = command("status")
    assert ended.code == 3
    assert "(machines not checked yet)" in ended.out
    assert "beta  not checked yet\n" in ended.out
    assert "✗ your own machines were not checked yet: run 'kubewright plan'" in ended.out
    assert "no machine" not in ended.out
    own(LOCAL_POOL)
    world.paths.machines.unlink()
    shown = command("status").out
    assert "demo-web-1  no machine\n" in shown and "alpha  not checked yet\n" in shown
    assert "no machines yet: run 'kubewright apply'" in shown
    machines = tuple(
        Machine(f"x://{name}", name, "192.0.2.1", (), provider, "", "", "", "on")
        for name, provider in (("alpha", "static"), ("demo-web-1", "local"))
    )
    now = datetime(2026, 1, 1, tzinfo=UTC)
    seen = Snapshot(cluster="demo", taken_at=now, machines=machines, machines_at=now)
    monkeypatch.setattr("kubewright.cli.status.take", lambda *_: seen)
    shown = command("status").out
    assert "alpha  192.0.2.1\n" in shown
    assert "demo-web-1  power on  192.0.2.1\n" in shown


def test_apply_makes_none_of_them(
    world: Any, own: Callable[[str], None], command: Callable[..., Any]
) -> None:
    own(STATIC_POOL)
    world.paths.machines.unlink()
    assert "\napply checks 2 machines\n" in command("apply", "--yes").err
    own(LOCAL_POOL)
    world.paths.machines.unlink()
    said = "\napply makes 1 machine (demo-web-1) and checks 1 machine\n"
    assert said in command("apply", "--yes").err


@pytest.mark.parametrize(
    ("pool", "said"),
    [
        (
            STATIC_POOL,
            "destroy deletes the keys of demo; alpha, beta stay and are reset, with the loss of "
            "all pods and their data",
        ),
        (
            LOCAL_POOL,
            "destroy deletes all other machines of demo (known: demo-web-1), with all data on "
            "them, and the cluster's keys; alpha stays and is reset, with the loss of all pods and "
            "their data",
        ),
    ],
)
def test_destroy_says_who_stays(
    own: Callable[[str], None], command: Callable[..., Any], pool: str, said: str
) -> None:
    own(pool)
    assert said in command("destroy", "--yes").err.splitlines()


def test_destroy_says_that_machines_of_a_pool_that_went_are_deleted(
    world: Any, own: Callable[[str], None], command: Callable[..., Any]
) -> None:
    own(STATIC_POOL)
    world.paths.state.mkdir(parents=True, exist_ok=True)
    record = {"schema": 1, "file": str(world.file), "ids": [], "providers": ["static", "local"]}
    world.paths.record.write_text(json.dumps(record))
    said = command("destroy", "--yes").err
    assert "destroy deletes all other machines of demo (known: none)" in said


def test_destroy_by_id_names_it(world: Any, recorded: Any, command: Callable[..., Any]) -> None:
    ended = command("destroy", "--yes", "--cluster-id", AN_ID)
    assert f"the machines that carry the id {AN_ID} and the name demo, with all data" in ended.err
    (order,) = recorded.orders
    assert order.extra_vars["kubewright_confirm_destroy"] == AN_ID


@pytest.mark.parametrize("operation", ["destroy", "reset"])
def test_what_is_no_id_is_refused(
    world: Any, recorded: Any, command: Callable[..., Any], operation: str
) -> None:
    """The name above all, which would confirm something else than what was asked for."""
    ended = command(operation, "--yes", "--cluster-id", "demo")
    assert ended.code == 2
    assert "'--cluster-id': Input should be a valid UUID" in ended.err
    assert recorded.orders == []


def test_destroy_of_made_machines(world: Any, recorded: Any, command: Callable[..., Any]) -> None:
    said = (
        "destroy deletes all machines of demo (known: none), with all data on them, "
        "and the cluster's keys"
    )
    assert said in command("destroy", "--yes").err.splitlines()


@pytest.mark.parametrize("pool", [STATIC_POOL, LOCAL_POOL])
def test_a_reset_needs_its_epoch(
    world: Any, recorded: Any, own: Callable[[str], None], command: Callable[..., Any], pool: str
) -> None:
    own(pool)
    world.paths.machines.write_text("half of it {")
    world.paths.store.write_text("half of it {")
    ended = command("destroy", "--yes")
    assert ended.code == 1
    assert f"{world.paths.store} can't be read" in ended.err
    assert "the largest number in /var/lib/kubewright/epoch" in ended.err
    assert recorded.orders == []
    assert world.paths.machines.exists(), "nothing was done"
