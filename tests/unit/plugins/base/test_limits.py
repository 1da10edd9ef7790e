# SPDX-License-Identifier: Apache-2.0
"""A module that hangs ends, with the node's lock; where it can't, nobody waits for it."""

from __future__ import annotations

import importlib
import json
import multiprocessing
import signal
import subprocess
import sys
import textwrap
import threading
import time
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from unittest import mock

import pytest
import yaml
from ansible.errors import AnsibleConnectionFailure
from ansible_collections.kubewright.cluster.plugins.action import kubeadm
from ansible_collections.kubewright.cluster.plugins.doc_fragments import fence
from ansible_collections.kubewright.cluster.plugins.module_utils._base import limits
from ansible_collections.kubewright.cluster.plugins.module_utils._check import refusals
from ansible_collections.kubewright.cluster.plugins.plugin_utils import _on_node

CHECKOUT = Path(__file__).resolve().parents[4]
RUNTIME = yaml.safe_load((CHECKOUT / "meta/runtime.yml").read_text())
READERS = [
    "cluster_ready",
    "etcd_info",
    "node_state",
    "node_traffic",
    "node_up",
    "system_image_info",
]
MODULES = sorted([*RUNTIME["action_groups"]["node"], *READERS])
#: What no connection is made for.
HERE = (
    "assert",
    "debug",
    "fail",
    "include_role",
    "include_tasks",
    "import_tasks",
    "meta",
    "set_fact",
)
HANG = """
    import os, sys
    from pathlib import Path
    sys.path.append(sys.argv[1])
    from ansible_collections.kubewright.cluster.plugins.module_utils._base import limits
    from ansible_collections.kubewright.cluster.plugins.module_utils._fence import fencing
    fencing.LOCK_DIRECTORY = Path(sys.argv[2])
    path = Path(sys.argv[2], "pipe")
    os.mkfifo(path)
    with fencing.node_lock(None, 1, limit=0.3, writes=False):
        pass
    (Path(sys.argv[2]) / "node.lock").touch()

    def compare(path):
        path.read_bytes()  # nobody writes into it

    with fencing.node_lock(None, 1, limit=0.5, writes=False):
        compare(path)
"""


def test_a_module_that_hangs_ends_and_says_where(tmp_path: Path, collections_path: Path) -> None:
    began = time.monotonic()
    words = [sys.executable, "-c", textwrap.dedent(HANG), str(collections_path), str(tmp_path)]
    done = subprocess.run(words, capture_output=True, text=True, timeout=60)
    assert time.monotonic() - began < 30
    told = json.loads(done.stdout)
    assert told == {
        "failed": True,
        "hung": True,
        "changed": False,
        "msg": f"This machine did not answer within 0.5 s: it hangs at {tmp_path}/pipe",
    }
    free = subprocess.run(["flock", "--nonblock", str(tmp_path / "node.lock"), "true"])
    assert free.returncode == 0, "the lock is gone with it"


COMMAND = """
    import sys
    from pathlib import Path
    sys.path.append(sys.argv[1])
    from ansible_collections.kubewright.cluster.plugins.module_utils._base import commands, limits

    def look(path):
        commands.SystemRunner()(["sleep", "30"])

    with limits.ends_within(0.3):
        look(Path("/etc/kubernetes/pki/ca.crt"))  # which is not what hangs
"""


def test_a_command_that_hangs_is_named(collections_path: Path) -> None:
    words = [sys.executable, "-c", textwrap.dedent(COMMAND), str(collections_path)]
    done = subprocess.run(words, capture_output=True, text=True, timeout=25)
    assert json.loads(done.stdout)["msg"].endswith(": it hangs at `sleep 30`")


def test_who_is_done_in_time_is_left_alone() -> None:
    with limits.ends_within(0.2):
        pass
    time.sleep(0.4)  # it would have ended this test's process


