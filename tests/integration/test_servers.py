# SPDX-License-Identifier: Apache-2.0
"""Hosts of the user's own: the cluster by the command and by plain Ansible; a reset leaves nothing.

The hosts are bare: no package is installed on them, and their network leads nowhere. Each has
something of what real ones have (see ``foreign``).
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from pathlib import Path

import awx_job
import foreign
import host_snapshot
import hosts as own
import kube as api
import pytest
import talking
import workload
from cluster import REPOSITORY
from hosts import Host
from kube import Kube
from servers import PlainAnsible, Servers
from waiting import until

from kubewright.image.paths import cache_dir

NAMES = ("alpha", "beta", "gamma", "delta", "epsilon")
#: The command's exit code of a cluster in which not all is well.
UNHEALTHY = 3


@pytest.fixture(scope="module")
def servers(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Servers]:
    """Five bare hosts, and the user's files for them."""
    directory = tmp_path_factory.mktemp("servers")
    key = own.Key.make(directory)
    try:
        bare = own.make(NAMES, key, cache_dir(), two_cards=foreign.TWO_CARDS)
        made = [foreign.furnish(host, key, directory) for host in bare]
        found = Servers("kwown", directory, made[:3], made[3:], key, user=foreign.USER)
        found.write()
        yield found
    finally:
        own.remove()


@pytest.fixture(scope="module")
def before(servers: Servers) -> dict[str, host_snapshot.Snapshot]:
    """What was on each host before Kubewright."""
    return snapshots(servers.hosts)


def test_a_plan_says_what_would_be_done(
    servers: Servers, before: dict[str, host_snapshot.Snapshot]
) -> None:
    answer = servers.command("plan", "-o", "json").succeeded().document
    assert {node["name"]: node["state"] for node in answer["nodes"]} == dict.fromkeys(NAMES, "new")
    assert differences(servers.hosts, before) == []


def test_the_cluster_is_made_without_a_dead_host_where_the_user_agrees(
    servers: Servers, kubectl: Path, measured: Callable[[str, object], None]
) -> None:
    servers.hosts[-1].power_off()
    made = servers.command("apply", "--yes", "--skip-unreachable", "-o", "json").succeeded()
    measured("own servers: apply of four of five", made.seconds)
    nodes = until("Ready", api.all_ready(client(servers, kubectl), frozenset(NAMES[:4])), limit=10)
    assert set(nodes) == set(NAMES[:4])
    # What costs time is a task on a node: each takes a Python there, and a worker of Ansible here.
    counts = made.document["host_task_counts"]
    acting, *others = sorted((count for name, count in counts.items() if name != NAMES[4]))[::-1]
    assert acting <= 9 and max(others) <= 6, counts


def test_it_joins_when_it_is_there(
    servers: Servers, kubectl: Path, measured: Callable[[str, object], None]
) -> None:
    servers.hosts[-1].power_on()
    joined = servers.command("apply", "--yes", "-o", "json").succeeded()
    measured("own servers: apply of the fifth", joined.seconds)
    until("Ready", api.all_ready(client(servers, kubectl), frozenset(NAMES)), limit=10)
    again = servers.command("apply", "--yes", "-o", "json").succeeded()
    assert again.document["changed"] is False
    assert again.document["host_tasks"]["ok"] == len(NAMES)


def test_pods_on_all_nodes_talk_and_have_dns(
    servers: Servers, kubectl: Path, archive: Path, measured: Callable[[str, object], None]
) -> None:
    kube = client(servers, kubectl)
    talking.prepare(servers.hosts, archive)
    talking.begin(kube)
    until("talking", talking.all_talk(kube, frozenset(NAMES)), limit=30)
    began = time.monotonic()
    servers.command("status").succeeded()
    measured("own servers: status", time.monotonic() - began)


def test_they_do_after_a_reboot(
    servers: Servers, kubectl: Path, measured: Callable[[str, object], None]
) -> None:
    kube = client(servers, kubectl)
    (host,) = (one for one in servers.hosts if one.name == "gamma")
    before = api.now()
    host.power_off()
    host.power_on()
    until("Ready", api.all_ready(kube, frozenset(NAMES), since=before), limit=90)
    until("talking", talking.all_talk(kube, frozenset(NAMES)), limit=60)
    measured("own servers: a node is whole after a power cut", (api.now() - before).seconds)
    servers.command("status").succeeded()


