# SPDX-License-Identifier: Apache-2.0
"""What is asked before and after a restart: etcd, the claim, and whether the node is back."""

from __future__ import annotations

import fcntl
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from ansible_collections.kubewright.cluster.plugins.module_utils._base.errors import KubewrightError
from ansible_collections.kubewright.cluster.plugins.module_utils._cluster import claims
from ansible_collections.kubewright.cluster.plugins.module_utils._fence import fencing
from ansible_collections.kubewright.cluster.plugins.module_utils._kube import (
    apiserver,
    etcd,
    kubelet,
    memberships,
)
from ansible_collections.kubewright.cluster.plugins.module_utils._machine import facts
from ansible_collections.kubewright.cluster.plugins.modules import etcd_info, node_up

RunModule = Callable[..., dict[str, Any]]
HEALTHY = "https://192.0.2.1:2379"
LISTED = {
    "members": [
        {
            "ID": 1,
            "name": "cp-1",
            "peerURLs": ["https://192.0.2.1:2380"],
            "clientURLs": [HEALTHY],
        },
        {"ID": 2, "peerURLs": ["https://[2001:db8::2]:2380"], "isLearner": True},
    ]
}


def etcdctl(argv: list[str]) -> tuple[int, str, str]:
    """One of two is healthy: the status says that not all are."""
    if "list" in argv:
        return 0, json.dumps(LISTED), ""
    answers = [{"endpoint": HEALTHY, "health": True}, {"endpoint": "https://192.0.2.9:2379"}]
    return 1, json.dumps(answers), "unhealthy cluster"


def test_members_are_told_with_their_addresses_and_health(fake_runner: Any) -> None:
    assert etcd_info.run(fake_runner(etcdctl)) == [
        {"name": "cp-1", "addresses": ["192.0.2.1"], "voter": True, "healthy": True},
        {
            "name": "https://[2001:db8::2]:2380",
            "addresses": ["2001:db8::2"],
            "voter": False,
            "healthy": False,
        },
    ]


def test_an_etcd_without_a_quorum_is_an_error_in_its_own_words(fake_runner: Any) -> None:
    silent = fake_runner(lambda _argv: (1, "", "context deadline exceeded"))
    with pytest.raises(KubewrightError, match="context deadline exceeded"):
        etcd_info.run(silent)


@pytest.mark.parametrize(("voters", "needed"), [(1, 1), (2, 2), (3, 2), (4, 3), (5, 3)])
def test_a_majority(voters: int, needed: int) -> None:
    assert etcd.majority(voters) == needed


def test_a_boot_is_told_from_the_next_also_where_the_kernel_is_another_ones(tmp_path: Path) -> None:
    (tmp_path / "proc/sys/kernel/random").mkdir(parents=True)
    (tmp_path / "proc/1").mkdir()
    known = tmp_path / "proc/sys/kernel/random/boot_id"
    stat = tmp_path / "proc/1/stat"
    seen = set()
    for kernel, started in (("a", 7), ("a", 8), ("b", 8)):
        known.write_text(f"{kernel}\n")
        # The name may have spaces and parentheses.
        stat.write_text(f"1 (a) b) S {' '.join(map(str, range(4, 22)))} {started} 23\n")
        seen.add(facts.boot(tmp_path))
    assert seen == {"a 7", "a 8", "b 8"}


@pytest.fixture
def claimed(node: Path) -> Path:
    """A node that a run has written to."""
    (node / "var").mkdir(parents=True)
    (node / "var/epoch").write_text("4 before\n")
    return node / "var/epoch"


def test_a_node_is_claimed_for_the_run(claimed: Path, run_module: RunModule) -> None:
    done = run_module("node_claim", epoch=5, run="now")
    assert claimed.read_text() == "5 now\n"
    assert done["boot"] == facts.boot() and done["changed"] is False
    assert done["diff"] == {"before": "epoch 4 (run before)\n", "after": "epoch 5 (run now)\n"}


def test_one_that_others_are_changing_is_claimed_by_a_later_call(
    claimed: Path, run_module: RunModule
) -> None:
    path = fencing.LOCK_DIRECTORY / "node.lock"
    path.parent.mkdir(parents=True)
    with path.open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        done = run_module("node_claim", epoch=5, run="now", lock_timeout=0)
    assert done["failed"] and done["busy"]
    assert claimed.read_text() == "4 before\n"