@pytest.mark.parametrize("name", MODULES)
def test_each_module_on_nodes_has_a_limit_on_both_sides(name: str) -> None:
    action = importlib.import_module(
        f"ansible_collections.kubewright.cluster.plugins.action.{name}"
    )
    assert issubclass(action.ActionModule, _on_node.NodeAction)
    text = (CHECKOUT / f"plugins/modules/{name}.py").read_text()
    assert ("fencing.node_lock(" in text) is not ("limits.ends_within(" in text)
    # With its marks: who only waits for the lock is called again, who hangs is not.
    assert "(**failure(error)" in text
    if name in {*limits.MODULES, *limits.TIMEOUTS}:
        assert f'limits.work("{name}", ' in text
    document = yaml.safe_load(
        importlib.import_module(
            f"ansible_collections.kubewright.cluster.plugins.modules.{name}"
        ).DOCUMENTATION
    )["options"]
    assert limits.TIMEOUTS.get(name) == document.get("timeout", {}).get("default")
    # The controller waits for who ends himself in time.
    here, there = limits.on_controller(name, {}), limits.work(name, {})
    turn = 0 if name in limits.LOCKLESS else limits.LOCK_TURN
    assert here >= there + limits.MARGIN + turn
    waits = document.get("lock_timeout", {}).get("default", limits.LOCK_TIMEOUT)
    assert waits == limits.LOCK_TIMEOUT
    fragments = yaml.safe_load(fence.ModuleDocFragment.DOCUMENTATION)["options"]
    assert waits == fragments["lock_timeout"]["default"]


def test_what_a_module_is_told_to_wait_for_counts() -> None:
    assert limits.work("node_state", {"wait_for_api": 60}) == 120
    assert limits.work("kubeadm", {"timeout": 1000}) == 1300
    assert limits.work("join_credentials", {"nodes": ["a", "b"]}) == 420, "a minute for each"
    assert limits.on_controller("node_object", {"lock_timeout": 5}) == 335


def test_who_only_looks_is_not_waited_for_for_long() -> None:
    """However long it would wait for the lock: 600 s."""
    assert limits.on_controller("node_state", {}) <= 120
    assert limits.on_controller("system_image_info", {}) <= 180


def tasks_on_nodes() -> list[tuple[str, dict[str, Any]]]:
    files = [*CHECKOUT.glob("roles/*/tasks/*.yml"), *CHECKOUT.glob("playbooks/tasks/*.yml")]
    found: list[tuple[str, dict[str, Any]]] = []
    for file in files:
        # Providers work on this machine.
        if not file.parts[-3].startswith("provider_"):
            found += [(file.name, task) for task in yaml.safe_load(file.read_text())]
    for file in sorted(set(CHECKOUT.glob("playbooks/*.yml")) - {CHECKOUT / "playbooks/awx.yml"}):
        for play in yaml.safe_load(file.read_text()):
            if play.get("connection") != "local":
                found += [(file.name, task) for task in play.get("tasks", ())]
    return found


def test_no_task_on_nodes_is_without_a_limit() -> None:
    inner = tasks_on_nodes()
    seen = 0
    while inner:
        file, task = inner.pop()
        inner += [(file, one) for key in ("block", "always", "rescue") for one in task.get(key, ())]
        actions = [key for key in task if "." in key]
        if not actions or task.get("delegate_to") == "localhost":
            continue
        (action,) = actions
        name = action.rpartition(".")[2]
        ours = action.startswith("kubewright.cluster.")
        limited = name in MODULES if ours else name in HERE
        local = ours and (CHECKOUT / f"plugins/action/{name}.py").exists()
        assert limited or local or "timeout" in task, f"{file}: {task['name']}"
        seen += 1
    assert seen > 40


def act(
    result: dict[str, Any] | Callable[[dict[str, Any]], dict[str, Any]] | None = None,
    limit: float = 60,
    display: mock.Mock | None = None,
    **arguments: Any,
) -> dict[str, Any]:
    """The action of a module on a node that answers with *result*, or not at all."""
    task = SimpleNamespace(
        args=arguments, async_val=0, action="x.y.kubeadm", resolved_action=None, _uuid="1"
    )
    action = kubeadm.ActionModule.__new__(kubeadm.ActionModule)
    action._task = task
    action._display = display or mock.Mock()

    def execute(*, module_args: dict[str, Any], **_call: Any) -> dict[str, Any]:
        if result is None:
            subprocess.run(["sleep", "600"], check=False)
        if callable(result):
            return result(module_args)
        return result or {}

    with (
        mock.patch.object(action, "_execute_module", execute, create=True),
        mock.patch.object(kubeadm.ActionModule, "seconds", lambda *_: limit),
        mock.patch("ansible.plugins.action.ActionBase.run", return_value={}),
    ):
        answer: dict[str, Any] = action.run(task_vars={"inventory_hostname": "web-1"})
        return answer