def test_they_do_after_the_firewall_was_restarted(
    servers: Servers, kubectl: Path, measured: Callable[[str, object], None]
) -> None:
    kube = client(servers, kubectl)
    host = servers.hosts[0]
    host.restart_firewall()
    told = servers.command("status")
    assert told.status == UNHEALTHY, told.stdout
    assert f"{host.name}: Services don't work here" in told.stdout, told.stdout
    repaired = servers.command("apply", "--yes", "-o", "json").succeeded()
    measured("own servers: apply after a firewall was restarted", repaired.seconds)
    until("talking", talking.all_talk(kube, frozenset(NAMES)), limit=30)
    servers.command("status").succeeded()


def test_a_reset_leaves_the_hosts_as_they_were(
    servers: Servers,
    before: dict[str, host_snapshot.Snapshot],
    measured: Callable[[str, object], None],
) -> None:
    ended = servers.command("reset", "--yes", "-o", "json").succeeded()
    measured("own servers: reset", ended.seconds)
    assert differences(servers.hosts, before) == []


def test_plain_ansible_makes_the_same(
    servers: Servers,
    plain: PlainAnsible,
    kubectl: Path,
    measured: Callable[[str, object], None],
) -> None:
    made = plain.play(servers, "site").succeeded()
    measured("plain Ansible: site", made.seconds)
    kube = Kube(servers.state / "kubeconfig", kubectl)
    until("Ready", api.all_ready(kube, frozenset(NAMES)), limit=10)
    again = plain.play(servers, "site").succeeded()
    measured("plain Ansible: site with nothing to do", again.seconds)
    recap = again.stdout.split("PLAY RECAP")[1]
    for name in NAMES:
        line = next(line for line in recap.splitlines() if line.startswith(name))
        assert "ok=1 " in line and "changed=0 " in line and "failed=0 " in line, line


def test_a_job_of_awx_finds_nothing_to_do(
    servers: Servers, plain: PlainAnsible, tmp_path: Path
) -> None:
    exported = servers.command("identity", "export", "--force").succeeded().stdout
    environment = {
        "KUBEWRIGHT_STATE_DIR": str(tmp_path / "state"),
        "ANSIBLE_COLLECTIONS_PATH": str(plain.directory),
    }
    for template, check in (("plan.yml", True), ("site.yml", False)):
        job = awx_job.Job(
            project=REPOSITORY / "awx/project",
            playbook=template,
            inventory=awx_job.imported(servers.awx_file, environment),
            private_key=servers.key.private.read_text(),
            files={"kubewright_identity_bundle": exported},
            environment=environment,
            check=check,
        )
        ended = awx_job.run(job, tmp_path / template)
        assert ended.status == 0, ended.output
        states = [ended.result("Compare the node with its desired state", name) for name in NAMES]
        assert [state["drift"] for state in states] == [{}] * len(NAMES)


def test_the_playbook_resets_too(
    servers: Servers, before: dict[str, host_snapshot.Snapshot], plain: PlainAnsible
) -> None:
    target = f"kubewright_target={','.join(NAMES)}"
    refused = plain.play(servers, "reset", "-e", target)
    assert refused.status != 0
    assert f"kubewright_confirm_reset={servers.name}" in refused.stdout
    confirmed = f"kubewright_confirm_reset={servers.name}"
    plain.play(servers, "reset", "-e", target, "-e", confirmed).succeeded()
    assert differences(servers.hosts, before) == []


@pytest.fixture(scope="module")
def archive(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An image for pods."""
    scratch = tmp_path_factory.mktemp("workload")
    path = scratch / "image.tar"
    workload.make_archive(workload.fetch_busybox(cache_dir() / "downloads", scratch), path)
    return path


def snapshots(hosts: list[Host]) -> dict[str, host_snapshot.Snapshot]:
    """What is on each of them."""
    return {host.name: host.snapshot() for host in hosts}


def differences(hosts: list[Host], before: dict[str, host_snapshot.Snapshot]) -> list[str]:
    """What is not as it was, with the host's name."""
    return [
        f"{name}: {line}"
        for name, now in snapshots(hosts).items()
        for line in host_snapshot.diff(before[name], now)
    ]


def client(servers: Servers, kubectl: Path) -> Kube:
    """Clients with what ``kubewright kubeconfig`` prints."""
    path = servers.directory / "kubeconfig"
    path.write_text(servers.command("kubeconfig", limit=60).succeeded().stdout)
    return Kube(path, kubectl)