@pytest.mark.parametrize("check", [True, False])
def test_one_that_was_overtaken_claims_nothing(
    check: bool, claimed: Path, run_module: RunModule
) -> None:
    done = run_module("node_claim", check=check, epoch=4, run="other")
    assert done["failed"] and "Another run owns this node" in done["msg"]
    assert claimed.read_text() == "4 before\n"


def test_in_check_mode_nothing_is_recorded(claimed: Path, run_module: RunModule) -> None:
    assert "boot" in run_module("node_claim", check=True, epoch=5, run="now")
    assert claimed.read_text() == "4 before\n"


def test_a_machine_that_is_no_node_stays_as_it_is(node: Path, run_module: RunModule) -> None:
    done = run_module("node_claim", epoch=5, run="now")
    assert done["diff"] == {"before": "", "after": ""}
    assert not claims.EPOCH_PATH.parent.exists() and not fencing.LOCK_DIRECTORY.exists()


PARAMS: dict[str, Any] = {
    "boot": "a 7",
    "node": "cp-1",
    "address": "192.0.2.1",
    "api_servers": ["192.0.2.1"],
    "api_name": "api.demo.internal",
    "timeout": 0,
}


@pytest.fixture
def back(monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """A control plane that is back, of which each part can be changed."""
    parts: dict[str, Any] = {
        "boot": "a 8",
        "membership": memberships.Membership("joined", "join", "control_plane", "id"),
        "api": True,
        "kubelet": "",
        "ready": True,
    }
    monkeypatch.setattr(facts, "boot", lambda: parts["boot"])
    monkeypatch.setattr(apiserver, "wait_for_api", lambda *_: parts["api"])
    monkeypatch.setattr(memberships, "read_membership", lambda: parts["membership"])
    monkeypatch.setattr(kubelet.Watch, "trouble", lambda _watch, was_ready: parts["kubelet"])
    monkeypatch.setattr(kubelet.Watch, "see", lambda _watch: kubelet.Sight(ready=parts["ready"]))
    return parts


def test_one_that_has_all_is_back(back: dict[str, Any], fake_runner: Any) -> None:
    node_up.run(PARAMS, fake_runner(etcdctl))


@pytest.mark.parametrize(
    ("part", "value", "said"),
    [
        ("boot", "a 7", "was not restarted: it is still in the same boot"),
        (
            "api",
            False,
            "cp-1 is not back 0 s after its machine came up: its API server is not ready",
        ),
        ("kubelet", "its Node is not Ready: no network", "its Node is not Ready: no network. The"),
        ("ready", None, "no API server can tell whether its Node is Ready"),
    ],
)
def test_what_is_missing_is_said(
    part: str, value: Any, said: str, back: dict[str, Any], fake_runner: Any
) -> None:
    back[part] = value
    with pytest.raises(KubewrightError, match=said):
        node_up.run(PARAMS, fake_runner(etcdctl))


def test_a_member_of_etcd_that_is_not_healthy_or_gone(
    back: dict[str, Any], fake_runner: Any
) -> None:
    other = {**PARAMS, "node": "cp-3", "address": "192.0.2.3"}
    with pytest.raises(KubewrightError, match="etcd has no member for it"):
        node_up.run(other, fake_runner(etcdctl))
    sick = fake_runner(lambda argv: etcdctl(argv) if "list" in argv else (1, "[]", ""))
    with pytest.raises(KubewrightError, match="its etcd member is not healthy"):
        node_up.run(PARAMS, sick)
    silent = fake_runner(lambda _argv: (1, "", "connection refused"))
    with pytest.raises(KubewrightError, match="connection refused"):
        node_up.run(PARAMS, silent)


def test_a_worker_has_no_etcd_and_a_machine_that_is_no_node_only_boots(
    back: dict[str, Any], fake_runner: Any
) -> None:
    nobody = fake_runner(lambda _argv: (1, "", "not here"))
    back["membership"] = memberships.Membership("joined", "join", "worker", "id")
    node_up.run(PARAMS, nobody)
    back |= {"membership": memberships.Membership("none"), "kubelet": "it does not run"}
    node_up.run(PARAMS, nobody)
    assert nobody.calls == []