def test_a_machine_that_does_not_answer_is_one_that_cannot_be_reached() -> None:
    began = time.monotonic()
    with pytest.raises(AnsibleConnectionFailure, match=r"did not answer within 0\.2 s"):
        act(limit=0.2)
    assert time.monotonic() - began < 30, "what asked it was ended"
    assert signal.getsignal(signal.SIGALRM) == signal.SIG_DFL
    with pytest.raises(AnsibleConnectionFailure, match="it hangs at /srv"):
        act({"failed": True, "hung": True, "msg": limits.hung(120, "/srv")})
    assert act({"changed": True}) == {"changed": True}


@pytest.mark.parametrize(("role", "together"), [("control_plane", False), ("worker", True)])
def test_control_planes_join_one_at_a_time(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, role: str, together: bool
) -> None:
    monkeypatch.setattr("ansible.constants.DEFAULT_LOCAL_TMP", str(tmp_path))
    fork = multiprocessing.get_context("fork")
    both = fork.Barrier(2)

    def join(_arguments: dict[str, Any]) -> dict[str, Any]:
        try:
            both.wait(30 if together else 1)
        except threading.BrokenBarrierError:
            return {"together": False}
        return {"together": True}

    def host() -> None:
        assert act(join, state="joined", role=role) == {"together": together}

    hosts = [fork.Process(target=host) for _ in range(2)]
    for one in hosts:
        one.start()
    for one in hosts:
        one.join(60)
        assert one.exitcode == 0


def test_what_a_module_foresees_is_told_as_the_actions_own() -> None:
    """Ansible says why a module failed that broke, which may be anything; see the command."""
    full = {"failed": True, "changed": False, "msg": "/a: No space left on device."}
    broken = {**full, "exception": "Traceback"}
    assert act(dict(broken)) == broken
    assert act({**broken, "foreseen": True}) == full


def test_who_waits_for_the_lock_does_not_hang() -> None:
    """The limit is that of one call, which comes back and is made again."""
    turns: list[float] = []

    def answer(arguments: dict[str, Any]) -> dict[str, Any]:
        turns.append(arguments["lock_timeout"])
        time.sleep(0.3)
        if len(turns) < 4:
            return {"failed": True, "busy": "process 41", "msg": "held by process 41"}
        return {"changed": True}

    assert act(answer, limit=0.8) == {"changed": True}
    assert turns == [limits.LOCK_TURN] * 4


def test_whom_it_waits_for_is_told_once() -> None:
    """It was silent for as long as a kubeadm of a run that was killed had the node."""
    holders = ["process 41 (kubeadm)", "process 41 (kubeadm)", "process 52 (python3)"]

    def answer(arguments: dict[str, Any]) -> dict[str, Any]:
        if holders:
            return {"failed": True, "busy": holders.pop(0), "msg": "held"}
        return {"changed": True}

    display = mock.Mock()
    act(answer, display=display)
    assert [call.args[0] for call in display.display.call_args_list] == [
        "kubewright: web-1: waits until process 41 (kubeadm) of another run exits",
        "kubewright: web-1: waits until process 52 (python3) of another run exits",
    ]


def test_nobody_waits_for_the_lock_for_longer_than_he_was_told() -> None:
    turns: list[float] = []

    def answer(arguments: dict[str, Any]) -> dict[str, Any]:
        turns.append(arguments["lock_timeout"])
        clock.now += arguments["lock_timeout"]
        return {"failed": True, "busy": "process 41", "msg": "held by process 41"}

    clock = SimpleNamespace(now=100.0)
    with mock.patch.object(_on_node.time, "monotonic", lambda: clock.now):
        assert act(answer, lock_timeout=40) == {"failed": True, "msg": "held by process 41"}
        assert turns == [15, 15, 10]
        turns.clear()
        assert act(answer, lock_timeout=0)["failed"] and turns == [0]


def test_a_limit_of_the_task_itself_is_ansibles() -> None:
    previous = signal.signal(signal.SIGALRM, lambda *_: None)
    try:
        assert act({"changed": False}, limit=0.001) == {"changed": False}
    finally:
        signal.signal(signal.SIGALRM, previous)


def test_it_is_told_with_what_to_do() -> None:
    why = refusals.explain(f"Task failed: {limits.hung(120, '/srv/a')}")
    assert why is not None and why.check == "ssh"
    assert why.text == "It did not answer within 120 s: it hangs at /srv/a."
    assert "dmesg" in why.remedy
