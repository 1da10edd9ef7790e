# SPDX-License-Identifier: Apache-2.0
"""Foreign changes on nodes are seen, told, predicted and mended; nothing else is touched."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import drifting
import drifts
import fingerprints
import kube as api
from cluster import Cluster, Ended
from drifts import Drift
from fingerprints import Fingerprint
from kube import Kube
from waiting import until

#: Modules that note that a run took place; they are not part of what a node is.
BOOKKEEPING = frozenset({"kubewright.cluster.run_epoch"})


@dataclass(frozen=True)
class Seen:
    """What is on all nodes, and what the API says of them."""

    nodes: dict[str, Fingerprint]
    objects: dict[str, tuple[dict[str, str], list[str]]]


def look(cluster: Cluster, kube: Kube) -> Seen:
    """Look at everything that a mend must leave as it is."""
    return Seen(fingerprints.look_at(cluster.nodes), fingerprints.node_objects(kube))


def test_foreign_configuration_is_mended_as_predicted(
    cluster: Cluster, kube: Kube, measured: Callable[[str, object], None]
) -> None:
    batch = drifts.CONFIGURATION
    before = look(cluster, kube)
    with drifting.made(cluster, batch):
        drifted = fingerprints.look_at(cluster.nodes)
        told = cluster.plan("--diff").succeeded()
        measured(f"plan of {len(batch)} drifts", told.seconds)
        problems = drifting.misnamed(cluster, batch, told.document)
        assert not problems, drifting.told(problems, told.document)
        diff_shows_files_and_no_secret(cluster, told)

        predicted = changes(cluster.play_site("--check"))
        looked = fingerprints.look_at(cluster.nodes)
        problems = [
            f"{node}: {problem}"
            for node in cluster.nodes
            for problem in fingerprints.differences(drifted[node], looked[node])
        ]
        assert not problems, "plan and --check changed:" + drifting.told(problems)

        ended = cluster.play_site()
        done = changes(ended)
        measured(f"ansible-playbook that mends {len(batch)} drifts", ended.seconds)
        problems = [f"predicted, but not done: {change}" for change in sorted(predicted - done)]
        problems += [f"done, but not predicted: {change}" for change in sorted(done - predicted)]
        assert not problems, drifting.told(problems)
        assert {f"{cluster.name}-{drift.node}" for drift in batch if drift.node} <= {
            host for host, _, _ in done
        }
        is_mended(cluster, kube, batch, before)


def test_foreign_services_are_mended_by_apply(
    cluster: Cluster, kube: Kube, measured: Callable[[str, object], None]
) -> None:
    batch = drifts.SERVICES
    before = look(cluster, kube)
    with drifting.made(cluster, batch):
        plan = cluster.plan().succeeded().document
        problems = drifting.misnamed(cluster, batch, plan)
        # The cluster comes back before it is said what was not seen.
        ended = cluster.apply()
        assert not problems, drifting.told(problems, plan)
        answer = ended.succeeded().document
        measured(f"apply that mends {len(batch)} drifts", ended.seconds)
        assert answer["changed"] is True
        assert answer["host_tasks"]["failed"] == answer["host_tasks"]["unreachable"] == 0
        is_mended(cluster, kube, batch, before)


def test_then_nothing_is_left_to_do(cluster: Cluster) -> None:
    answer = cluster.apply().succeeded().document
    assert answer["changed"] is False
    assert answer["host_tasks"] == {
        "ok": len(cluster.nodes),
        "changed": 0,
        "failed": 0,
        "unreachable": 0,
    }
    assert answer["host_task_counts"] == dict.fromkeys(sorted(cluster.nodes), 1)


def diff_shows_files_and_no_secret(cluster: Cluster, told: Ended) -> None:
    """Look at what ``plan --diff`` shows of a file that was edited, and of keys."""
    node = next(node for node in told.document["nodes"] if node["name"] == cluster.workers[0])
    shown = [diff for diff in node["diff"] if drifts.CONFIG in diff["before_header"]]
    assert len(shown) == 1, node["diff"]
    assert "# foreign" in shown[0]["before"] and "# foreign" not in shown[0]["after"], shown
    assert 'default_runtime_name = "runc"' in shown[0]["after"], shown
    everything = told.stdout + told.stderr
    assert f"{drifts.PKI}/ca.key" in everything
    assert "PRIVATE KEY" not in everything
    for name in ("ca.key", "etcd/ca.key"):
        lines = (cluster.state / "identity/pki" / name).read_text().splitlines()
        secret = [line for line in lines if len(line) >= 32 and "-----" not in line]
        assert secret
        assert not [line for line in secret if line in everything], f"text of {name} is shown"


def changes(ended: Ended) -> set[tuple[str, str, str]]:
    """Return host, module and task of all that a run of ansible-playbook changed, or would."""
    found = set()
    document: dict[str, Any] = json.loads(ended.succeeded().stdout)
    for play in document["plays"]:
        for task in play["tasks"]:
            for host, result in task["hosts"].items():
                if result.get("changed") and result["action"] not in BOOKKEEPING:
                    found.add((host, str(result["action"]), str(task["task"]["name"])))
    assert found, "nothing changed"
    return found


def is_mended(cluster: Cluster, kube: Kube, batch: Sequence[Drift], before: Seen) -> None:
    """Assert that each drift is mended, that all else is as it was, and that nothing is to do."""
    until("Ready", api.all_ready(kube, frozenset(cluster.nodes)), limit=60)
    problems = [f"not mended: {name}" for name in drifting.not_mended(cluster, batch)]
    after = look(cluster, kube)
    for node in cluster.nodes:
        own = [drift for drift in batch if f"{cluster.name}-{drift.node}" == node]
        rewrites = frozenset(path for drift in own for path in drift.rewrites)
        restarts = frozenset(unit for drift in own for unit in drift.restarts)
        containers = frozenset(name for drift in own for name in drift.containers)
        perhaps = frozenset(name for drift in own for name in drift.perhaps)
        problems += [
            f"{node}: {problem}"
            for problem in fingerprints.differences(
                before.nodes[node], after.nodes[node], rewrites, restarts, containers, perhaps
            )
        ]
        if before.objects[node] != after.objects[node]:
            problems.append(f"{node}: is {after.objects[node]}, was {before.objects[node]}")
    plan = cluster.plan().succeeded().document
    problems += [f"plan afterwards: {problem}" for problem in drifting.misnamed(cluster, (), plan)]
    assert not problems, drifting.told(problems, plan if plan["changes"] else None)
