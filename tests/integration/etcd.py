# SPDX-License-Identifier: Apache-2.0
"""etcd's members and their health, asked on a control-plane machine."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from typing import Any

from machines import IMAGE_ROOT, CommandFailed, run_on
from waiting import NotYet

_PKI = "/etc/kubernetes/pki/etcd"
_CTL = [
    f"{IMAGE_ROOT}/bin/etcdctl",
    "--endpoints=https://127.0.0.1:2379",
    f"--cacert={_PKI}/ca.crt",
    f"--cert={_PKI}/healthcheck-client.crt",
    f"--key={_PKI}/healthcheck-client.key",
    "--command-timeout=5s",
    "--write-out=json",
]


@dataclass(frozen=True)
class Etcd:
    """One look: members' names, and the cluster ids that the members themselves tell."""

    voters: frozenset[str]
    learners: frozenset[str]
    healthy: frozenset[str]
    leader: str | None
    cluster_ids: frozenset[int]


def look(machine: str) -> Etcd:
    """Ask through the member on ``machine``. Raises CommandFailed when it does not answer."""
    members = _ask(machine, "member", "list")["members"]
    # With --cluster it fails when one endpoint does, and still prints those that answered.
    status = _ask(machine, "endpoint", "status", "--cluster", tolerant=True) or []
    names = {int(member["ID"]): str(member.get("name", "")) for member in members}
    learners = {str(member.get("name", "")) for member in members if member.get("isLearner")}
    answers = {int(entry["Status"]["header"]["member_id"]): entry["Status"] for entry in status}
    sound = {number for number, answer in answers.items() if not answer.get("errors")}
    leaders = {int(answer["leader"]) for answer in answers.values() if answer.get("leader")}
    return Etcd(
        voters=frozenset(names.values()) - learners,
        learners=frozenset(learners),
        healthy=frozenset(names[number] for number in sound if number in names),
        leader=names.get(leaders.pop()) if len(leaders) == 1 else None,
        cluster_ids=frozenset(int(answer["header"]["cluster_id"]) for answer in answers.values()),
    )


def healthy_voters(machine: str, expected: frozenset[str]) -> Etcd:
    """Return the look in which exactly ``expected`` vote and all are healthy, else raise NotYet."""
    try:
        seen = look(machine)
    except CommandFailed as error:
        raise NotYet(str(error)) from error
    if seen.learners or seen.voters != expected or seen.healthy != expected or not seen.leader:
        raise NotYet(str(seen))
    return seen


def strangers(machine: str) -> frozenset[str]:
    """The ids, not of the member on ``machine``, under which others have looked for it."""
    logs = "/var/log/pods/kube-system_etcd-*/etcd/*.log"
    said = run_on(machine, ["sh", "-c", f"grep -h 'ignored streaming request' {logs} || true"])
    return frozenset(re.findall(r'"remote-peer-id-header":"([0-9a-f]+)"', said))


def _ask(machine: str, *command: str, tolerant: bool = False) -> Any:
    words = [*_CTL, *command]
    if tolerant:
        words = ["sh", "-c", '"$@" || true', "sh", *words]
    answer = run_on(machine, words, limit=30)
    return json.loads(answer) if answer.strip() else None
